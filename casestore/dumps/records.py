"""What a dump's file holds. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Of a record's text. A document of the original database has at most 16 MB as BSON.
MAX_RECORD = 2**27


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in its file, Extended JSON and all. `line` is where it begins, from 1."""

    line: int
    value: dict[Any, Any]
    size: int = 0


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Where a file holds something that is no record, and why."""

    line: int
    reason: str
