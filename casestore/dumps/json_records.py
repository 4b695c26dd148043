"""Records out of JSON: one array, or objects one after another, on a line each (mongoexport) or over several.

A record that is not valid JSON costs itself, not those that follow it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from casestore.dumps.records import MAX_RECORD, Record, Unreadable

CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"
_TOO_LARGE = f"The record is larger than {MAX_RECORD} bytes."
_CUT_OFF = "The record has no end."
_NOT_JSON = "This is not valid JSON."
_NO_OBJECT = "This is not an object."

_BETWEEN = re.compile(rb"[\s,\[\]]*")
_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')

Found = Record | Unreadable


def json_records(file: BinaryIO) -> Iterator[Found]:
    if file.read(3) != _BOM:
        file.seek(0)
    start = file.tell()
    while (byte := file.read(1)).isspace():
        pass
    file.seek(start)
    return _of_array(file) if byte == b"[" else _of_lines(file)


def _of_array(file: BinaryIO) -> Iterator[Found]:
    splitter = _Splitter()
    while piece := file.read(CHUNK):
        yield from splitter.feed(piece)
    if splitter.open:
        yield Unreadable(splitter.line, _CUT_OFF)


def _of_lines(file: BinaryIO) -> Iterator[Found]:
    """A record that begins on a line and does not end on it goes on until its brackets close.

    Where they do not, a line that can only be the beginning of the next record ends it.
    """
    splitter: _Splitter | None = None
    indented = False
    number = 0
    while line := file.readline(MAX_RECORD + 1):
        number += 1
        if len(line) > MAX_RECORD:
            yield Unreadable(number, _TOO_LARGE)
            _skip_line(file, line)
            splitter = None
            continue
        if splitter is not None:
            indented = indented or (number == splitter.line + 1 and line[:1] in b" \t")
            if line.startswith(b"{") and (indented or _parse(line)):
                yield Unreadable(splitter.line, _CUT_OFF)
                splitter = None
        if splitter is None:
            value = _parse(line)
            if isinstance(value, dict):
                yield Record(number, value, len(line))
                continue
            if not line.strip():
                continue
            splitter, indented = _Splitter(number), False
        yield from splitter.feed(line)
        if not splitter.open:
            splitter = None
    if splitter is not None:
        yield Unreadable(splitter.line, _CUT_OFF)


def _skip_line(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(CHUNK)


def _parse(text: bytes) -> Any:
    """None for what is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


class _Splitter:
    """Cuts text that comes in pieces into the objects that stand beside each other at its top."""

    def __init__(self, line: int = 1) -> None:
        self.line = line  # where the open object began
        self._lines = line  # of what was passed
        self._depth = 0
        self._in_string = False
        self._skip = False
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def open(self) -> bool:
        return self._depth > 0

    def feed(self, piece: bytes) -> Iterator[Found]:
        position, start, counted = 0, 0, 0
        if self._skip:
            position, self._skip = 1, False
        while position < len(piece):
            if not self._depth:
                begin = _BETWEEN.match(piece, position).end()  # type: ignore[union-attr]  # it matches anything
                self._lines += piece.count(b"\n", counted, begin)
                counted = start = begin
                if begin == len(piece):
                    break
                self.line = self._lines
                position = begin + 1
                if piece[begin : begin + 1] == b"{":
                    self._depth = 1
                    continue
                yield Unreadable(self.line, _NO_OBJECT)
                # Up to where an object may begin, or the next line.
                ends = [place for sign in (b"{", b"\n") if (place := piece.find(sign, begin)) >= 0]
                position = min(ends, default=len(piece))
                continue
            position = self._advance(piece, position)
            if not self._depth:
                yield self._finish(piece[start:position])
        self._lines += piece.count(b"\n", counted)
        if self._depth:
            self._keep(piece[start:])

    def _advance(self, piece: bytes, position: int) -> int:
        """Past the next character that has a meaning here."""
        match = (_IN_STRING if self._in_string else _STRUCTURE).search(piece, position)
        if match is None:
            return len(piece)
        sign, position = match[0], match.end()
        if sign == b'"':
            self._in_string = not self._in_string
        elif sign == b"\\":
            self._skip = position == len(piece)
            position += 1
        else:
            self._depth += 1 if sign in b"{[" else -1
        return position

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= MAX_RECORD:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _finish(self, part: bytes) -> Found:
        self._keep(part)
        text, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        if size > MAX_RECORD:
            return Unreadable(self.line, _TOO_LARGE)
        value = _parse(text)
        return Record(self.line, value, size) if isinstance(value, dict) else Unreadable(self.line, _NOT_JSON)
