"""Pages: a bare array in the body, totals and navigation in headers (RFC 8288)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from casestore.errors import BadRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 200
# Beyond it OFFSET no longer fits a bigint; no result is that long.
MAX_PAGE = 10**12
# Of the `Link` header: clients read no longer lines of a header than 64 kB, and each link repeats the filter.
MAX_LINKS = 60_000


@dataclass(frozen=True, slots=True)
class Page:
    """`limit` items, the `number`-th page of them, counted from 1."""

    limit: int
    number: int

    @classmethod
    def of(cls, request: Request) -> Page:
        return cls.of_parameters(request.query_params)

    @classmethod
    def of_parameters(cls, parameters: Mapping[str, Any]) -> Page:
        """From `limit` and `page`; BadRequest for anything that is not a whole number in range."""
        return cls(
            limit=_whole_number(parameters, "limit", DEFAULT_LIMIT, MAX_LIMIT),
            number=_whole_number(parameters, "page", 1, MAX_PAGE),
        )

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.limit

    def slice(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows[self.offset : self.offset + self.limit]


def _whole_number(parameters: Mapping[str, Any], name: str, default: int, maximum: int) -> int:
    """Of text in an address, or of a number in a JSON body."""
    raw = parameters.get(name)
    if raw is None or raw == "":
        return default
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    # isdecimal alone accepts other scripts' digits, and int() accepts "+5", " 5" and "5_0".
    if isinstance(raw, str) and raw.isascii() and raw.isdecimal() and len(raw) <= 18:
        raw = int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 1 <= raw <= maximum:
        raise BadRequest(f"{name} must be a whole number from 1 to {maximum}.")
    return raw


def page_response(request: Request, items: Any, page: Page, total: int) -> Response:
    """The items with `X-Total-Count` and `Link`; in the envelope of the original server where that is asked for."""
    envelope = {"items": items, "totalItems": total, "page": page.number}
    return with_navigation(Response(envelope if wants_envelope(request) else items), request, page, total)


def with_navigation(response: Response, request: Request, page: Page, total: int) -> Response:
    """The response with `X-Total-Count` and `Link`; of links that are too long together, those to the neighbours."""
    response["X-Total-Count"] = str(total)
    last = max(1, -(-total // page.limit))
    targets = {"first": 1, "prev": page.number - 1, "next": page.number + 1, "last": last}
    links = {
        relation: link(request, relation, {"page": str(number)})
        for relation, number in targets.items()
        if 1 <= number <= last
    }
    for least in ("last", "first", "prev", "next"):
        if links and len(header := ", ".join(links.values())) <= MAX_LINKS:
            response["Link"] = header
            break
        links.pop(least, None)
    return response


def wants_envelope(request: Request) -> bool:
    """`?envelope=1`; without it, what the setting says. BadRequest for another value."""
    raw = request.query_params.get("envelope", "")
    if raw not in {"", "0", "1"}:
        raise BadRequest("envelope must be 0 or 1.")
    return raw == "1" if raw else settings.CASESTORE_ENVELOPE


def link(request: Request, relation: str, changes: Mapping[str, str]) -> str:
    """A link to this address with other parameters (RFC 8288)."""
    parameters = request.query_params.copy()
    for name, value in changes.items():
        parameters[name] = value
    return f'<{request.build_absolute_uri(request.path)}?{urlencode(list(_pairs(parameters)))}>; rel="{relation}"'


def _pairs(parameters: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, values in parameters.lists() for value in values]
