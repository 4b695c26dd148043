"""Tests on one value as SQL that is true where the test holds, and false or NULL where it does not.

`{c}` stands for the column, `{p}` for the project that says whether a patient is shown. Every comparison is one of
equal types: a test on a value of another type holds for nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from casestore.search.grammar import And, Compare, Condition, Element, Matches, Node, Not, OneOf, Or, Present, Related
from casestore.search.grammar import Test as AnyTest
from casestore.search.keys import Key, Kind
from casestore.search.regex import COLLATION, Translated
from casestore.search.values import Date, Operand, Whole

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
# What is neither true nor false is decided where it arises, so that a negation never meets NULL.
NOTHING, ANYTHING = False, True


@dataclass(frozen=True, slots=True)
class Sql:
    """`text` has a `%s` for each of `params`; a tuple stands for an array."""

    text: str
    params: tuple[Any, ...] = ()


Truth = Sql | bool


def negated(truth: Truth) -> Truth:
    return not truth if isinstance(truth, bool) else Sql(f"(({truth.text}) IS NOT TRUE)", truth.params)


def either(truths: Iterable[Truth]) -> Truth:
    return _joined(truths, " OR ", decisive=True)


def both(truths: Iterable[Truth]) -> Truth:
    return _joined(truths, " AND ", decisive=False)


def _joined(truths: Iterable[Truth], word: str, *, decisive: bool) -> Truth:
    parts: list[Sql] = []
    for truth in truths:
        if isinstance(truth, Sql):
            parts.append(truth)
        elif truth is decisive:
            return decisive
    if len(parts) < 2:
        return parts[0] if parts else not decisive
    return Sql("(" + word.join(part.text for part in parts) + ")", tuple(p for part in parts for p in part.params))


def of_key(key: Key, test: AnyTest) -> Truth:
    """The test on the key's column."""
    if key.kind is Kind.STRINGS:
        return _of_strings(key, test)
    if key.kind is Kind.JSON:
        return _of_json(key, test)
    return _of_value(COLUMNS[key.kind], test)


@dataclass(frozen=True, slots=True)
class Value:
    """How to read a value as each type; None: it never is of that type."""

    whole: str
    string: str | None = None
    number: str | None = None
    boolean: str | None = None
    date: str | None = None
    json: str | None = None
    null: str | None = None

    def typed(self, operand: Operand) -> tuple[str, Any, str] | None:
        """SQL of the value, the parameter and its type; None where the two never compare."""
        if isinstance(operand, bool):
            return None if self.boolean is None else (self.boolean, operand, "boolean")
        if isinstance(operand, str):
            return None if self.string is None or "\0" in operand else (self.string, operand, "text")
        if isinstance(operand, float):
            if self.number is None or math.isnan(operand):
                return None
            # Beside a numeric, 0.1 must be the decimal 0.1, not the double next to it.
            return self.number, operand, "numeric" if self.number.endswith("::numeric END") else "double precision"
        if isinstance(operand, Date):
            return None if self.date is None else (self.date, operand, "timestamptz")
        if isinstance(operand, Whole) and self.json is not None and not _has_nul(operand.value):
            return self.json, json.dumps(operand.value), "jsonb"
        return None


NULL = "{c} IS NULL"
COLUMNS = {
    Kind.STRING: Value("{c}", string="{c}", null=NULL),
    Kind.NUMBER: Value("{c}", number="{c}::double precision", null=NULL),
    Kind.BOOLEAN: Value("{c}", boolean="{c}", null=NULL),
    Kind.DATE: Value("{c}", date="{c}", null=NULL),
}


def _json_value(name: str) -> Value:
    def typed(kind: str, cast: str) -> str:
        return f"CASE WHEN jsonb_typeof({name}) = '{kind}' THEN ({name} #>> '{{}}'){cast} END"

    return Value(
        whole=name,
        string=typed("string", ""),
        number=typed("number", "::numeric"),
        boolean=typed("boolean", "::boolean"),
        json=name,
        null=f"jsonb_typeof({name}) = 'null'",
    )


def _of_value(value: Value, test: AnyTest) -> Truth:
    if isinstance(test, OneOf):
        return either(_one_of(value, test.values))
    if isinstance(test, Compare):
        return _compare(value, test)
    if isinstance(test, Matches):
        return NOTHING if value.string is None else _matches(value.string, test.regex)
    if isinstance(test, Present):
        return Sql(f"{value.whole} IS NOT NULL")
    return NOTHING  # $elemMatch, of what is no array


def _one_of(value: Value, operands: Iterable[Operand]) -> Iterator[Truth]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for operand in operands:
        if operand is None:
            yield NOTHING if value.null is None else Sql(value.null)
        elif (typed := value.typed(operand)) is not None:
            text, parameter, kind = typed
            if isinstance(parameter, Date):
                if not _is_storable(parameter):
                    continue
                parameter = _moment(parameter)
            groups.setdefault((text, kind), []).append(parameter)
    for (text, kind), parameters in groups.items():
        if len(parameters) == 1:
            yield Sql(f"{text} = %s::{kind}", (parameters[0],))
        else:
            yield Sql(f"{text} = ANY(%s::{kind}[])", (tuple(parameters),))


def _compare(value: Value, test: Compare) -> Truth:
    typed = value.typed(test.value)
    if typed is None:
        return NOTHING
    text, parameter, kind = typed
    if isinstance(parameter, Date):
        if not _is_storable(parameter):
            # Before or after all that a column holds.
            holds = (parameter.milliseconds < 0) == (test.sign in {">", ">="})
            return Sql(f"{text} IS NOT NULL") if holds else NOTHING
        parameter = _moment(parameter)
    collation = ' COLLATE "C"' if kind == "text" else ""
    return Sql(f"{text}{collation} {test.sign} %s::{kind}", (parameter,))


