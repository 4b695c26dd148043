"""JSON and Extended JSON operands. Plain Python.

Strict JSON (RFC 8259), with MongoDB's Extended JSON v2 for dates, numbers and regular expressions at every level.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NoReturn

from casestore.errors import BadRequest

MAX_DEPTH = 100
MAX_TEXT = 2**19
# Members of an array or a document that is compared with as a whole.
MAX_MEMBERS = 1000
INT64 = 2**63

_DATE = re.compile(
    r"([+-]\d{6}|\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?\s*(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_DAY = 86_400_000
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class SearchError(BadRequest):
    """A sentence that says what is wrong, and where: never with a value, which may be a patient's."""

    code = "invalid_search"


@dataclass(frozen=True, slots=True)
class Date:
    """Milliseconds since 1970, of any year."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class Regex:
    pattern: str
    options: str


@dataclass(frozen=True, slots=True)
class Whole:
    """An array or a document as one value. `value` is JSON."""

    value: Any


# None is null. Numbers are doubles, as in the published server.
Operand = str | float | bool | Date | Regex | Whole | None


def shown(name: str) -> str:
    """A key in an error message: short, and on one line."""
    return repr(name[:60])[1:-1]


def parse_json(text: str, what: str) -> Any:
    """Strict JSON; of duplicate keys the last wins. Raises SearchError."""
    if len(text) > MAX_TEXT:
        raise SearchError(f"{what} is longer than {MAX_TEXT} characters.")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_integer)
    except ValueError:
        raise SearchError(f"{what} is not valid JSON.") from None
    except RecursionError:
        raise SearchError(f"{what} is nested too deeply.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _integer(text: str) -> int | float:
    # Beyond 64 bits a number is a double; int() of a million digits would take seconds.
    return int(text) if len(text) < 20 else float(text)


def operand(value: Any, where: str) -> Operand:
    """The operand that JSON says. A plain array or document is `Whole`; callers decide where one may stand."""
    if isinstance(value, str):
        return _text(value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list) or not any(key.startswith("$") for key in value):
        return _whole(value, where)
    keys = set(value)
    if keys == {"$date"}:
        return Date(_milliseconds(value["$date"], where))
    if keys <= {"$regex", "$options"} and "$regex" in keys:
        return _regex(value["$regex"], value.get("$options", ""), where)
    if keys == {"$regularExpression"}:
        inner = value["$regularExpression"]
        if not isinstance(inner, dict) or set(inner) - {"pattern", "options"} or "pattern" not in inner:
            raise SearchError(f"{where}: $regularExpression takes {{pattern, options}}.")
        return _regex(inner["pattern"], inner.get("options", ""), where)
    ((name, inner), *_) = value.items()
    if len(keys) == 1 and (number := _number(name, inner, where)) is not None:
        return number
    raise SearchError(f"{where}: {min(keys)[:40]} is not a value that can be compared with.")


def _whole(value: Any, where: str) -> Whole:
    """An array or a document, so small that PostgreSQL and recursion can handle it."""
    pending = [(value, 0)]
    members = 0
    while pending:
        item, depth = pending.pop()
        members += 1
        if depth > MAX_DEPTH or members > MAX_MEMBERS:
            raise SearchError(f"{where} holds an array or a document that is too large or too deep.")
        if isinstance(item, str):
            _text(item, where)
        elif isinstance(item, dict):
            pending += ((member, depth + 1) for pair in item.items() for member in pair)
        elif isinstance(item, list):
            pending += ((member, depth + 1) for member in item[:MAX_MEMBERS])
    return Whole(value)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SearchError(f"{where}: half of a surrogate pair is not text.") from None
    return value


def is_operand(value: Any) -> bool:
    """Whether a document is a value in Extended JSON, not an object of operators."""
    names = {"$date", "$regularExpression", "$numberInt", "$numberLong", "$numberDouble"}
    return not isinstance(value, dict) or (len(value) == 1 and next(iter(value)) in names)


def _number(name: str, value: Any, where: str) -> float | None:
    if name not in {"$numberInt", "$numberLong", "$numberDouble"}:
        return None
    if not isinstance(value, str):
        raise SearchError(f"{where}: {name} takes a string.")
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if name == "$numberDouble" and value in special:
        return special[value]
    pattern = _NUMBER if name == "$numberDouble" else _INTEGER
    limit = 2**31 if name == "$numberInt" else INT64
    if not pattern.fullmatch(value) or (name != "$numberDouble" and not -limit <= int(value) < limit):
        raise SearchError(f"{where}: {name} does not hold such a number.")
    return float(value)


def _regex(pattern: Any, options: Any, where: str) -> Regex:
    if not isinstance(pattern, str) or not isinstance(options, str):
        raise SearchError(f"{where}: a regular expression and its options are strings.")
    if set(options) - set("imsxu"):
        raise SearchError(f"{where}: options of a regular expression are i, m, s, x and u.")
    return Regex(pattern, options)


def _milliseconds(value: Any, where: str) -> int:
    """Of an ISO 8601 string (UTC unless it says otherwise), of milliseconds, or of {"$numberLong"}."""
    if isinstance(value, dict) and set(value) == {"$numberLong"}:
        number = _number("$numberLong", value["$numberLong"], where)
        assert number is not None
        return int(value["$numberLong"])
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return int(value)
    if isinstance(value, str) and (milliseconds := iso_milliseconds(value)) is not None:
        return milliseconds
    raise SearchError(f"{where}: $date takes an ISO 8601 date or milliseconds.")


def iso_milliseconds(text: str) -> int | None:
    """Milliseconds since 1970; further digits of a second are cut. Years beyond Python's are allowed."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    hour, minute, second = (int(part or 0) for part in match.group(4, 5, 6))
    if hour == 24 and minute == second == 0:
        hour, day_more = 0, 1
    else:
        day_more = 0
    # The calendar repeats every 400 years, which are 146,097 days.
    cycles, within = divmod(year - 2000, 400)
    try:
        moment = datetime(2000 + within, month, day, hour, minute, second, tzinfo=_zone(match[8]))
    except ValueError:
        return None
    thousandths = int((match[7] or "")[:3].ljust(3, "0"))
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    days = elapsed.days + cycles * 146_097 + day_more
    return days * _DAY + elapsed.seconds * 1000 + thousandths


def _zone(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)
