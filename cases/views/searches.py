"""Searches among cases: in an address, in a JSON body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.utils.functional import cached_property
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from cases.documents import case_document
from cases.models import Case
from cases.patients import patients_of_cases
from cases.search import CaseFilterSet
from cases.serializers.cases import ListedCaseSerializer
from casestore.accounts.authentication import user_of
from casestore.api.openapi import SEARCH_PARAMETERS, TOTAL_HEADERS
from casestore.search.description import EXAMPLES
from casestore.search.parsers import SearchParser
from casestore.search.translate import Patients
from casestore.search.values import SearchError, shown
from casestore.search.views import SearchView

MEMBERS = (
    "caseId",
    "projectId",
    "latestRevision",
    "patientInfo",
    "tags",
    "domains",
    "createdAt",
    "updatedAt",
)


def fragment(text: str) -> Any:
    """JSON that is written out as it is; None where there is none."""
    return orjson.Fragment(text) if text else None


class CaseSearch(SearchView):
    """What searches among cases have in common."""

    queryset = Case.objects.none()  # names the model; which rows, get_queryset says
    filterset_class = CaseFilterSet
    serializer_class: type[serializers.BaseSerializer[Any]] = ListedCaseSerializer
    members = MEMBERS

    @cached_property
    def patients(self) -> Patients:
        return patients_of_cases(user_of(self.request))

    def get_queryset(self) -> QuerySet[Case]:
        return Case.objects.visible_to(user_of(self.request))

    def with_related(self, rows: QuerySet[Case]) -> QuerySet[Case]:
        return rows.select_related("project", "document")

    def documents(self, rows: Sequence[Case]) -> Iterator[dict[str, Any]]:
        for case in rows:
            revision = {"latestRevision": fragment(case.document.latest_revision)}
            patient = fragment(case.document.patient_info) if self.patients.shows(case.project_id) else None
            yield case_document(case, revision, patient)


BODY_MEMBERS = ("filter", "sort", "limit", "page", "cursor", "fields")


@extend_schema_field({"$ref": "#/components/schemas/Filter"})
class FilterField(serializers.DictField):
    pass


@extend_schema_field({"$ref": "#/components/schemas/Sort"})
class SortField(serializers.DictField):
    pass


class CaseQuerySerializer(serializers.Serializer):
    """A search in a body. What the address says as well goes before."""

    filter = FilterField(required=False)
    sort = SortField(required=False)
    limit = serializers.IntegerField(min_value=1, max_value=200, required=False)
    page = serializers.IntegerField(min_value=1, required=False)
    cursor = serializers.CharField(required=False, allow_blank=True)
    fields_ = serializers.ListField(child=serializers.ChoiceField(choices=MEMBERS), required=False)

    def get_fields(self) -> dict[str, Any]:
        # A declared `fields` would hide the property of that name.
        found = super().get_fields()
        return {name.rstrip("_"): field for name, field in found.items()}


class CaseSearchView(CaseSearch):
    """Filters too long for an address."""

    parser_classes = (SearchParser,)

    def search_parameters(self, request: Request) -> Mapping[str, Any]:
        body = request.data
        if not isinstance(body, dict):
            raise SearchError("The body must be an object.")
        for name in body:
            if name not in BODY_MEMBERS:
                raise SearchError(f"{shown(name)} is none of {', '.join(BODY_MEMBERS)}.")
        # Links to other pages lead back here with an address of their own.
        return body | {name: value for name, value in request.query_params.items() if name in BODY_MEMBERS}

    @extend_schema(
        operation_id="cases_search",
        parameters=[*SEARCH_PARAMETERS, *TOTAL_HEADERS],
        request=CaseQuerySerializer,
        responses=ListedCaseSerializer(many=True),
        filters=False,
        examples=[
            OpenApiExample(name, {"filter": filter_, "sort": {"createdAt": -1}, "limit": 50}, request_only=True)
            for name, filter_ in EXAMPLES.items()
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Searches as GET /api/cases does; the parameters are members of the body."""
        return self.search(request)
