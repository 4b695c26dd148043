"""The demo installation that `make run` loads."""
