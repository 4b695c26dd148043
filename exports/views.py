"""`POST /api/cases/export-mhd` and `POST /api/cases/export`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from casestore.accounts.authentication import user_of
from casestore.accounts.idempotency import idempotent
from casestore.api.openapi import IDEMPOTENCY_KEY, refusals
from casestore.api.parameters import flag, only
from casestore.tasks.serializers import TaskIdSerializer
from exports import planning, services
from exports.serializers import ExportMhdSerializer, ExportSerializer, PlanSerializer

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
        request=ExportMhdSerializer,
        responses={201: TaskIdSerializer, **refusals(404, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        only(request, "strict")
        body = ExportMhdSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return _requested(request, body.validated_data)


class ExportView(APIView):
    """Makes a task that packs cases as MetaImage, NRRD, NIfTI or DICOM, or tells what it would pack.

    Needs `downloadVolume`, and `read` of each case; `dicom-seg`, whose files name the patient, also
    `personalInfoView`, and `viewPersonalInfo` in the project of each case.
    """

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_export",
        parameters=[STRICT, IDEMPOTENCY_KEY],
        request=ExportSerializer,
        responses={200: PlanSerializer, 201: TaskIdSerializer, **refusals(404, 422)},
    )
    def post(self, request: Request) -> Response:
        only(request, "strict")
        if "Idempotency-Key" in request.headers:
            # Read now and kept: `idempotent` needs the body, which cannot be read any more once it has been parsed.
            _ = request.body
        body = ExportSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        options = dict(body.validated_data)
        if not options.pop("dryRun"):
            return self.create(request, options)
        wanted = options.pop("caseIds")
        return Response(planning.plan(user=user_of(request), wanted=wanted, options=options))

    @idempotent
    def create(self, request: Request, options: dict[str, Any]) -> Response:
        return _requested(request, options)


def _requested(request: Request, options: dict[str, Any]) -> Response:
    options = options | {"strict": flag(request, "strict")}
    wanted = options.pop("caseIds")
    task = services.request_export(user=user_of(request), wanted=wanted, options=options)
    return Response({"taskId": task.task_id}, status=201)
