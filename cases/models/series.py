"""Series, their DICOM files and the images in them.

The files are the truth, kept byte for byte. What a case, a search or an export needs to know of them is in columns,
written at import; no request opens a DICOM file to answer a question about one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from cases.dicom.native import NativePixels
from cases.geometry import Plane
from cases.image_numbers import parse_image_numbers
from cases.querysets import SeriesQuerySet
from casestore import clock, ids
from casestore.accounts.models import Domain

EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"


class Series(models.Model):
    series_uid = models.CharField(max_length=ids.MAX_LENGTH, unique=True, db_collation="C")
    study_uid = models.CharField(max_length=ids.MAX_LENGTH, blank=True, db_collation="C")
    domain = models.ForeignKey(Domain, models.PROTECT, related_name="series")
    width = models.PositiveIntegerField(help_text="columns of one image")
    height = models.PositiveIntegerField(help_text="rows of one image")
    channels = models.PositiveSmallIntegerField(default=1, help_text="1, or 3 for colour")
    stored_type = models.CharField(max_length=16, blank=True, help_text="numpy name of the stored values' type")
    images = models.TextField(help_text='image numbers as in "1-100,102"')
    series_date = models.DateTimeField(null=True, blank=True)
    modality = models.CharField(max_length=16, blank=True, db_collation="C")
    series_description = models.CharField(max_length=255, blank=True, db_collation="C")
    body_part = models.CharField(max_length=255, blank=True)
    station_name = models.CharField(max_length=255, blank=True)
    model_name = models.CharField(max_length=255, blank=True)
    manufacturer = models.CharField(max_length=255, blank=True)
    patient_id = models.CharField(max_length=255, null=True, blank=True, db_collation="C")  # noqa: DJ001  null: unknown
    patient_name = models.CharField(max_length=1024, null=True, blank=True, db_collation="C")  # noqa: DJ001
    patient_birth_date = models.CharField(max_length=10, null=True, blank=True)  # noqa: DJ001
    patient_age = models.FloatField(null=True, blank=True)
    patient_sex = models.CharField(max_length=1, null=True, blank=True, db_collation="C")  # noqa: DJ001
    patient_size = models.FloatField(null=True, blank=True, help_text="m")
    patient_weight = models.FloatField(null=True, blank=True, help_text="kg")
    parameters = models.JSONField(default=dict, blank=True, help_text="other header fields, none identifying")
    geometry = models.JSONField(default=dict, blank=True)
    import_warnings = models.JSONField(default=list, blank=True)
    header_number = models.BigIntegerField(
        null=True,
        editable=False,
        help_text="the image whose header the fields above are from: the lowest number",
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)

    objects = SeriesQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "series"
        indexes: ClassVar = [models.Index(fields=["-created_at", "-id"], name="series_newest")]

    def __str__(self) -> str:
        return self.series_uid

    @cached_property
    def image_ranges(self) -> tuple[tuple[int, int], ...]:
        """Inclusive ranges of image numbers, ascending."""
        return parse_image_numbers(self.images)

    @property
    def has_patient_info(self) -> bool:
        return any(
            value is not None
            for value in (
                self.patient_id,
                self.patient_name,
                self.patient_birth_date,
                self.patient_age,
                self.patient_sex,
                self.patient_size,
                self.patient_weight,
            )
        )


class SeriesFile(models.Model):
    """A DICOM file as it was received."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="files")
    sop_instance_uid = models.CharField(max_length=ids.MAX_LENGTH)
    sop_class_uid = models.CharField(max_length=ids.MAX_LENGTH)
    transfer_syntax = models.CharField(max_length=ids.MAX_LENGTH)
    storage_key = models.CharField(max_length=255, unique=True)
    size = models.BigIntegerField(help_text="bytes")
    sha256 = models.CharField(max_length=64)
    pixels_start = models.BigIntegerField(
        null=True, editable=False, help_text="offset of the first image's numbers; null where they must be decoded"
    )
    bits_stored = models.PositiveSmallIntegerField(null=True, editable=False, help_text="of each of these numbers")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.sop_instance_uid

    @property
    def native_pixels(self) -> NativePixels | None:
        """Where the images are in the file, if they can be read without decoding it."""
        if self.pixels_start is None or self.bits_stored is None:
            return None
        return NativePixels(self.pixels_start, self.bits_stored, self.transfer_syntax == EXPLICIT_BIG_ENDIAN)


class SeriesImage(models.Model):
    """One image of a series: a file, or one frame of a multi-frame file. Lengths are mm in DICOM's LPS."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="image_set")
    file = models.ForeignKey(SeriesFile, models.CASCADE, related_name="image_set")
    number = models.BigIntegerField()
    frame = models.PositiveIntegerField(help_text="index of the frame in its file, from 0")
    position = ArrayField(models.FloatField(), size=3, null=True)
    orientation = ArrayField(models.FloatField(), size=6, null=True, help_text="row cosines, column cosines")
    spacing = ArrayField(models.FloatField(), size=2, null=True, help_text="x, y")
    thickness = models.FloatField(null=True)
    tilt = models.FloatField(default=0.0, help_text="degrees")
    slope = models.FloatField(default=1.0)
    intercept = models.FloatField(default=0.0)
    minimum = models.FloatField(help_text="after rescale")
    maximum = models.FloatField(help_text="after rescale")
    integral = models.BooleanField(help_text="every rescaled value is an integer")
    sha256 = models.CharField(max_length=64, help_text="of the decoded image and its geometry")

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["series", "number"], name="series_image_once")]

    def __str__(self) -> str:
        return f"{self.series_id}/{self.number}"

    @property
    def plane(self) -> Plane:
        return Plane(
            number=self.number,
            position=_tuple(self.position),
            orientation=_tuple(self.orientation),
            spacing=_tuple(self.spacing),
            thickness=self.thickness,
            tilt=self.tilt,
        )


def _tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
