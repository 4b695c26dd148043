"""MongoDB's Extended JSON, versions 1 and 2, relaxed and canonical, as plain JSON. Plain Python.

Also what YAML makes of dates. What comes out can be stored: no NUL, no number that is not finite, of bounded depth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from casestore.search.values import iso_milliseconds

MAX_DEPTH = 100
# Of one record, aliases of YAML written out.
MAX_VALUES = 5_000_000
# The dates that JavaScript, and so the original server, can hold.
MAX_MILLISECONDS = 8_640_000_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000
# The calendar repeats every 400 years.
_CYCLE = 146_097
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)


class Malformed(ValueError):
    """What is wrong with a value, and where; never the value itself, which may be a patient's."""

    def __init__(self, sentence: str, path: str = "") -> None:
        super().__init__(f"{path}: {sentence}" if path else sentence)
        self.sentence, self.path = sentence, path

    def inside(self, step: str) -> Malformed:
        """The same, seen from one level further out."""
        dot = "." if self.path and not self.path.startswith("[") else ""
        return Malformed(self.sentence, f"{step}{dot}{self.path}"[:200])


def plain(value: Any) -> Any:
    """The value as JSON: object ids as hexadecimal strings, dates as ISO 8601 in UTC with milliseconds.

    Documents with other members that begin with `$` stay as they are: JSON Schemas have some. Raises Malformed.
    """
    return _Reader().plain(value, 0)


def iso(milliseconds: int) -> str:
    """`2022-01-01T12:00:00.000Z`; years beyond 9999 have a sign and six digits, as in ECMAScript."""
    if abs(milliseconds) > MAX_MILLISECONDS:
        raise Malformed("A date is out of range.")
    days, rest = divmod(milliseconds, _DAY)
    cycles, within = divmod(days, _CYCLE)
    moment = _EPOCH + timedelta(days=within, milliseconds=rest)
    year = moment.year + 400 * cycles
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+07d}"
    return f"{shown}-{moment:%m-%dT%H:%M:%S}.{rest % 1000:03d}Z"


class _Reader:
    def __init__(self) -> None:
        self.values = 0

    def plain(self, value: Any, depth: int) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise Malformed("The record holds too many values.")
        if depth > MAX_DEPTH:
            raise Malformed(f"The record is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, dict):
            return self._document(value, depth)
        if isinstance(value, list):
            return self._array(value, depth)
        return _scalar(value)

    def _document(self, value: dict[Any, Any], depth: int) -> Any:
        if len(value) == 1:
            ((name, inner),) = value.items()
            if isinstance(name, str) and (decode := _DECODERS.get(name)):
                return decode(inner)
        found = {}
        for key, member in value.items():
            name = _key(key)
            try:
                found[name] = self.plain(member, depth + 1)
            except Malformed as error:
                raise error.inside(name) from None
        return found

    def _array(self, value: list[Any], depth: int) -> list[Any]:
        found = []
        for index, item in enumerate(value):
            try:
                found.append(self.plain(item, depth + 1))
            except Malformed as error:
                raise error.inside(f"[{index}]") from None
        return found


def _text(value: str) -> str:
    if "\0" in value:
        raise Malformed("A string holds a NUL character.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Malformed("Half of a surrogate pair is not text.") from None
    return value


def _key(key: Any) -> str:
    """YAML's keys may be numbers."""
    if isinstance(key, int | float) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str):
        raise Malformed("The name of a member is not a string.")
    return _text(key)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else _finite(value)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        return iso((aware - _EPOCH) // timedelta(milliseconds=1))
    if isinstance(value, date):
        return iso((value - _EPOCH.date()).days * _DAY)
    raise Malformed(f"A value of the type {type(value).__name__} has no place here.")


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Malformed("A number is not finite, or too large.")
    return number


def _whole(limit: int) -> Callable[[Any], int]:
    def decode(value: Any) -> int:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not _INTEGER.fullmatch(text) or not -limit <= int(text) < limit:
            raise Malformed("A whole number in Extended JSON is not one.")
        return int(text)

    return decode


def _double(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value)
    if value in {"NaN", "Infinity", "-Infinity"}:
        raise Malformed("A number is not finite, or too large.")
    if not isinstance(value, str) or len(value) > 400 or not _NUMBER.fullmatch(value):
        raise Malformed("A number in Extended JSON is not one.")
    return _finite(float(value))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Malformed("An id in Extended JSON is not a string.")
    return _text(value)


_long = _whole(2**63)


def _date(value: Any) -> str:
    """Of an ISO 8601 string, of milliseconds, or of either in Extended JSON."""
    if isinstance(value, dict) and set(value) == {"$numberLong"}:
        return iso(_long(value["$numberLong"]))
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return iso(int(value))
    if isinstance(value, str) and (milliseconds := iso_milliseconds(value)) is not None:
        return iso(milliseconds)
    if isinstance(value, datetime | date):
        return str(_scalar(value))
    raise Malformed("A $date is no ISO 8601 date and no number of milliseconds.")


def _nothing(value: Any) -> None:
    return None


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$date": _date,
    "$numberInt": _whole(2**31),
    "$numberLong": _long,
    "$numberDouble": _double,
    "$numberDecimal": _double,
    "$oid": _string,
    "$uuid": _string,
    "$symbol": _string,
    "$undefined": _nothing,
}
