from __future__ import annotations

from typing import Any

from rest_framework import serializers

from casestore.api.fields import DateField, SparseMixin, StrictBooleanField, StrictSerializer
from casestore.tasks.models import Task


class TaskSerializer(serializers.ModelSerializer):
    """`finished` of `total` items are done; what does not apply yet is null."""

    taskId = serializers.CharField(source="task_id")
    userEmail = serializers.EmailField(source="owner.email")
    errorMessage = serializers.CharField(source="error_message", allow_null=True)
    finishedMessage = serializers.CharField(source="finished_message", allow_null=True)
    downloadFileType = serializers.CharField(source="download_file_type", allow_null=True)
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
            "errorMessage",
            "finishedMessage",
            "endedAt",
            "downloadFileType",
            "dismissed",
            "createdAt",
            "updatedAt",
        )

    def to_representation(self, instance: Task) -> dict[str, Any]:
        data = super().to_representation(instance)
        for name in ("errorMessage", "finishedMessage", "downloadFileType"):
            data[name] = data[name] or None
        return data


class ListedTaskSerializer(SparseMixin, TaskSerializer):
    """One of a list."""


class PatchTaskSerializer(StrictSerializer):
    dismissed = StrictBooleanField()


class TaskIdSerializer(serializers.Serializer):
    """The answer to a request that made a task."""

    taskId = serializers.CharField()
