"""What is remembered of exported files, so that it need not be computed for every export."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from casestore import clock
from casestore.tasks.models import Task


class ContentDigest(models.Model):
    """SHA-256 of a file whose content follows from `key`, a digest of all that it is made of."""

    key = models.CharField(max_length=64, primary_key=True)
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.key


class PackedCase(models.Model):
    """What a manifest will say of a case, until its archive is whole and the task has ended."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="packed_cases")
    position = models.PositiveIntegerField()
    # Not jsonb, which does not keep the order of members.
    told = models.TextField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["task", "position"], name="packed_case_once")]

    def __str__(self) -> str:
        return f"{self.task_id}/{self.position}"
