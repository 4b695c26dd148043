"""One's own tasks: list, look, watch, download, dismiss, cancel, remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from casestore import clock
from casestore.accounts.authentication import user_of
from casestore.api.openapi import BINARY, SEARCH_PARAMETERS, TOTAL_HEADERS, refusals
from casestore.api.renderers import JSONRenderer
from casestore.errors import Conflict, Gone, NotFound
from casestore.json_text import dump
from casestore.search.filtersets import SearchFilterSet, filters_for
from casestore.search.keys import Key, Kind, table
from casestore.search.views import SearchView
from casestore.tasks import services
from casestore.tasks.downloads import download
from casestore.tasks.models import Status, Task
from casestore.tasks.reports import stream
from casestore.tasks.serializers import ListedTaskSerializer, PatchTaskSerializer, TaskSerializer

RANGE = OpenApiParameter(
    "Range",
    str,
    OpenApiParameter.HEADER,
    description="One range, as `bytes=500-999`, `bytes=500-` or `bytes=-500`; several are answered with all of it.",
)
IF_RANGE = OpenApiParameter(
    "If-Range",
    str,
    OpenApiParameter.HEADER,
    description="The ETag or Last-Modified of what the client has: where it is no longer that, the whole file is sent.",
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="The id of the last event that the client heard."
)

_NUMBER = {"type": "integer", "minimum": 0}
_NUMBER_OR_NULL = {"type": ["integer", "null"], "minimum": 0}
# Of a stream, OpenAPI 3.1 describes one event.
EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["progress", "finish", "error"]},
        "id": {"type": "string"},
        "retry": _NUMBER,
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "properties": {
                    "taskId": {"type": "string"},
                    "message": {"type": "string"},
                    "finished": _NUMBER,
                    "total": _NUMBER,
                    "bytesDone": _NUMBER,
                    "bytesTotal": _NUMBER_OR_NULL,
                    "remainingSeconds": _NUMBER_OR_NULL,
                },
                "required": ["taskId", "message", "finished", "total"],
            },
        },
    },
    "required": ["event", "id", "data"],
}

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

    @extend_schema(operation_id="tasks_delete", responses={204: None})
    def delete(self, request: Request, task_id: str) -> Response:
        """Cancels a task that runs or waits, which ends as an error; removes one that has ended, and its file."""
        services.cancel_or_remove(Task.objects.get_for(user_of(request), task_id))
        return Response(status=204)


class TaskDownloadView(APIView):
    """The file that a finished task made, in one piece or from where a download broke off.

    Whoever lost the right to make it, `downloadVolume` or `read` in the project of one of its cases, may not have it.
    410 when it has expired. Where the files lie in an object storage, 302 leads there.
    """

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="tasks_download",
        parameters=[RANGE, IF_RANGE],
        responses={
            (200, "application/gzip"): BINARY,
            (200, "application/zip"): BINARY,
            (206, "application/gzip"): BINARY,
            (206, "application/zip"): BINARY,
            302: None,
            304: None,
            **refusals(409, 410, 412, 416),
        },
    )
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        user = user_of(request)
        task = Task.objects.get_for(user, task_id)
        if task.status != Status.FINISHED:
            raise Conflict("This task is not finished.")
        if not task.result_key and task.expires_at is None:
            raise NotFound("This task has no file to download.")
        services.check_download(user, task)
        if not task.result_key or task.has_expired(clock.now()):
            raise Gone("The file has expired; export the cases again.")
        return download(request, task)


class EventStreamRenderer(BaseRenderer):
    """Names the media type: the view streams the events itself."""

    media_type = "text/event-stream"
    format = "event-stream"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return dump(data)


class TaskReportView(APIView):
    """Server-sent events of one's own tasks: `progress`, `finish`, `error`.

    Each is `{taskId, message, finished, total, bytesDone, bytesTotal, remainingSeconds}`. A stream lasts a minute;
    the client comes back with the id of its last event, as an EventSource does by itself, and misses no end.
    """

    permission_classes = (IsAuthenticated,)
    renderer_classes = (EventStreamRenderer, JSONRenderer)

    @extend_schema(
        operation_id="tasks_report",
        parameters=[LAST_EVENT_ID],
        responses={(200, "text/event-stream"): EVENT},
    )
    def get(self, request: Request) -> HttpResponseBase:
        # A proxy must hand each event on at once.
        headers = {"Content-Type": EventStreamRenderer.media_type, "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return HttpResponse(headers=headers)
        events = stream(user_of(request), request.headers.get("Last-Event-ID", ""))
        return StreamingHttpResponse(events, headers=headers)

    def handle_exception(self, exc: Exception) -> Response:
        # Errors are JSON, whatever was asked for.
        self.request.accepted_renderer, self.request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return super().handle_exception(exc)
