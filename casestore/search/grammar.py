"""Filters: JSON into a syntax tree. Plain Python.

    filter    = {} | { entry, … }                      all entries hold
    entry     = "$and" | "$or" | "$nor": [filter, …]   at least one filter
              | key: value | key: {operator, …}
    operator  = $eq $ne $gt $gte $lt $lte: value | $in $nin $all: [value, …] | $regex, $options
              | $exists: boolean | $not: {operator, …} or a regex | $elemMatch: …

What is not in this grammar, or a key that is not in the table, is an error: never ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casestore.search.keys import Key, KeyTable, Kind
from casestore.search.regex import RegexRefused, Translated, translate
from casestore.search.values import MAX_DEPTH, Date, Operand, Regex, SearchError, Whole, is_operand, operand, shown

# What one filter may hold, so that Django's compiler and PostgreSQL's parser and planner stay quick: filters and
# conditions, of which those on related rows count for much; values; characters of regular expressions.
LIMITS = {"conditions": 2000, "values": 20_000, "regular expressions": 10_000}
_RELATED_COST = 50


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of these; of an array, an element or the whole is. None is: missing or null."""

    values: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """`sign` is one of > >= < <=; values of another type than the operand's do not compare."""

    sign: str
    value: str | float | bool | Date


@dataclass(frozen=True, slots=True)
class Matches:
    regex: Translated


@dataclass(frozen=True, slots=True)
class Present:
    """There is a value: in JSON columns it may be null."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the array meets all of `part`, whose conditions are on the key itself."""

    part: Node


Test = OneOf | Compare | Matches | Present | Element


@dataclass(frozen=True, slots=True)
class Condition:
    key: Key
    test: Test


@dataclass(frozen=True, slots=True)
class Related:
    """One related row of `relation` meets all of `part`."""

    relation: str
    part: Node


Node = And | Or | Not | Condition | Related

EVERYTHING = And(())
SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def parse(document: Any, keys: KeyTable) -> Node:
    """The tree of a filter. Raises SearchError."""
    return _Parser(keys, Counter()).filter(document, "filter", 0)


