"""One's own tasks: list, look, download, dismiss."""

from __future__ import annotations

from django.core.files.storage import default_storage
from django.http import FileResponse
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from casestore.accounts.authentication import user_of
from casestore.api.openapi import BINARY, PAGE_PARAMETERS, TOTAL_HEADERS
from casestore.api.pagination import Page, page_response
from casestore.errors import Conflict, NotFound
from casestore.tasks import services
from casestore.tasks.models import Status, Task
from casestore.tasks.serializers import PatchTaskSerializer, TaskSerializer


class TaskListView(APIView):
    """One's own tasks, newest first."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="tasks_list",
        parameters=[*PAGE_PARAMETERS, *TOTAL_HEADERS],
        responses=TaskSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        page = Page.of(request)
        tasks = Task.objects.visible_to(user_of(request)).select_related("owner").order_by("-created_at", "-id")
        return page_response(request, TaskSerializer(page.slice(tasks), many=True).data, page, tasks.count())


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
        responses={(200, "application/gzip"): BINARY, (200, "application/zip"): BINARY},
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
