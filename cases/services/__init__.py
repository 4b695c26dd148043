"""What changes data: verb-named, keyword-only, one transaction a call."""
