"""The row of a background task. State changes are single conditional updates, made by `services` and `running`."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

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
    """`heartbeat_at`, `queued_at`, `ended_at` and the like are read from the database's clock: hosts differ."""

    task_id = models.CharField(max_length=ids.MAX_LENGTH, unique=True, default=ids.new_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tasks")
    name = models.CharField(max_length=100)
    run_by = models.CharField(max_length=100, blank=True, editable=False, help_text="the Celery task that does it")
    parameters = models.JSONField(default=dict, editable=False)
    status = models.CharField(max_length=16, choices=Status, default=Status.PROCESSING)
    message = models.CharField(max_length=255, blank=True)
    finished = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0, help_text="0: unknown")
    bytes_before = models.BigIntegerField(default=0, help_text="done when their rate was first measured")
    measured_at = models.DateTimeField(null=True, help_text="since when the rate is measured")
    error_message = models.TextField(blank=True)
    finished_message = models.TextField(blank=True)
    results = models.JSONField(default=list, help_text="what became of each item")
    download_file_type = models.CharField(max_length=32, choices=DownloadFileType, blank=True)
    result_key = models.CharField(max_length=255, blank=True, editable=False)
    size = models.BigIntegerField(default=0, help_text="bytes of the result")
    sha256 = models.CharField(max_length=64, blank=True, help_text="of the result")
    expires_at = models.DateTimeField(null=True, help_text="the result can be downloaded until then")
    dismissed = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)
    queued_at = models.DateTimeField(null=True, editable=False, help_text="when the broker was last told")
    claimed_by = models.CharField(max_length=32, blank=True, editable=False, help_text="empty: nobody works on it")
    attempts = models.PositiveSmallIntegerField(default=0, editable=False, help_text="claims since it last got on")
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    checkpoint = models.JSONField(default=dict, editable=False, help_text="where the work can go on after a crash")
    ended_at = models.DateTimeField(null=True, editable=False)

    objects = TaskQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["owner", "-created_at", "-id"], name="task_of_owner"),
            models.Index(fields=["owner", "ended_at"], name="task_end_of_owner"),
            models.Index(fields=["run_by"], condition=Q(status="processing"), name="task_processing"),
        ]
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

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    @property
    def remaining_seconds(self) -> int | None:
        """At the rate since the work was taken up; None where that is not known."""
        if self.status != Status.PROCESSING or self.measured_at is None or not self.bytes_total:
            return None
        seconds, done = (self.updated_at - self.measured_at).total_seconds(), self.bytes_done - self.bytes_before
        if seconds <= 0 or done <= 0:
            return None
        return max(0, round((self.bytes_total - self.bytes_done) * seconds / done))
