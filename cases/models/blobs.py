"""Label voxels: immutable bytes named by their SHA-1, as the published API has them."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from cases.querysets import BlobQuerySet
from casestore import clock


class Blob(models.Model):
    sha1 = models.CharField(
        max_length=40, primary_key=True, db_collation="C", validators=[RegexValidator(r"\A[0-9a-f]{40}\Z")]
    )
    size = models.BigIntegerField(help_text="bytes")
    storage_key = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    stored_at = models.DateTimeField(default=clock.now, editable=False, help_text="last; storing it again renews it")

    objects = BlobQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(size__gt=0), name="blob_not_empty"),
        ]

    def __str__(self) -> str:
        return self.sha1


class BlobUpload(models.Model):
    """Who stored a blob: they may read it before any case uses it."""

    blob = models.ForeignKey(Blob, models.CASCADE, related_name="uploads")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="blob_uploads")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["blob", "user"], name="blob_upload_once")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.blob_id}"
