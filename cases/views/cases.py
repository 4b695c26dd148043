"""`/api/cases` and what is below it."""

from __future__ import annotations

from typing import Any

import orjson
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.documents import case_document, stored_revision_document
from cases.models import Case
from cases.patients import projects_with_patient_info
from cases.serializers.cases import (
    CaseIdSerializer,
    CaseSerializer,
    CreateCaseSerializer,
    CreateRevisionSerializer,
    ListedCaseSerializer,
)
from cases.services import cases as services
from casestore.accounts.authentication import user_of
from casestore.api.openapi import PAGE_PARAMETERS, TOTAL_HEADERS
from casestore.api.pagination import Page, page_response


def fragment(text: str) -> Any:
    """JSON that is written out as it is; None where there is none."""
    return orjson.Fragment(text) if text else None


class CaseListView(APIView):
    """The cases of all projects that the user may read, newest first."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_list",
        parameters=[*PAGE_PARAMETERS, *TOTAL_HEADERS],
        responses=ListedCaseSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        page = Page.of(request)
        cases = Case.objects.visible_to(user_of(request))
        rows = page.slice(cases.select_related("project", "document").order_by("-created_at", "-case_id"))
        shown = projects_with_patient_info(user_of(request))
        items = [
            case_document(
                case,
                {"latestRevision": fragment(case.document.latest_revision)},
                fragment(case.document.patient_info) if case.project_id in shown else None,
            )
            for case in rows
        ]
        return page_response(request, items, page, cases.count())

    @extend_schema(operation_id="cases_create", request=CreateCaseSerializer, responses={201: CaseIdSerializer})
    def post(self, request: Request) -> Response:
        """Creates a case with its first revision. Needs `write` in the project."""
        body = CreateCaseSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        values = body.validated_data
        case = services.create_case(
            user=user_of(request), project_id=values["projectId"], series=values["series"], tags=values["tags"]
        )
        return Response({"caseId": case.case_id}, status=201)


class CaseView(APIView):
    """A case with all its revisions, the oldest first. Needs `read` in its project."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="cases_get", responses=CaseSerializer)
    def get(self, request: Request, case_id: str) -> Response:
        visible = Case.objects.get_for(user_of(request), case_id)
        case = (
            Case.objects.visible_to(user_of(request))
            .select_related("project", "document")
            .prefetch_related("revisions__series_set__series", "revisions__series_set__labels")
            .get(pk=visible.pk)
        )
        revisions = [stored_revision_document(revision) for revision in case.revisions.all()]
        seen = case.project_id in projects_with_patient_info(user_of(request))
        patient_info = fragment(case.document.patient_info) if seen else None
        return Response(case_document(case, {"revisions": revisions}, patient_info))


class RevisionListView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="cases_append_revision", request=CreateRevisionSerializer, responses={201: None})
    def post(self, request: Request, case_id: str) -> Response:
        """Appends a revision. Needs `write` in the case's project; author and date are the server's."""
        # Whether the case may be written at all is told before anything about the body.
        Case.objects.get_for(user_of(request), case_id, "write")
        body = CreateRevisionSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        services.append_revision(user=user_of(request), case_id=case_id, **body.validated_data)
        return Response(status=201)