class _Parser:
    def __init__(self, keys: KeyTable, spent: Counter[str]) -> None:
        self.keys, self.spent = keys, spent

    def filter(self, document: Any, where: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise SearchError(f"The filter is nested more than {MAX_DEPTH} levels deep.")
        if not isinstance(document, dict):
            raise SearchError(f"{where} must be an object.")
        self._spend("conditions")
        return _all(*(self._entry(name, value, where, depth) for name, value in document.items()))

    def _entry(self, name: str, value: Any, where: str, depth: int) -> Node:
        if name in {"$and", "$or", "$nor"}:
            if not isinstance(value, list) or not value:
                raise SearchError(f"{where}: {name} takes an array of at least one filter.")
            parts = tuple(self.filter(part, f"{where}.{name}[{i}]", depth + 1) for i, part in enumerate(value))
            if name == "$and":
                return _all(*parts)
            return Not(Or(parts)) if name == "$nor" else Or(parts)
        place = f"{where}.{shown(name)}"
        if name in self.keys.relations:
            return self._relation(name, value, place, depth)
        if (key := self.keys.find(name)) is not None:
            return self._tests(key, value, place, depth, lambda test: self._condition(key, test))
        if (found := self.keys.find_in_relation(name)) is not None:
            relation, related = found
            return self._tests(
                related, value, place, depth, lambda test: self._related(relation, self._condition(related, test))
            )
        raise self.keys.unknown(name, where)

    def _relation(self, name: str, value: Any, where: str, depth: int) -> Node:
        """`{"$elemMatch": filter}`, perhaps under `$not`; or `{"$exists": boolean}`."""
        if not isinstance(value, dict) or len(value) != 1:
            raise SearchError(f"{where} takes {{$elemMatch: filter}} or {{$exists: true or false}}.")
        ((operator, inner),) = value.items()
        if operator == "$not":
            return Not(self._relation(name, inner, f"{where}.$not", depth + 1))
        if operator == "$elemMatch":
            table = self.keys.relations[name].table
            return self._related(name, _Parser(table, self.spent).filter(inner, f"{where}.$elemMatch", depth + 1))
        if operator == "$exists":
            some = self._related(name, EVERYTHING)
            return some if _boolean(inner, where) else Not(some)
        raise SearchError(f"{where} takes {{$elemMatch: filter}} or {{$exists: true or false}}.")

    def _tests(self, key: Key, value: Any, where: str, depth: int, atom: Any) -> Node:
        if depth > MAX_DEPTH:
            raise SearchError(f"The filter is nested more than {MAX_DEPTH} levels deep.")
        if is_operand(value) or not value or not any(name.startswith("$") for name in value):
            return atom(self._equality(value, where))  # type: ignore[no-any-return]
        if "$regex" in value or "$options" in value:
            return atom(self._regex(value, where))  # type: ignore[no-any-return]
        return _all(
            *(self._operator(key, name, inner, f"{where}.{shown(name)}", depth, atom) for name, inner in value.items())
        )

    def _equality(self, value: Any, where: str) -> Test:
        found = self._count(operand(value, where))
        if isinstance(found, Regex):
            return _matches(found, where)
        if found is None or (isinstance(found, Whole) and found.value != {}):
            raise SearchError(f"{where}: null, arrays and documents are not values that can be compared with.")
        return OneOf((found,))

    def _regex(self, value: dict[str, Any], where: str) -> Matches:
        if "$regex" not in value or set(value) - {"$regex", "$options"}:
            raise SearchError(f"{where}: $regex goes with $options and with no other operator.")
        found = self._count(operand(value, where))
        assert isinstance(found, Regex)
        return _matches(found, where)

    def _operator(self, key: Key, name: str, value: Any, where: str, depth: int, atom: Any) -> Node:
        if name in {"$eq", "$ne"}:
            if name == "$ne" and isinstance(value, dict) and value and not is_operand(value):
                raise SearchError(f"{where} takes a value.")
            test = self._equality(value, where)
            if isinstance(test, Matches):
                raise SearchError(f"{where} does not take a regular expression; use it as the value, or $not.")
            return Not(atom(test)) if name == "$ne" else atom(test)
        if name in SIGNS:
            return atom(Compare(SIGNS[name], self._comparable(value, where)))  # type: ignore[no-any-return]
        if name in {"$in", "$nin"}:
            found = _any(*map(atom, self._alternatives(value, where)))
            return Not(found) if name == "$nin" else found
        if name == "$all":
            tests = (test for item in _array(value, where) for test in self._alternatives([item], where))
            return _all(*map(atom, tests)) if value else Or(())
        if name == "$exists":
            return atom(Present()) if _boolean(value, where) else Not(atom(Present()))
        if name == "$not":
            is_regex = isinstance(value, dict) and "$regularExpression" in value
            if not isinstance(value, dict) or not value or (is_operand(value) and not is_regex):
                raise SearchError(f"{where} takes operators or a regular expression.")
            return Not(self._tests(key, value, where, depth + 1, atom))
        if name == "$elemMatch" and key.kind in {Kind.STRINGS, Kind.JSON}:
            if not isinstance(value, dict) or not value or not all(part.startswith("$") for part in value):
                raise SearchError(f"{where} takes operators.")
            part = self._tests(key, value, where, depth + 1, lambda test: self._condition(key, test))
            return atom(Element(part))  # type: ignore[no-any-return]
        raise SearchError(f"{where}: there is no such operator for this key.")

    def _comparable(self, value: Any, where: str) -> str | float | bool | Date:
        if not is_operand(value):
            raise SearchError(f"{where} takes a string, number, boolean or date.")
        found = self._count(operand(value, where))
        if found is None or isinstance(found, Regex | Whole):
            raise SearchError(f"{where} takes a string, number, boolean or date.")
        return found

    def _alternatives(self, value: Any, where: str) -> Iterator[Test]:
        """One test for all plain values, and one for each regular expression."""
        values: list[Operand] = []
        for index, item in enumerate(_array(value, where)):
            found = self._count(operand(item, f"{where}[{index}]"))
            if isinstance(found, Regex):
                yield _matches(found, f"{where}[{index}]")
            else:
                values.append(found)
        if values:
            yield OneOf(tuple(values))

    def _condition(self, key: Key, test: Test) -> Condition:
        self._spend("conditions")
        return Condition(key, test)

    def _related(self, relation: str, part: Node) -> Related:
        self._spend("conditions", _RELATED_COST)
        return Related(relation, part)

    def _count(self, found: Operand) -> Operand:
        self._spend("values")
        if isinstance(found, Regex):
            self._spend("regular expressions", len(found.pattern))
        if isinstance(found, Whole):
            self._spend("conditions")
        return found

    def _spend(self, what: str, amount: int = 1) -> None:
        self.spent[what] += amount
        if self.spent[what] > LIMITS[what]:
            raise SearchError(f"The filter is too large: it has too many {what}, or too long ones.")


def _matches(regex: Regex, where: str) -> Matches:
    try:
        return Matches(translate(regex.pattern, regex.options))
    except RegexRefused as error:
        raise SearchError(f"{where}: {error}") from None


def _all(*parts: Node) -> Node:
    return parts[0] if len(parts) == 1 else And(parts)


def _any(*parts: Node) -> Node:
    return parts[0] if len(parts) == 1 else Or(parts)


def _array(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise SearchError(f"{where} takes an array.")
    return value


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool | int | float):
        raise SearchError(f"{where}: $exists takes true or false.")
    return bool(value)
