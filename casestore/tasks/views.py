"""One's own tasks: list, look, download, dismiss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.files.storage import default_storage
from django.db.models import QuerySet
from django.http import FileResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from casestore.accounts.authentication import user_of
from casestore.api.openapi import BINARY, SEARCH_PARAMETERS, TOTAL_HEADERS, refusals
from casestore.errors import Conflict, NotFound
from casestore.search.filtersets import SearchFilterSet, filters_for
from casestore.search.keys import Key, Kind, table
from casestore.search.views import SearchView
from casestore.tasks import services
from casestore.tasks.models import Status, Task
from casestore.tasks.serializers import ListedTaskSerializer, PatchTaskSerializer, TaskSerializer

TASK_KEYS = table(
    Key("taskId", Kind.STRING, "task_id", nullable=False),
    Key("status", Kind.STRING, "status", nullable=False),
    Key("dismissed", Kind.BOOLEAN, "dismissed", nullable=False),
    Key("createdAt", Kind.DATE, "created_at", nullable=False),
)


class TaskFilterSet(SearchFilterSet):
    table = TASK_KEYS
    filter, sort = filters_for(TASK_KEYS)
    unique = "id"


class TaskListView(SearchView):
    """One's own tasks; without `sort`, newest first."""

    queryset = Task.objects.none()  # names the model; which rows, get_queryset says
    filterset_class = TaskFilterSet
    serializer_class = TaskSerializer
    members = TaskSerializer.Meta.fields

    def get_queryset(self) -> QuerySet[Task]:
        return Task.objects.visible_to(user_of(self.request))

    def with_related(self, rows: QuerySet[Task]) -> QuerySet[Task]:
        return rows.select_related("owner")

    def documents(self, rows: Sequence[Task]) -> Any:
        return TaskSerializer(rows, many=True).data

    @extend_schema(
        operation_id="tasks_list",
        parameters=[*SEARCH_PARAMETERS, *TOTAL_HEADERS],
        responses=ListedTaskSerializer(many=True),
    )
    def get(self, request: Request) -> HttpResponseBase:
        return self.search(request)


class TaskView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="tasks_get", responses=TaskSerializer)
    def get(self, request: Request, task_id: str) -> Response:
        return Response(TaskSerializer(Task.objects.get_for(user_of(request), task_id)).data)

    @extend_schema(operation_id="tasks_patch", request=PatchTaskSerializer, responses=TaskSerializer)
    def patch(self, request: Request, task_id: str) -> Response:
        task = Task.objects.get_for(user_of(request), task_id)
        body = PatchTaskSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        services.set_dismissed(task, body.validated_data["dismissed"])
        return Response(TaskSerializer(Task.objects.get_for(user_of(request), task_id)).data)


class TaskDownloadView(APIView):
    """The file that a finished task made."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="tasks_download",
        responses={(200, "application/gzip"): BINARY, (200, "application/zip"): BINARY, **refusals(409)},
    )
    def get(self, request: Request, task_id: str) -> FileResponse:
        task = Task.objects.get_for(user_of(request), task_id)
        if task.status != Status.FINISHED:
            raise Conflict("This task is not finished.")
        if not task.result_key or not default_storage.exists(task.result_key):
            raise NotFound("This task has no file to download.")
        return FileResponse(
            default_storage.open(task.result_key),
            as_attachment=True,
            filename=task.file_name,
            content_type=task.download_file_type,
        )
