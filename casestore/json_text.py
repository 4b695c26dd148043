"""JSON as text, by orjson: documents that the database keeps rendered (`orjson.Fragment`) pass through unparsed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from casestore import clock


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return clock.iso(value)
    return str(value)


def dump(value: Any, *, indent: bool = False) -> bytes:
    options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    try:
        data = orjson.dumps(value, default=_default, option=options)
    except TypeError:
        data = orjson.dumps(_with_doubles(value), default=_default, option=options)
    # A fragment is copied as it is, so an indented text needs a second pass.
    return orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2) if indent else data


def _with_doubles(value: Any) -> Any:
    """Integers beyond 64 bits as doubles: the database gives 1e20 back as an integer, which orjson refuses."""
    if isinstance(value, dict):
        return {name: _with_doubles(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value
