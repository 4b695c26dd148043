"""What the files of an export look like, a module for each format."""
