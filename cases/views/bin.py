"""`/api/cases/deleted` and the way back from there."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.documents import case_document
from cases.models import Case, Project
from cases.patients import projects_with_patient_info
from cases.serializers.cases import DeletedCaseSerializer
from cases.services import bin as services
from cases.views.etags import etag_for
from cases.views.searches import fragment
from casestore import clock
from casestore.accounts.authentication import user_of
from casestore.accounts.idempotency import idempotent
from casestore.api.openapi import ETAG, IDEMPOTENCY_KEY, PAGE_PARAMETERS, TOTAL_HEADERS, refusals
from casestore.api.pagination import Page, page_response


class DeletedCaseListView(APIView):
    """The bin: the deleted cases that the user may restore, what was deleted last first."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_deleted",
        parameters=[*PAGE_PARAMETERS, *TOTAL_HEADERS],
        responses=DeletedCaseSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Cases of projects in which the user has both `moderate` and `read`."""
        user, page = user_of(request), Page.of(request)
        # To moderate is not to read: what is in a case is shown to its readers only, in the bin as elsewhere.
        cases = Case.objects.in_bin(user).filter(project__in=Project.objects.visible_to(user))
        rows = page.slice(cases.select_related("project", "document").order_by("-deleted_at", "-case_id"))
        shown = projects_with_patient_info(user)
        items = [
            case_document(
                case,
                {"latestRevision": fragment(case.document.latest_revision)},
                fragment(case.document.patient_info) if case.project_id in shown else None,
            )
            | {"deletedAt": case.deleted_at and clock.iso(case.deleted_at), "deletedBy": case.deleted_by}
            for case in rows
        ]
        return page_response(request, items, page, cases.count())


class RestoreCaseView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_restore",
        parameters=[IDEMPOTENCY_KEY, ETAG],
        request=None,
        responses={204: None, **refusals(422)},
    )
    @idempotent
    def post(self, request: Request, case_id: str) -> Response:
        """Takes the case out of the bin; lists that it was in do not get it back. Needs `moderate` in its project.

        404 for a case that is not in the bin and one that the user may not restore alike.
        """
        case = services.restore_case(user=user_of(request), case_id=case_id)
        return Response(status=204, headers={"ETag": etag_for(user_of(request), case)})
