"""Users, groups and their privileges, access tokens."""
