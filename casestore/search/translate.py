"""The syntax tree into Django's conditions. Negations are pushed down to the tests, whose answers have no NULL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, Exists, F, Field, Func, Q

from casestore.search.grammar import And, Condition, Node, Not, OneOf, Or, Related
from casestore.search.keys import KeyTable
from casestore.search.sql import Sql, Truth, both, either, negated, of_key

_PLACES = re.compile(r"(\{c\}|\{p\}|%s)")


@dataclass(frozen=True, slots=True)
class Patients:
    """Whose patient information the user sees: `everywhere`, or of the rows whose `column` is in `values`."""

    everywhere: bool = False
    column: str | None = None
    values: frozenset[int] = frozenset()

    def shows(self, value: int) -> bool:
        return self.everywhere or value in self.values

    def column_of(self, sql: Sql) -> str | None:
        return self.column if "{p}" in sql.text else None

    def shown(self) -> Sql:
        return Sql("{p} = ANY(%s::bigint[])", (tuple(sorted(self.values)),))

    def masked(self, test: Any, truth: Truth) -> Truth:
        """The truth for a row whose patient is hidden is that of a missing value."""
        if self.everywhere:
            return truth
        for_missing = isinstance(test, OneOf) and None in test.values
        if self.column is None:
            return for_missing
        return either([truth, negated(self.shown())]) if for_missing else both([truth, self.shown()])


class SqlOverColumns(Func):
    """SQL that names a column as `{c}`, and perhaps the project's as `{p}`, any number of times."""

    def __init__(self, sql: Sql, output_field: Field[Any, Any], column: str, project: str | None = None) -> None:
        self.sql = sql
        super().__init__(F(column), *([F(project)] if project else []), output_field=output_field)

    def as_sql(self, compiler: Any, connection: Any, **options: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        columns = dict(zip(("{c}", "{p}"), map(compiler.compile, self.get_source_expressions()), strict=False))
        given = iter(self.sql.params)
        text: list[str] = []
        params: list[Any] = []
        for piece in _PLACES.split(self.sql.text):
            if piece == "%s":
                parameter = next(given)
                params.append(list(parameter) if isinstance(parameter, tuple) else parameter)
            elif piece in columns:
                params.extend(columns[piece][1])
                piece = columns[piece][0]
            text.append(piece)
        return "".join(text), params


def condition(node: Node, table: KeyTable, patients: Patients) -> Q | bool:
    """What a row must meet; True and False where that does not depend on the row."""
    return _Translator(table, patients).translate(node, positive=True)


@dataclass(frozen=True, slots=True)
class _Translator:
    table: KeyTable
    patients: Patients

    def translate(self, node: Node, *, positive: bool) -> Q | bool:
        if isinstance(node, Not):
            return self.translate(node.part, positive=not positive)
        if isinstance(node, And | Or):
            parts = (self.translate(part, positive=positive) for part in node.parts)
            return _joined(parts, Q.AND if isinstance(node, And) is positive else Q.OR)
        if isinstance(node, Related):
            return self._related(node, positive=positive)
        return self._test(node, positive=positive)

    def _test(self, node: Condition, *, positive: bool) -> Q | bool:
        key = node.key
        truth = of_key(key, node.test)
        if key.patient:
            truth = self.patients.masked(node.test, truth)
        if not positive:
            truth = negated(truth)
        if isinstance(truth, bool):
            return truth
        return Q(SqlOverColumns(truth, BooleanField(), key.column, self.patients.column_of(truth)))

    def _related(self, node: Related, *, positive: bool) -> Q | bool:
        relation = self.table.relations[node.relation]
        met = condition(node.part, relation.table, self.patients)
        if met is False:
            return not positive
        rows = relation.rows()
        found = Q(Exists(rows if met is True else rows.filter(met)))
        return found if positive else ~found


def _joined(parts: Iterable[Q | bool], connector: str) -> Q | bool:
    decisive = connector == Q.OR
    kept: list[Q] = []
    for part in parts:
        if isinstance(part, Q):
            kept.append(part)
        elif part is decisive:
            return decisive
    if not kept:
        return not decisive
    return kept[0] if len(kept) == 1 else Q(*kept, _connector=connector)
