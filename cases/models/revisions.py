"""Revisions of a case: appended, never changed. Triggers in the database say so too (migration `append_only`)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Collate

from cases.models.blobs import Blob
from cases.models.cases import Case
from cases.models.series import Series
from casestore import clock


class Revision(models.Model):
    case = models.ForeignKey(Case, models.CASCADE, related_name="revisions")
    index = models.PositiveIntegerField(help_text="from 0, without gaps")
    creator = models.CharField(max_length=254, help_text="e-mail address, kept when the user is gone")
    date = models.DateTimeField(default=clock.now)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=64)
    attributes = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["case", "index"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["case", "index"], name="revision_index_once")]

    def __str__(self) -> str:
        return f"{self.case_id}[{self.index}]"


class RevisionSeries(models.Model):
    """A series of a revision with its partial volume: the images start, start + delta … end."""

    revision = models.ForeignKey(Revision, models.CASCADE, related_name="series_set")
    position = models.PositiveSmallIntegerField()
    series = models.ForeignKey(Series, models.PROTECT, related_name="uses")
    start = models.IntegerField()
    end = models.IntegerField()
    delta = models.IntegerField()

    class Meta:
        ordering: ClassVar = ["revision", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["revision", "position"], name="revision_series_position_once"),
            models.CheckConstraint(
                condition=Q(start__gte=1, end__gte=1)
                & (Q(delta__gt=0, end__gte=F("start")) | Q(delta__lt=0, end__lte=F("start"))),
                name="revision_series_partial_volume",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.revision_id}/{self.position}"


class LabelType(models.TextChoices):
    VOXEL = "voxel"
    CUBOID = "cuboid"
    ELLIPSOID = "ellipsoid"
    RECTANGLE = "rectangle"
    ELLIPSE = "ellipse"
    POLYLINE = "polyline"
    POINT = "point"
    RULER = "ruler"


class Label(models.Model):
    """A label of one series of a revision. `data` is as it was sent; of voxels it names the blob too."""

    revision_series = models.ForeignKey(RevisionSeries, models.CASCADE, related_name="labels")
    position = models.PositiveIntegerField()
    name = models.CharField(max_length=255, null=True)  # noqa: DJ001  null: sent without a name
    type = models.CharField(max_length=16, choices=LabelType)
    data = models.JSONField()
    attributes = models.JSONField(null=True, help_text="null: sent without attributes")
    blob = models.ForeignKey(Blob, models.PROTECT, null=True, related_name="labels")

    class Meta:
        ordering: ClassVar = ["revision_series", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["revision_series", "position"], name="label_position_once"),
            models.CheckConstraint(condition=Q(type__in=LabelType.values), name="label_type_known"),
            models.CheckConstraint(condition=Q(type=LabelType.VOXEL) | Q(blob=None), name="label_blob_only_of_voxels"),
        ]
        indexes: ClassVar = [
            # Few have it: labels that came without their voxels, by the SHA-1 of these.
            models.Index(
                Collate(KeyTextTransform("voxels", "data"), "C"),
                condition=Q(type=LabelType.VOXEL, blob=None),
                name="label_awaited_voxels",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.revision_series_id}/{self.position}"
