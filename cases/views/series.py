"""`/api/series`: DICOM series of the user's domains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.models import Series
from cases.patients import patients_of_series
from cases.search import SeriesFilterSet
from cases.serializers.series import ListedSeriesSerializer, SeriesSerializer
from cases.services import series as services
from casestore.accounts.authentication import user_of
from casestore.accounts.idempotency import idempotent
from casestore.api.openapi import IDEMPOTENCY_KEY, SEARCH_PARAMETERS, TOTAL_HEADERS, refusals
from casestore.errors import BadRequest, InsufficientPrivilege, NotFound, TooLarge
from casestore.search.translate import Patients
from casestore.search.views import SearchView
from casestore.tasks.serializers import TaskIdSerializer


class SeriesSearch(SearchView):
    """What searches among series have in common."""

    queryset = Series.objects.none()  # names the model; which rows, get_queryset says
    filterset_class = SeriesFilterSet
    serializer_class = SeriesSerializer
    members = SeriesSerializer.Meta.fields

    @property
    def patients(self) -> Patients:
        return patients_of_series(user_of(self.request))

    def get_queryset(self) -> QuerySet[Series]:
        return Series.objects.visible_to(user_of(self.request))

    def documents(self, rows: Sequence[Series]) -> Any:
        return _render(self.request, rows, many=True)


class SeriesListView(SeriesSearch):
    """The series of the user's domains; without `sort`, newest first."""

    @extend_schema(
        operation_id="series_list",
        parameters=[*SEARCH_PARAMETERS, *TOTAL_HEADERS],
        responses=ListedSeriesSerializer(many=True),
    )
    def get(self, request: Request) -> HttpResponseBase:
        return self.search(request)


class SeriesView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="series_get", responses=SeriesSerializer)
    def get(self, request: Request, series_uid: str) -> Response:
        return Response(_render(request, Series.objects.get_for(user_of(request), series_uid)))

    @extend_schema(operation_id="series_delete", responses={204: None})
    def delete(self, request: Request, series_uid: str) -> Response:
        """Needs the domain and `manageServer`; 400 while a case uses the series."""
        series = Series.objects.get_for(user_of(request), series_uid)
        if not user_of(request).has_privilege("manageServer"):
            raise InsufficientPrivilege('You do not have the "manageServer" privilege.')
        services.delete_series(series=series)
        return Response(status=204)


class SeriesUploadView(APIView):
    """DICOM files, or zip or tar archives of them, in a multipart body; imported by a task."""

    permission_classes = (IsAuthenticated,)
    parser_classes = (MultiPartParser,)

    @extend_schema(
        operation_id="series_upload",
        parameters=[IDEMPOTENCY_KEY],
        request={
            "multipart/form-data": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        responses={201: TaskIdSerializer, **refusals(422)},
    )
    def post(self, request: Request, domain: str) -> Response:
        if domain not in user_of(request).domains:
            raise NotFound("There is no such domain.")
        # Told before a byte of it is read: a body of this size would be refused anyway, after hours.
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.CASESTORE_MAX_UPLOAD:
            raise TooLarge(f"The upload is larger than {settings.CASESTORE_MAX_UPLOAD} bytes.")
        if not request.FILES:
            raise BadRequest("The body holds no file; send DICOM files or archives as multipart/form-data.")
        return self.create(request, domain)

    @idempotent
    def create(self, request: Request, domain: str) -> Response:
        files = [file for _, group in request.FILES.lists() for file in group]
        task = services.request_import(user=user_of(request), domain=domain, files=files)
        return Response({"taskId": task.task_id}, status=201)


def _render(request: Request, series: object, *, many: bool = False) -> object:
    context = {"with_patient_info": user_of(request).wants_patient_info}
    return SeriesSerializer(series, many=many, context=context).data
