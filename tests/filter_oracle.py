"""What filters and orders mean, said once more: over plain documents, in plain Python, as MongoDB defines it.

Written to be read, and of nothing that the server is made of, so that the two cannot be wrong in the same way.
Only valid filters are asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.pcre import Pcre

MISSING = object()


@dataclass(frozen=True, order=True)
class Date:
    milliseconds: int


@dataclass(frozen=True)
class Regex:
    pattern: str
    options: str = ""

    def matches(self, value: Any) -> bool:
        return isinstance(value, str) and "\0" not in value and Pcre(self.pattern, self.options).matches(value)


# Filters


def matches(filter_: dict[str, Any], document: dict[str, Any]) -> bool:
    return all(_holds(name, value, document) for name, value in filter_.items())


def _holds(name: str, value: Any, document: dict[str, Any]) -> bool:
    if name == "$and":
        return all(matches(part, document) for part in value)
    if name == "$or":
        return any(matches(part, document) for part in value)
    if name == "$nor":
        return not any(matches(part, document) for part in value)
    found = list(ends(document, name.split(".")))
    if name in {"latestRevision.series", "latestRevision.labels"}:
        # Here an array of none is not there.
        found = [array or MISSING for array in found]
    return _meets(value, found)


def ends(value: Any, names: list[str]) -> Iterator[Any]:
    """What a path leads to, through documents and the documents of arrays. MISSING where it breaks off."""
    if not names:
        yield value
    elif isinstance(value, dict):
        yield from ends(value[names[0]], names[1:]) if names[0] in value else [MISSING]
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from ends(element, names)
    else:
        yield MISSING


def _meets(condition: Any, found: list[Any], *, single: bool = False) -> bool:
    """`found` is what the path leads to. An array stands for its elements too, unless this is a `single` element."""
    if not is_operators(condition):
        return _equals(value_of(condition), found, single)
    if "$regex" in condition:
        return _equals(Regex(condition["$regex"], condition.get("$options", "")), found, single)
    return all(_operator(name, operand, found, single) for name, operand in condition.items())


def _operator(name: str, operand: Any, found: list[Any], single: bool) -> bool:
    if name in {"$gt", "$gte", "$lt", "$lte"}:
        limit = value_of(operand)
        return any(_compares(name, value, limit) for value in _candidates(found, single))
    if name == "$exists":
        return bool(operand) is any(value is not MISSING for value in found)
    if name == "$elemMatch":
        elements = [element for value in found if isinstance(value, list) for element in value]
        if is_operators(operand) and not operand.keys() & {"$and", "$or", "$nor"}:
            return any(_meets(operand, [element], single=True) for element in elements)
        return any(matches(operand, element) for element in elements)
    if name == "$not":
        return not _meets(operand, found, single=single)
    if name in {"$eq", "$ne"}:
        return _equals(value_of(operand), found, single) is (name == "$eq")
    equal = [_equals(value_of(item), found, single) for item in operand]
    if name == "$all":
        return bool(equal) and all(equal)
    return any(equal) is (name == "$in")


def _candidates(found: list[Any], single: bool) -> Iterator[Any]:
    for value in found:
        yield value
        if isinstance(value, list) and not single:
            yield from value


def _equals(operand: Any, found: list[Any], single: bool) -> bool:
    for value in _candidates(found, single):
        if isinstance(operand, Regex):
            if operand.matches(value):
                return True
        elif same(operand, None if value is MISSING else value):
            return True
    return False


def _compares(name: str, value: Any, limit: Any) -> bool:
    # A string with NUL is beside all others: neither above nor below them.
    if type_of(value) != type_of(limit) or (isinstance(limit, str) and "\0" in limit):
        return False
    above, below = key_of(value) > key_of(limit), key_of(value) < key_of(limit)
    return {
        "$gt": above,
        "$gte": above or same(value, limit),
        "$lt": below,
        "$lte": below or same(value, limit),
    }[name]


# Values


def value_of(json: Any) -> Any:
    """What Extended JSON says."""
    if isinstance(json, dict):
        if "$date" in json:
            return Date(json["$date"])
        if "$regularExpression" in json:
            return Regex(json["$regularExpression"]["pattern"], json["$regularExpression"].get("options", ""))
        if "$regex" in json:
            return Regex(json["$regex"], json.get("$options", ""))
        for name in ("$numberInt", "$numberLong", "$numberDouble"):
            if name in json:
                return float(json[name])
        return {name: value_of(member) for name, member in json.items()}
    return [value_of(item) for item in json] if isinstance(json, list) else json


def is_operators(condition: Any) -> bool:
    extended = {"$date", "$regularExpression", "$numberInt", "$numberLong", "$numberDouble"}
    return isinstance(condition, dict) and any(name.startswith("$") and name not in extended for name in condition)


def type_of(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "document"}
    return names.get(type(value), type(value).__name__)


def same(one: Any, other: Any) -> bool:
    if type_of(one) != type_of(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(member, other[name]) for name, member in one.items())
    return bool(one == other)


def key_of(value: Any) -> Any:
    """By what values of one type are ordered: strings by code point. Nothing is above or below NaN, or a document."""
    if isinstance(value, list | dict):
        return math.nan
    return [ord(character) for character in value] if isinstance(value, str) else value


# Orders

_TYPES = ["MISSING", "number", "string", "document", "array", "boolean", "Date"]


def in_order(documents: Iterable[dict[str, Any]], sort: dict[str, int], unique: str) -> list[dict[str, Any]]:
    """Sorted by each key in turn, then by `unique` in the direction of the last."""
    keys = sort if unique in sort else {**sort, unique: list(sort.values())[-1]}

    def compare(one: dict[str, Any], other: dict[str, Any]) -> int:
        for name, direction in keys.items():
            first, second = (_extreme(document, name, direction) for document in (one, other))
            if first != second:
                return direction if first > second else -direction
        return 0

    return sorted(documents, key=functools.cmp_to_key(compare))


def _extreme(document: dict[str, Any], name: str, direction: int) -> tuple[int, Any]:
    """The lowest or highest of the values; the missing, and an array of nothing, are below all."""
    candidates = [
        element
        for value in ends(document, name.split("."))
        for element in (value or [MISSING] if isinstance(value, list) else [value])
    ]
    ranks = [
        (0, 0) if value is None or value is MISSING else (_TYPES.index(type_of(value)), key_of(value))
        for value in candidates
    ]
    return (min if direction > 0 else max)(ranks, default=(0, 0))
