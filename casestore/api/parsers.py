"""JSON in: strict (RFC 8259, UTF-8), bounded in size and depth, and only strings that a database can hold."""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import orjson
from django.conf import settings
from rest_framework.parsers import BaseParser

from casestore.errors import BadRequest, TooLarge

MAX_DEPTH = 100


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_json(read_bounded(stream, settings.DATA_UPLOAD_MAX_MEMORY_SIZE))


def read_bounded(stream: BinaryIO, limit: int) -> bytes:
    """The whole stream; TooLarge as soon as it is longer than `limit` bytes."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    return data


def parse_json(data: bytes) -> Any:
    """The value of a JSON text; BadRequest for what is not JSON or cannot be stored."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error.msg} at line {error.lineno}.") from None
    check_storable(value)
    return value


def check_storable(value: Any) -> None:
    """Refuses NUL characters, numbers beyond a double and nesting beyond MAX_DEPTH, wherever they stand."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(item, str):
            if "\0" in item:
                raise BadRequest("The body holds a NUL character in a string.")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise BadRequest("The body holds a number that is too large.")
        elif isinstance(item, dict):
            for key, member in item.items():
                pending.append((key, depth + 1))
                pending.append((member, depth + 1))
        elif isinstance(item, list):
            pending.extend((member, depth + 1) for member in item)
