"""Entity tags in requests (RFC 9110, 8.8.3 and 13.1)."""

from __future__ import annotations

import re

from casestore.errors import BadRequest

ANY = "*"
# The next member of a list, whose empty members count for nothing (RFC 9110, 5.6.1).
_MEMBER = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|\Z)')
_END = re.compile(r"[ \t,]*\Z")


def entity_tags(header: str, name: str) -> list[str]:
    """The tags of an `If-Match` or `If-None-Match`, with their quotes; ["*"] for any. BadRequest for anything else."""
    if header.strip(" \t") == ANY:
        return [ANY]
    tags, position = [], 0
    while member := _MEMBER.match(header, position):
        tags.append(member[1])
        position = member.end()
    if not tags or not _END.match(header, position):
        raise BadRequest(f'{name} must be * or entity tags with commas between, as in "7".')
    return tags
