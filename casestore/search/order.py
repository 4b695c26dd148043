"""Orders: `{"createdAt": -1, "tags": 1}` into terms of ORDER BY. The missing is lowest; the last term is unique."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import DecimalField, Expression, F, Field, FloatField, IntegerField, OrderBy, Subquery, TextField

from casestore.search.description import MAX_SORT_KEYS
from casestore.search.keys import Key, KeyTable, Kind
from casestore.search.sql import Sql, json_path
from casestore.search.translate import Patients, SqlOverColumns
from casestore.search.values import SearchError, shown

Sort = Sequence[tuple[str, int]]


def parse_sort(document: Any, table: KeyTable) -> Sort:
    """Keys and directions, checked. Raises SearchError."""
    if not isinstance(document, dict) or len(document) > MAX_SORT_KEYS:
        raise SearchError(f"sort must be an object of at most {MAX_SORT_KEYS} keys.")
    for name, direction in document.items():
        if table.find(name) is None and table.find_in_relation(name) is None:
            raise table.unknown(name, "sort")
        if isinstance(direction, bool) or not isinstance(direction, int | float) or direction not in {1, -1}:
            raise SearchError(f"sort.{shown(name)} must be 1 or -1.")
    return [(name, int(direction)) for name, direction in document.items()]


def order_terms(sort: Sort, table: KeyTable, patients: Patients, unique: str) -> list[OrderBy]:
    """ORDER BY for a checked sort. It ends in the column `unique`, in the direction of what stands before it."""
    terms = [term for name, direction in sort for term in _of_name(name, direction, table, patients)]
    return [*terms, _directed(F(unique), sort[-1][1], nullable=False)]


def _of_name(name: str, direction: int, table: KeyTable, patients: Patients) -> list[OrderBy]:
    key = table.find(name)
    if key is not None:
        return _of_key(key, direction, patients)
    found = table.find_in_relation(name)
    assert found is not None
    relation, key = found
    # Of several rows, the lowest or the highest counts.
    inner = _of_key(key, direction, patients)
    rows = table.relations[relation].rows().order_by(*inner)
    values = (Subquery(rows.values_list(term.expression)[:1]) for term in inner)
    return [_directed(value, direction, nullable=True) for value in values]


def _directed(value: Expression | F | Subquery, direction: int, *, nullable: bool) -> OrderBy:
    if not nullable:
        return OrderBy(value, descending=direction < 0)
    # The opposite of PostgreSQL's default.
    options: dict[str, Any] = {"nulls_first": True} if direction > 0 else {"nulls_last": True}
    return OrderBy(value, descending=direction < 0, **options)


def _of_key(key: Key, direction: int, patients: Patients) -> list[OrderBy]:
    terms = []
    for sql, field in _parts(key, direction):
        if key.patient and not patients.everywhere:
            sql = Sql("NULL") if patients.column is None else _shown_only(sql, patients)
        value = SqlOverColumns(sql, field, key.column, patients.column_of(sql))
        terms.append(_directed(value, direction, nullable=key.nullable))
    return terms


def _shown_only(sql: Sql, patients: Patients) -> Sql:
    shown_where = patients.shown()
    return Sql(f"CASE WHEN {shown_where.text} THEN {sql.text} END", (*shown_where.params, *sql.params))


def _parts(key: Key, direction: int) -> list[tuple[Sql, Field[Any, Any]]]:
    extreme = "min" if direction > 0 else "max"
    if key.kind is Kind.STRING:
        return [(Sql('{c} COLLATE "C"'), TextField())]
    if key.kind is Kind.STRINGS:
        # The whole array counts, whatever a filter matched; an empty one is below all.
        return [(Sql(f'(SELECT {extreme}(e.value COLLATE "C") FROM unnest({{c}}) AS e(value))'), TextField())]
    if key.kind is Kind.JSON:
        return _json_parts(key, direction)
    return [(Sql("{c}"), FloatField() if key.kind is Kind.NUMBER else Field())]


# MongoDB's order of types.
_RANK = "array_position(ARRAY['number', 'string', 'object', 'array', 'boolean'], jsonb_typeof(e.value))"
_NUMBER = "CASE WHEN jsonb_typeof(e.value) = 'number' THEN (e.value #>> '{}')::numeric END"
_TEXT = "CASE WHEN jsonb_typeof(e.value) <> 'number' THEN e.value #>> '{}' END COLLATE \"C\""


def _json_parts(key: Key, direction: int) -> list[tuple[Sql, Field[Any, Any]]]:
    """Type, number and text of the lowest or highest value at the path."""
    path = f"{json_path(key.path)}[*]"
    way = "ASC NULLS FIRST" if direction > 0 else "DESC NULLS LAST"
    source = "FROM jsonb_path_query({c}, %s::jsonpath, '{}', true) AS e(value)"
    order = f"ORDER BY {_RANK} {way}, {_NUMBER} {way}, {_TEXT} {way} LIMIT 1"

    def part(value: str) -> Sql:
        return Sql(f"(SELECT {value} {source} {order})", (path,))

    return [
        (part(_RANK), IntegerField()),
        (part(_NUMBER), DecimalField(max_digits=1000, decimal_places=500)),
        (part(_TEXT), TextField()),
    ]
