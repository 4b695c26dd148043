"""`POST /api/cases/export-mhd`."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from casestore.accounts.authentication import user_of
from casestore.accounts.idempotency import idempotent
from casestore.api.openapi import IDEMPOTENCY_KEY, refusals
from casestore.api.parameters import flag
from casestore.tasks.serializers import TaskIdSerializer
from exports import services
from exports.serializers import ExportSerializer

STRICT = OpenApiParameter(
    "strict",
    str,
    enum=["0", "1"],
    description="1: the first case that cannot be exported fails the task; else it is left out, and told.",
)


class ExportMhdView(APIView):
    """Makes a task that packs cases as MetaImage volumes. Needs `downloadVolume`, and `read` of each case."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_export_mhd",
        parameters=[STRICT, IDEMPOTENCY_KEY],
        request=ExportSerializer,
        responses={201: TaskIdSerializer, **refusals(404, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = ExportSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        options = dict(body.validated_data) | {"strict": flag(request, "strict")}
        wanted = options.pop("caseIds")
        task = services.request_export(user=user_of(request), wanted=wanted, options=options)
        return Response({"taskId": task.task_id}, status=201)