def _moment(date: Date) -> datetime:
    return EPOCH + timedelta(milliseconds=date.milliseconds)


def _is_storable(date: Date) -> bool:
    first, last = ((moment - EPOCH) // timedelta(milliseconds=1) for moment in (FIRST, LAST))
    return first <= date.milliseconds <= last


def _matches(text: str, regex: Translated) -> Truth:
    if regex.infix == "":
        return Sql(f"{text} IS NOT NULL")
    if regex.prefix is not None:
        # An index on the column serves a range, and PostgreSQL guesses its size well.
        start = Sql(f'{text} COLLATE "C" >= %s::text', (regex.prefix,))
        end = _behind_all(regex.prefix)
        return start if end is None else both([start, Sql(f'{text} COLLATE "C" < %s::text', (end,))])
    if regex.infix is not None:
        return Sql(f'{text} COLLATE "C" LIKE %s', (f"%{_like(regex.infix)}%",))
    return Sql(f'{text} COLLATE "{COLLATION}" ~ %s', (regex.pattern,))


def _behind_all(prefix: str) -> str | None:
    """The first text behind all that begin so; None if there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[place]) + 1
        if code <= 0x10FFFF:
            return prefix[:place] + chr(0xE000 if code == 0xD800 else code)
    return None


def _like(literal: str) -> str:
    return literal.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _of_strings(key: Key, test: AnyTest) -> Truth:
    """Of an array of strings: a condition holds where it holds for an element, or for the array as a whole."""
    element = Value("e.value", string="e.value")
    if isinstance(test, OneOf):
        return either(_arrays(test.values))
    if isinstance(test, Present):
        return ANYTHING
    part = test.part if isinstance(test, Element) else Condition(key, test)
    return _some("unnest({c})", element, part)


def _arrays(operands: Iterable[Operand]) -> Iterator[Truth]:
    # The operators that the index on the column serves.
    strings = [operand for operand in operands if isinstance(operand, str) and "\0" not in operand]
    if strings:
        yield Sql(f"{{c}} {'@>' if len(strings) == 1 else '&&'} %s::varchar[]", (tuple(strings),))
    for operand in operands:
        if isinstance(operand, Whole) and isinstance(operand.value, list):
            items = operand.value
            if all(isinstance(item, str) and "\0" not in item for item in items):
                yield Sql("{c} = %s::varchar[]", (tuple(items),))


def _of_json(key: Key, test: AnyTest) -> Truth:
    """Of what lies at a path of a JSON column, arrays on the way and at its end looked into."""
    path = json_path(key.path)
    element = _json_value("e.value")
    at_path = Sql("jsonb_path_query({c}, %s::jsonpath, '{}', true)", (path,))
    elements = Sql(at_path.text, (f"{path}[*]",))
    if isinstance(test, Present):
        return Sql(f"EXISTS (SELECT 1 FROM {at_path.text})", at_path.params)
    if isinstance(test, Element):
        arrays = "CASE WHEN jsonb_typeof(found.value) = 'array' THEN found.value ELSE '[]' END"
        source = Sql(f"{at_path.text} AS found(value), jsonb_array_elements({arrays})", at_path.params)
        return _some(source, element, test.part)
    found = [_some(elements, element, Condition(key, test))]
    if isinstance(test, OneOf):
        if None in test.values:
            found += _missing(key.path)
        if wholes := tuple(value for value in test.values if isinstance(value, Whole)):
            found.append(_some(at_path, element, Condition(key, OneOf(wholes))))
    return either(found)


def _missing(path: tuple[str, ...]) -> Iterator[Sql]:
    """Somewhere on the way, the next name is not there: in an object, also one in an array, or in what is no object."""
    yield Sql("({c} ? %s) IS NOT TRUE", (path[0],))
    for count in range(1, len(path)):
        way = json_path(path[:count])
        source = "jsonb_path_query({c}, %s::jsonpath, '{}', true) AS e(value)"
        lacking = "jsonb_typeof(e.value) = 'object' AND NOT e.value ? %s"
        yield Sql(f"EXISTS (SELECT 1 FROM {source} WHERE {lacking})", (f"{way}[*]", path[count]))
        scalar = "jsonb_typeof(e.value) NOT IN ('object', 'array')"
        yield Sql(f"EXISTS (SELECT 1 FROM {source} WHERE {scalar})", (way,))


def json_path(path: tuple[str, ...]) -> str:
    return "lax $" + "".join(f".{json.dumps(name)}" for name in path)


def _some(source: Sql | str, element: Value, part: Node) -> Truth:
    """One element of the source meets all of `part`."""
    met = _of_element(element, part)
    if met is NOTHING:
        return NOTHING
    text, params = (source.text, source.params) if isinstance(source, Sql) else (source, ())
    where, more = (met.text, met.params) if isinstance(met, Sql) else ("TRUE", ())
    return Sql(f"EXISTS (SELECT 1 FROM {text} AS e(value) WHERE {where})", (*params, *more))


def _of_element(element: Value, node: Node) -> Truth:
    if isinstance(node, And):
        return both(_of_element(element, part) for part in node.parts)
    if isinstance(node, Or):
        return either(_of_element(element, part) for part in node.parts)
    if isinstance(node, Not):
        return negated(_of_element(element, node.part))
    assert not isinstance(node, Related)
    return _of_value(element, node.test)


def _has_nul(value: Any) -> bool:
    """PostgreSQL's JSON holds no NUL character, so nothing equals a value with one."""
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(member) for name, member in value.items())
    return any(map(_has_nul, value)) if isinstance(value, list) else isinstance(value, str) and "\0" in value
