"""The row of a background task. State changes are single conditional updates, made by `services`."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from casestore import clock, ids
from casestore.tasks.querysets import TaskQuerySet


class Status(models.TextChoices):
    PROCESSING = "processing"
    FINISHED = "finished"
    ERROR = "error"


class DownloadFileType(models.TextChoices):
    """What a result is. The media type is the value."""

    GZIP = "application/gzip"
    ZIP = "application/zip"


EXTENSIONS = {DownloadFileType.GZIP: ".tar.gz", DownloadFileType.ZIP: ".zip"}


class Task(models.Model):
    task_id = models.CharField(max_length=ids.MAX_LENGTH, unique=True, default=ids.new_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tasks")
    name = models.CharField(max_length=100)
    parameters = models.JSONField(default=dict, editable=False)
    status = models.CharField(max_length=16, choices=Status, default=Status.PROCESSING)
    message = models.CharField(max_length=255, blank=True)
    finished = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    error_message = models.TextField(blank=True)
    finished_message = models.TextField(blank=True)
    download_file_type = models.CharField(max_length=32, choices=DownloadFileType, blank=True)
    checkpoint: dict[str, Any] = {}  # noqa: RUF012
    result_key = models.CharField(max_length=255, blank=True, editable=False)
    dismissed = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    objects = TaskQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["owner", "-created_at", "-id"], name="task_of_owner")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="task_status_known"),
            models.CheckConstraint(
                condition=Q(status=Status.PROCESSING, ended_at=None)
                | Q(~Q(status=Status.PROCESSING), ended_at__isnull=False),
                name="task_ended_iff_not_processing",
            ),
        ]

    def __str__(self) -> str:
        return self.task_id

    @property
    def file_name(self) -> str:
        return f"{self.task_id}{EXTENSIONS[DownloadFileType(self.download_file_type)]}"
