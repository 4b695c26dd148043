"""Ids made here: lower-case ULIDs, 26 characters, ascending in time."""

from __future__ import annotations

from datetime import datetime

from ulid import ULID

# Ids that come in by import are any string up to this length.
MAX_LENGTH = 64


def new_id() -> str:
    return str(ULID()).lower()


def made_at(name: str) -> datetime | None:
    """When an id was made; None where it is none of ours."""
    try:
        return ULID.from_str(name.upper()).datetime
    except ValueError:
        return None
