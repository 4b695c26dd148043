"""What is known of a DICOM file once it has been read. Lengths are mm in DICOM's patient coordinates (LPS)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from cases.dicom.native import NativePixels


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """One image's size and kind of pixel: `dtype` is the numpy name of the stored values' type."""

    width: int
    height: int
    channels: int
    dtype: str

    @property
    def size(self) -> int:
        """Bytes of an image."""
        return self.width * self.height * self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Frame:
    """One image: its number in the series, its place, and the range of its rescaled values."""

    number: int
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    tilt: float
    slope: float
    intercept: float
    sha256: str
    minimum: float
    maximum: float
    integral: bool


@dataclass(frozen=True, slots=True)
class PatientInfo:
    """None is unknown. `age` in years, `size` in m, `weight` in kg, `birth_date` as YYYY-MM-DD."""

    patient_id: str | None = None
    patient_name: str | None = None
    birth_date: str | None = None
    age: float | None = None
    sex: str | None = None
    size: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class SeriesHeader:
    """What an image says of its series."""

    study_uid: str = ""
    modality: str = ""
    series_description: str = ""
    body_part: str = ""
    station_name: str = ""
    model_name: str = ""
    manufacturer: str = ""
    series_date: datetime | None = None
    patient: PatientInfo = field(default_factory=PatientInfo)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instance:
    """A DICOM file: one image, or the frames of a multi-frame one."""

    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax: str
    layout: PixelLayout
    native: NativePixels | None
    frames: list[Frame]
    warnings: list[str]
