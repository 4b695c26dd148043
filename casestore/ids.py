"""Ids made here: lower-case ULIDs, 26 characters, ascending in time."""

from __future__ import annotations

from ulid import ULID

# Ids that come in by import are any string up to this length.
MAX_LENGTH = 64


def new_id() -> str:
    return str(ULID()).lower()
