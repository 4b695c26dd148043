"""Decoded volumes kept for exports: a cache, which can be emptied at any time and is filled again from DICOM files."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from cases.models.series import Series
from casestore import clock


class StoredVolume(models.Model):
    """The images of a series, rescaled, as a gzip'd NRRD file.

    Its deflate stream is cut at each image; `index` says where (see `cases.slices`).
    """

    series = models.OneToOneField(Series, models.CASCADE, related_name="stored_volume")
    storage_key = models.CharField(max_length=255, unique=True)
    element_type = models.CharField(max_length=16, help_text="numpy name of the voxels' type")
    index = models.BinaryField()
    sha256 = models.CharField(
        max_length=64, blank=True, help_text="of all voxels, where it was computed while they were decoded"
    )
    size = models.BigIntegerField(help_text="bytes of the file")
    used_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["used_at"], name="stored_volume_used")]

    def __str__(self) -> str:
        return self.storage_key
