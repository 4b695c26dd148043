"""Byte ranges of requests (RFC 9110, 14). Plain Python, no Django."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"[ \t]*bytes[ \t]*=[ \t,]*(\d*)-(\d*)[ \t,]*\Z", re.IGNORECASE | re.ASCII)
# More digits than any file has bytes.
_LONGEST = 18


class Unsatisfiable(Exception):
    """The range asks for nothing that the file has."""


def requested_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last that a `Range` header asks of a file of `size` bytes.

    None for the whole file: where the header is malformed, in another unit, or lists several ranges, which a server
    may ignore. Raises Unsatisfiable.
    """
    found = _ONE_RANGE.match(header)
    if found is None or not any(found.groups()) or max(map(len, found.groups())) > _LONGEST:
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(last)), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, min(int(last) + 1, size) if last else size
