"""What `exports.verify` checks an archive for. No Django, no database."""
