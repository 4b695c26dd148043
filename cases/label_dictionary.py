"""A project's dictionary of label names and values, for exports in which a structure has one value in every case.

Plain Python, no Django.
"""

from __future__ import annotations

from typing import Any

MAX_NAMES = 10_000
LONGEST_NAME = 255
MAX_VALUE = 2**16 - 1


def problem_of(dictionary: Any) -> str | None:
    """A sentence that says why this is no such dictionary; None where it is one. Several names may share a value."""
    if not isinstance(dictionary, dict):
        return "This must be an object of label names and their values."
    if len(dictionary) > MAX_NAMES:
        return f"There are {len(dictionary)} names; there can be {MAX_NAMES}."
    for name, value in dictionary.items():
        if not 0 < len(name) <= LONGEST_NAME:
            return f"A name has {len(name)} characters; it can have 1 to {LONGEST_NAME}."
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_VALUE:
            return f"The value of {name} must be a whole number from 1 to {MAX_VALUE}."
    return None
