"""Views that search: pages, cursors, streams, sparse results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from casestore.accounts.authentication import user_of
from casestore.api.pagination import MAX_LINKS, Page, link, page_response, wants_envelope
from casestore.api.renderers import BrowsableAPIRenderer, JSONRenderer, NDJSONRenderer
from casestore.json_text import dump
from casestore.search import cursors
from casestore.search.filtersets import SearchBackend
from casestore.search.limits import bounded
from casestore.search.translate import Patients
from casestore.search.values import SearchError, shown

BATCH = 200


class SearchView(GenericAPIView):
    """`get_queryset` is what the user may see; `members` are those that `documents` makes of its rows."""

    permission_classes = (IsAuthenticated,)
    renderer_classes = (JSONRenderer, BrowsableAPIRenderer, NDJSONRenderer)
    filter_backends = (SearchBackend,)
    pagination_class = None
    members: ClassVar[tuple[str, ...]]

    @property
    def patients(self) -> Patients:
        return Patients()

    def documents(self, rows: Sequence[Any]) -> Iterable[dict[str, Any]]:
        raise NotImplementedError

    def with_related(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The rows with what `documents` needs beside them."""
        return rows

    def search_parameters(self, request: Request) -> Mapping[str, Any]:
        return request.query_params

    def search(self, request: Request) -> HttpResponseBase:
        parameters = self.search_parameters(request)
        chosen = self._fields(parameters)
        found = self.filter_queryset(self.get_queryset())
        if isinstance(request.accepted_renderer, NDJSONRenderer):
            return self._stream(found, parameters, chosen)
        if parameters.get("cursor") is not None:
            return self._walk(request, found, parameters, chosen)
        page = Page.of_parameters(parameters)
        with bounded():
            # The ids from the narrow index first, then what belongs to these few.
            rows = self.with_related(found.filter(pk__in=page.slice(found).values("pk"))) if page.offset else None
            rows = page.slice(self.with_related(found)) if rows is None else rows
            items = self._items(list(rows), chosen)
            total = found.count()
        return page_response(request, items, page, total)

    def _walk(
        self, request: Request, found: QuerySet[Any], parameters: Mapping[str, Any], chosen: frozenset[str] | None
    ) -> Response:
        """A page behind a cursor: at the same cost however far it is."""
        if parameters.get("page"):
            raise SearchError("page and cursor do not go together.")
        limit = Page.of_parameters(parameters).limit
        search = repr((user_of(request).pk, request.path, parameters.get("filter"), parameters.get("sort")))
        cursor = parameters["cursor"]
        if not isinstance(cursor, str):
            raise SearchError("cursor must be a string.")
        values = cursors.unseal(cursor, search) if cursor else None
        with bounded():
            rows = self._behind(found, values, limit + 1)
            items = self._items(rows[:limit], chosen)
        response = Response({"items": items} if wants_envelope(request) else items)
        if len(rows) > limit:
            following = cursors.seal(cursors.position(rows[limit - 1], found), search)
            response["Link"] = link(request, "next", {"cursor": following})
            if len(response["Link"]) > MAX_LINKS:
                raise SearchError("The filter is too long to be walked by addresses; use POST /api/cases/search.")
        return response

    def _behind(self, found: QuerySet[Any], values: Sequence[Any] | None, limit: int) -> list[Model]:
        rows = found if values is None else cursors.behind(found, values)
        return list(self.with_related(cursors.with_position(rows))[:limit])

    def _stream(
        self, found: QuerySet[Any], parameters: Mapping[str, Any], chosen: frozenset[str] | None
    ) -> StreamingHttpResponse:
        for name in ("limit", "page", "cursor"):
            if parameters.get(name) is not None:
                raise SearchError(f"{name} does not go with a stream, which holds the whole result.")
        with bounded():
            first = self._behind(found, None, BATCH)

        def lines(rows: list[Model]) -> Iterator[bytes]:
            while rows:
                yield b"".join(dump(item) + b"\n" for item in self._items(rows, chosen))
                if len(rows) < BATCH:
                    return
                with bounded():
                    rows = self._behind(found, cursors.position(rows[-1], found), BATCH)

        return StreamingHttpResponse(lines(first), content_type=NDJSONRenderer.media_type)

    def _items(self, rows: Sequence[Any], chosen: frozenset[str] | None) -> list[dict[str, Any]]:
        documents = self.documents(rows)
        if chosen is None:
            return list(documents)
        return [{name: value for name, value in document.items() if name in chosen} for document in documents]

    def _fields(self, parameters: Mapping[str, Any]) -> frozenset[str] | None:
        raw = parameters.get("fields")
        if raw is None or raw == "":
            return None
        chosen = raw.split(",") if isinstance(raw, str) else raw
        if not isinstance(chosen, list) or not all(isinstance(name, str) for name in chosen):
            raise SearchError("fields must be names with commas between.")
        for name in chosen:
            if name not in self.members:
                raise SearchError(f"fields: {shown(name)} is none of {', '.join(self.members)}.")
        return frozenset(chosen)

    def handle_exception(self, exc: Exception) -> Response:
        # Errors are JSON, also where a stream was asked for.
        if isinstance(getattr(self.request, "accepted_renderer", None), NDJSONRenderer):
            self.request.accepted_renderer, self.request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return super().handle_exception(exc)
