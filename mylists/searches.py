"""`/api/cases/list/:myListId` and `/api/series/list/:myListId`: searches among what a list holds."""

from __future__ import annotations

from typing import Any

from django.db.models import F, QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from cases.search import CaseFilterSet, SeriesFilterSet
from cases.serializers.cases import ListedCaseSerializer
from cases.serializers.series import ListedSeriesSerializer
from cases.views.searches import CaseSearch
from cases.views.series import SeriesSearch
from casestore.accounts.authentication import user_of
from casestore.api.openapi import SEARCH_PARAMETERS, TOTAL_HEADERS
from casestore.errors import BadRequest
from casestore.search.keys import Key, Kind
from mylists.models import MyList, ResourceType

ADDED = (Key("addedToListAt", Kind.DATE, "added_to_list_at", nullable=False),)
NEWEST_ADDED = (("addedToListAt", -1),)


class CasesOfListFilterSet(CaseFilterSet):
    more_to_sort_by = ADDED
    default_sort = NEWEST_ADDED


class SeriesOfListFilterSet(SeriesFilterSet):
    more_to_sort_by = ADDED
    default_sort = NEWEST_ADDED


class CaseListSearchView(CaseSearch):
    """The cases of a list that one owns, edits, or that is public; of them those that the user may read."""

    filterset_class = CasesOfListFilterSet

    def get_queryset(self) -> QuerySet[Any]:
        return _items(self, super().get_queryset(), ResourceType.CASES)

    @extend_schema(
        operation_id="cases_list_of_my_list",
        parameters=[*SEARCH_PARAMETERS, *TOTAL_HEADERS],
        responses=ListedCaseSerializer(many=True),
    )
    def get(self, request: Request, list_id: str) -> HttpResponseBase:
        """Without `sort`, what was added last comes first: `addedToListAt` is a key to sort by here."""
        return self.search(request)


class SeriesListSearchView(SeriesSearch):
    """The series of a list that one owns, edits, or that is public; of them those of the user's domains."""

    filterset_class = SeriesOfListFilterSet

    def get_queryset(self) -> QuerySet[Any]:
        return _items(self, super().get_queryset(), ResourceType.SERIES)

    @extend_schema(
        operation_id="series_list_of_my_list",
        parameters=[*SEARCH_PARAMETERS, *TOTAL_HEADERS],
        responses=ListedSeriesSerializer(many=True),
    )
    def get(self, request: Request, list_id: str) -> HttpResponseBase:
        """Without `sort`, what was added last comes first: `addedToListAt` is a key to sort by here."""
        return self.search(request)


def _items(view: Any, rows: QuerySet[Any], kind: ResourceType) -> QuerySet[Any]:
    """The rows that are in the list of the address, each once, with when it was added."""
    my_list = MyList.objects.get_for(user_of(view.request), view.kwargs["list_id"])
    if my_list.resource_type != kind:
        raise BadRequest(f"This my list does not hold {'cases' if kind is ResourceType.CASES else 'series'}.")
    found: QuerySet[Any] = rows.filter(list_items__my_list=my_list).annotate(added_to_list_at=F("list_items__added_at"))
    return found
