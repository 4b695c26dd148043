"""Walking a long result: the rows behind one that was seen, found by the values that it is ordered by.

A cursor holds these values, patient information perhaps, and so is encrypted; it is good for the same search alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db.models import Model, OrderBy, Q, QuerySet
from django.db.models.lookups import Exact, GreaterThan, GreaterThanOrEqual, IsNull, LessThan, LessThanOrEqual

from casestore.search.values import SearchError

_MARK = "_order_{}"


def with_position(rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows with what each is ordered by, for `position`."""
    marked: QuerySet[Any] = rows.annotate(**{_MARK.format(i): term.expression for i, term in enumerate(_terms(rows))})
    return marked


def position(row: Model, rows: QuerySet[Any]) -> list[Any]:
    return [getattr(row, _MARK.format(i)) for i in range(len(_terms(rows)))]


def behind(rows: QuerySet[Any], values: Sequence[Any]) -> QuerySet[Any]:
    """The rows that come after the one at this position."""
    terms = _terms(rows)
    if len(values) != len(terms):
        raise SearchError("The cursor is of another search.")
    found = Q()
    for last in range(len(terms)):
        equal = [_equal(term, value) for term, value in zip(terms[:last], values, strict=False)]
        if (beyond := _beyond(terms[last], values[last])) is not None:
            found |= Q(*equal, beyond)
    first, value = terms[0], values[0]
    if value is not None and not (first.nulls_last and first.descending):
        # Said again in a form that an index can start from.
        found &= Q((LessThanOrEqual if first.descending else GreaterThanOrEqual)(first.expression, value))
    return rows.filter(found)


def _terms(rows: QuerySet[Any]) -> list[OrderBy]:
    return [term for term in rows.query.order_by if isinstance(term, OrderBy)]


def _equal(term: OrderBy, value: Any) -> Q:
    return Q(IsNull(term.expression, True) if value is None else Exact(term.expression, value))


def _beyond(term: OrderBy, value: Any) -> Q | None:
    """What comes after the value; None where nothing does. The missing is lowest."""
    if value is None:
        return None if term.descending else Q(IsNull(term.expression, False))
    if not term.descending:
        return Q(GreaterThan(term.expression, value))
    lower = Q(LessThan(term.expression, value))
    return lower | Q(IsNull(term.expression, True)) if term.nulls_last else lower


def seal(values: Sequence[Any], search: str) -> str:
    """The cursor for a position in this search."""
    return _fernet().encrypt(json.dumps([_digest(search), list(map(_packed, values))]).encode()).decode().rstrip("=")


def unseal(cursor: str, search: str) -> list[Any]:
    """The position. Raises SearchError for what is no cursor, or one of another search."""
    try:
        digest, values = json.loads(_fernet().decrypt(cursor + "=" * (-len(cursor) % 4)))
    except (InvalidToken, ValueError):
        raise SearchError("This is not a cursor of this server; start with an empty one.") from None
    if digest != _digest(search):
        raise SearchError("The cursor is of another search; start with an empty one.")
    return list(map(_unpacked, values))


def _packed(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"date": value.isoformat()}
    return {"number": str(value)} if isinstance(value, Decimal) else value


def _unpacked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return datetime.fromisoformat(value["date"]) if "date" in value else Decimal(value["number"])


def _digest(search: str) -> str:
    return hashlib.sha256(search.encode(errors="replace")).hexdigest()


def _fernet() -> Fernet:
    key = hashlib.sha256(f"casestore.search.cursors:{settings.SECRET_KEY}".encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
