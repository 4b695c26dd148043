"""The images that a DICOM segmentation refers to: what it must know of them, and which cannot carry one. No Django."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from cases.dicom.header import numbers, text
from cases.dicom.source import open_header
from cases.geometry import SAME_ORIENTATION, Plane
from casestore.errors import CasestoreError

SAME_SPACING = 1e-4
# mm; what is nearer to each other along the normal is one plane.
SAME_PLANE = 1e-6
MULTI_FRAME = "The images are frames of a multi-frame file; a DICOM SEG refers to files of one image."

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
PLACE = ("NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
# What a segmentation says of patient and study is what the images say, where it is well-formed.
COPIED = {
    "PatientName": re.compile(r".{0,324}"),
    "PatientID": re.compile(r".{0,64}"),
    "PatientBirthDate": re.compile(r"\d{8}", re.ASCII),
    "PatientSex": re.compile(r"[MFO]"),
    "PatientAge": re.compile(r"\d{3}[DWMY]", re.ASCII),
    "StudyID": re.compile(r".{0,16}"),
    "AccessionNumber": re.compile(r".{0,16}"),
    "StudyDate": re.compile(r"\d{8}", re.ASCII),
    "StudyTime": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", re.ASCII),
    "StudyDescription": re.compile(r".{0,64}"),
    "ReferringPhysicianName": re.compile(r".{0,324}"),
    "PositionReferenceIndicator": re.compile(r".{0,64}"),
}
TAGS = [tag for name in ("SpecificCharacterSet", *IDENTITY, *PLACE, *COPIED) if (tag := tag_for_keyword(name))]


def read_source(file: BinaryIO) -> Dataset:
    """What a segmentation needs to know of an image; its pixels are not read. Raises DicomRefused."""
    with open_header(file, TAGS) as (dataset, _):
        return dataset


def check(sources: Sequence[Dataset]) -> None:
    """Raises CasestoreError with the reason why a segmentation cannot refer to these images (see `read_source`)."""
    if any((numbers(source, "NumberOfFrames", 1) or (1,))[0] > 1 for source in sources):
        raise CasestoreError(MULTI_FRAME)
    check_planes([_plane(source) for source in sources])
    first = sources[0]
    for source in sources:
        for name in IDENTITY:
            if not text(source, name):
                raise CasestoreError(f"An image has no {name}, which a DICOM SEG needs.")
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            if text(source, name) != text(first, name):
                raise CasestoreError(f"The images differ in {name}; a DICOM SEG has one.")
    if len({text(source, "SOPInstanceUID") for source in sources}) != len(sources):
        raise CasestoreError("Two images have the same SOP Instance UID; a DICOM SEG cannot tell them apart.")


def _plane(source: Dataset) -> Plane:
    spacing = numbers(source, "PixelSpacing", 2)
    return Plane(
        number=0,
        position=numbers(source, "ImagePositionPatient", 3),
        orientation=numbers(source, "ImageOrientationPatient", 6),
        spacing=spacing[::-1] if spacing and min(spacing) > 0 else None,
    )


def check_planes(planes: Sequence[Plane]) -> None:
    """Raises CasestoreError with the reason why a segmentation cannot refer to images that lie like this."""
    first = planes[0]
    positions = []
    for plane in planes:
        if plane.position is None or plane.orientation is None or first.orientation is None:
            raise CasestoreError("An image has no position or no orientation, which a DICOM SEG needs.")
        if np.abs(np.array(plane.orientation) - np.array(first.orientation)).max() > SAME_ORIENTATION:
            raise CasestoreError("The images have different orientations; a DICOM SEG has one.")
        if plane.spacing is None or first.spacing is None:
            raise CasestoreError("An image has no pixel spacing, which a DICOM SEG needs.")
        if not np.allclose(plane.spacing, first.spacing, rtol=SAME_SPACING, atol=0):
            raise CasestoreError("The images have different pixel spacings; a DICOM SEG has one.")
        positions.append(plane.position)
    assert first.orientation is not None
    along = np.sort(np.array(positions) @ np.cross(first.orientation[:3], first.orientation[3:]))
    if np.diff(along).min(initial=np.inf) < SAME_PLANE:
        raise CasestoreError("Two images lie in the same plane; the frames of a DICOM SEG could not be told apart.")
