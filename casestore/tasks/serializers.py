from __future__ import annotations

from typing import Any

from django.urls import reverse
from rest_framework import serializers

from casestore import clock
from casestore.api.fields import DateField, SparseMixin, StrictBooleanField, StrictSerializer
from casestore.tasks.models import Task


class ItemResultSerializer(serializers.Serializer):
    """What became of one case of an export."""

    caseId = serializers.CharField()
    revisionIndex = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["packed", "failed"])
    reason = serializers.CharField(required=False)


class TaskSerializer(serializers.ModelSerializer):
    """`finished` of `total` items are done, `bytesDone` of `bytesTotal` bytes; what does not apply yet is null.

    `results` says what became of each case of an export. `downloadUrl` is there as long as the file is.
    """

    taskId = serializers.CharField(source="task_id")
    userEmail = serializers.EmailField(source="owner.email")
    errorMessage = serializers.CharField(source="error_message", allow_null=True)
    finishedMessage = serializers.CharField(source="finished_message", allow_null=True)
    bytesDone = serializers.IntegerField(source="bytes_done")
    bytesTotal = serializers.IntegerField(source="bytes_total", allow_null=True)
    remainingSeconds = serializers.IntegerField(source="remaining_seconds", allow_null=True)
    results = ItemResultSerializer(many=True)
    downloadFileType = serializers.CharField(source="download_file_type", allow_null=True)
    downloadUrl = serializers.SerializerMethodField(method_name="download_url")
    size = serializers.IntegerField(allow_null=True)
    sha256 = serializers.CharField(allow_null=True)
    expiresAt = DateField(source="expires_at", allow_null=True)
    createdAt = DateField(source="created_at")
    updatedAt = DateField(source="updated_at")
    endedAt = DateField(source="ended_at", allow_null=True)

    class Meta:
        model = Task
        fields = (
            "taskId",
            "userEmail",
            "name",
            "status",
            "message",
            "finished",
            "total",
            "bytesDone",
            "bytesTotal",
            "remainingSeconds",
            "errorMessage",
            "finishedMessage",
            "results",
            "endedAt",
            "downloadFileType",
            "downloadUrl",
            "size",
            "sha256",
            "expiresAt",
            "dismissed",
            "createdAt",
            "updatedAt",
        )

    def to_representation(self, instance: Task) -> dict[str, Any]:
        data = super().to_representation(instance)
        for name in ("errorMessage", "finishedMessage", "downloadFileType", "size", "sha256", "bytesTotal"):
            data[name] = data[name] or None
        return data

    def download_url(self, task: Task) -> str | None:
        """Relative to the server's address."""
        if not task.result_key or task.has_expired(clock.now()):
            return None
        return reverse("task-download", args=[task.task_id])


class ListedTaskSerializer(SparseMixin, TaskSerializer):
    """One of a list."""


class PatchTaskSerializer(StrictSerializer):
    dismissed = StrictBooleanField()


class TaskIdSerializer(serializers.Serializer):
    """The answer to a request that made a task."""

    taskId = serializers.CharField()
