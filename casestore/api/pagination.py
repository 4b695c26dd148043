"""Pages: a bare array in the body, totals and navigation in headers (RFC 8288)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from casestore.errors import BadRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 200
# Beyond it OFFSET no longer fits a bigint; no result is that long.
MAX_PAGE = 10**12


@dataclass(frozen=True, slots=True)
class Page:
    """`limit` items, the `number`-th page of them, counted from 1."""

    limit: int
    number: int

    @classmethod
    def of(cls, request: Request) -> Page:
        """From `limit` and `page`; BadRequest for anything that is not a whole number in range."""
        return cls(
            limit=_whole_number(request, "limit", DEFAULT_LIMIT, MAX_LIMIT),
            number=_whole_number(request, "page", 1, MAX_PAGE),
        )

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.limit

    def slice(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows[self.offset : self.offset + self.limit]


def _whole_number(request: Request, name: str, default: int, maximum: int) -> int:
    raw = request.query_params.get(name)
    if raw is None or raw == "":
        return default
    # isdecimal alone accepts other scripts' digits, and int() accepts "+5", " 5" and "5_0".
    if not (raw.isascii() and raw.isdecimal()) or len(raw) > 18 or not 1 <= int(raw) <= maximum:
        raise BadRequest(f"{name} must be a whole number from 1 to {maximum}.")
    return int(raw)


def page_response(request: Request, items: Any, page: Page, total: int) -> Response:
    """The items with `X-Total-Count` and `Link`."""
    response = Response(items)
    response["X-Total-Count"] = str(total)
    last = max(1, -(-total // page.limit))
    targets = {"first": 1, "prev": page.number - 1, "next": page.number + 1, "last": last}
    links = [
        f'<{_address(request, number)}>; rel="{relation}"'
        for relation, number in targets.items()
        if 1 <= number <= last
    ]
    response["Link"] = ", ".join(links)
    return response


def _address(request: Request, number: int) -> str:
    parameters = request.query_params.copy()
    parameters["page"] = str(number)
    return f"{request.build_absolute_uri(request.path)}?{urlencode(list(_pairs(parameters)))}"


def _pairs(parameters: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, values in parameters.lists() for value in values]
