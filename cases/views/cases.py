"""`/api/cases` and what is below it."""

from __future__ import annotations

from typing import Any

from django.http.response import HttpResponseBase, HttpResponseNotModified
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
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
from cases.services.bin import delete_case
from cases.views.etags import etag, etag_for, expected_versions, is_known
from cases.views.searches import CaseSearch, fragment
from casestore.accounts.authentication import user_of
from casestore.accounts.idempotency import idempotent
from casestore.api.openapi import (
    ETAG,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    LOCATION,
    SEARCH_PARAMETERS,
    TOTAL_HEADERS,
    refusals,
)
from casestore.api.parameters import flag

FORCE = OpenApiParameter("force", str, enum=["0", "1"], description="1: the case leaves every user's my lists.")


class CaseListView(CaseSearch):
    """The cases of all projects that the user may read; without `sort`, newest first."""

    def get_serializer_class(self) -> Any:
        return CreateCaseSerializer if self.request.method == "POST" else ListedCaseSerializer

    @extend_schema(
        operation_id="cases_list",
        parameters=[*SEARCH_PARAMETERS, *TOTAL_HEADERS],
        responses=ListedCaseSerializer(many=True),
    )
    def get(self, request: Request) -> HttpResponseBase:
        return self.search(request)

    @extend_schema(
        operation_id="cases_create",
        parameters=[IDEMPOTENCY_KEY, ETAG, LOCATION],
        request=CreateCaseSerializer,
        responses={201: CaseIdSerializer, **refusals(422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Creates a case with its first revision. Needs `write` in the project."""
        user = user_of(request)
        body = CreateCaseSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        values = body.validated_data
        case = services.create_case(
            user=user, project_id=values["projectId"], series=values["series"], tags=values["tags"]
        )
        location = reverse("case", args=[case.case_id], request=request)
        headers = {"ETag": etag_for(user, case), "Location": location}
        return Response({"caseId": case.case_id}, status=201, headers=headers)


class CaseView(APIView):
    """A case with all its revisions, the oldest first. Needs `read` in its project."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_get", parameters=[IF_NONE_MATCH, ETAG], responses={200: CaseSerializer, 304: None}
    )
    def get(self, request: Request, case_id: str) -> HttpResponseBase:
        user = user_of(request)
        case = Case.objects.get_for(user, case_id, related=("project", "document"))
        seen = case.project_id in projects_with_patient_info(user)
        headers = {"ETag": etag(case, with_patient=seen)}
        if is_known(request, headers["ETag"]):
            return HttpResponseNotModified(headers=headers)
        rows = case.revisions.prefetch_related("series_set__series", "series_set__labels")
        # Not one that was appended after the case's row, and with it the ETag, was read.
        revisions = [stored_revision_document(revision) for revision in rows.filter(index__lt=case.revision_count)]
        patient_info = fragment(case.document.patient_info) if seen else None
        return Response(case_document(case, {"revisions": revisions}, patient_info), headers=headers)

    @extend_schema(
        operation_id="cases_delete",
        parameters=[FORCE, IF_MATCH],
        responses={204: None, **refusals(403, 412)},
    )
    def delete(self, request: Request, case_id: str) -> Response:
        """Moves the case to the bin, whoever made it. Needs `moderate` in its project.

        403 while it is in somebody's my list, unless `force` is 1: then it leaves all lists.
        """
        force = flag(request, "force")
        delete_case(user=user_of(request), case_id=case_id, force=force, expected=expected_versions(request))
        return Response(status=204)


class RevisionListView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_append_revision",
        parameters=[IF_MATCH, IDEMPOTENCY_KEY, ETAG],
        request=CreateRevisionSerializer,
        responses={201: None, **refusals(412, 422)},
    )
    @idempotent
    def post(self, request: Request, case_id: str) -> Response:
        """Appends a revision. Needs `write` in the case's project; author and date are the server's."""
        user = user_of(request)
        # Whether the case may be written at all is told before anything about the body.
        Case.objects.get_for(user, case_id, "write")
        body = CreateRevisionSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        expected = expected_versions(request)
        revision = services.append_revision(user=user, case_id=case_id, expected=expected, **body.validated_data)
        return Response(status=201, headers={"ETag": etag_for(user, revision.case)})
