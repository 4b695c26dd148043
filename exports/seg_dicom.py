"""DICOM Segmentation (PS3.3 A.51): the labels of a series that refer to its original images. highdicom, no Django.

highdicom describes every frame: which image it lies on, which segments there are. It is shown a single pixel a slice
for that; the frames themselves are painted one by one behind its header, so that no volume is ever in memory.
"""

from __future__ import annotations

import hashlib
import logging
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from cases.dicom.header import numbers, text
from casestore.errors import CasestoreError
from exports.dicom_sources import COPIED, IDENTITY, check
from exports.label_values import element_type as element_type_of
from exports.segments import Segment, Survey

# A frame's description takes some 8 kB of memory while it is made.
MAX_FRAMES = 10_000
MAX_PIXEL_BYTES = 2**32 - 2
LONGEST_LABEL = 64
# What the headers of highdicom have beside names and identifiers, as measured: of a file, of each image that it refers
# to, of each segment, of each frame of a label map and of a binary segmentation.
FILE_BYTES, IMAGE_BYTES, SEGMENT_BYTES, FRAME_BYTES = 1900, 48, 186, (311, 345)
CLASS_UID_BYTES = len("1.2.840.10008.5.1.4.1.1.2")
MANUFACTURER = "casestore"
SERIES_NUMBER = 9000


@dataclass(frozen=True)
class DicomSegmentation:
    """A file: `header` up to where the pixels begin, then the frames, each one segment of one slice, or all of them."""

    header: bytes
    segments: tuple[Segment, ...]
    # (index of the segment, or None for all of them; slice of the partial volume)
    frames: tuple[tuple[int | None, int], ...]
    rows: int
    columns: int
    element_type: str

    @cached_property
    def pixel_bytes(self) -> int:
        return _pixel_bytes(len(self.frames), self.rows, self.columns, self.element_type)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.pixel_bytes

    def pixels(self) -> Iterator[bytes]:
        """What follows the header, a frame at a time."""
        written = 0
        for part in self._packed() if self.element_type == "bit" else self._painted():
            written += len(part)
            yield part
        # An element has an even number of bytes (PS3.5 7.1.1).
        if written < self.pixel_bytes:
            yield bytes(self.pixel_bytes - written)

    def _painted(self) -> Iterator[bytes]:
        dtype = np.dtype(self.element_type).newbyteorder("<")
        for _, k in self.frames:
            frame = np.zeros((self.rows, self.columns), dtype)
            for segment in self.segments:
                if segment.reaches(k):
                    _paint(frame, segment, k, segment.value)
            yield frame.tobytes()

    def _packed(self) -> Iterator[bytes]:
        """One bit a pixel, the least significant first; frames follow each other without padding (PS3.5 8.2)."""
        rest = np.zeros(0, np.uint8)
        for index, k in self.frames:
            frame = np.zeros((self.rows, self.columns), np.uint8)
            assert index is not None
            _paint(frame, self.segments[index], k, 1)
            bits = np.concatenate([rest, frame.ravel()])
            whole = len(bits) // 8 * 8
            yield np.packbits(bits[:whole], bitorder="little").tobytes()
            rest = bits[whole:]
        yield np.packbits(rest, bitorder="little").tobytes()


def load_tables() -> None:
    """Lets highdicom read its tables of the standard, which takes 100 MB: best before there is much in memory."""
    with suppress(ImportError):  # it is not a public name; where it is missing they are read later
        from highdicom._standard_utils import get_module_attribute_map

        get_module_attribute_map()


def segmentation(
    *,
    sources: Sequence[Dataset],
    size: Sequence[int],
    segments: Sequence[Segment],
    survey: Survey,
    thickness: float,
    identity: str,
    moment: datetime,
) -> DicomSegmentation:
    """The segmentation of a volume of `size` (x, y, z) whose slice k is the image `sources[k]`.

    A LABELMAP whose numbers are the segments' values, or, where segments overlap, a BINARY one in which they are
    numbered from 1 on. `thickness` is that of a slice, mm, for images that do not say it. The same `identity` and
    `moment` give the same bytes. Raises CasestoreError where the images cannot carry a segmentation, and where no
    segment has a voxel: there is none without frames.
    """
    if survey.is_empty:
        raise CasestoreError("The labels have no voxels; a DICOM SEG cannot be without.")
    extent = extent_of(segments, survey, size)
    check(sources)
    columns, rows, _ = (int(value) for value in size)
    overlapping = bool(survey.overlaps)
    order = sorted(range(len(segments)), key=lambda i: i if overlapping else segments[i].value)
    ordered, present = [segments[i] for i in order], survey.present[order]
    stand_ins = [_stand_in(source, sources[0], thickness) for source in sources]
    try:
        made = _describe(stand_ins, ordered, present, overlapping, identity, moment)
        _complete(made, sources[0], identity, moment, overlapping)
        frames = _frames(made, sources, overlapping)
        header = _header(made, rows, columns, extent.pixel_bytes)
    except CasestoreError:
        raise
    except Exception as error:  # Malformed identifiers make highdicom and pydicom raise nearly anything, and quote it.
        raise CasestoreError(f"The images cannot carry a DICOM SEG ({type(error).__name__}).") from None
    return DicomSegmentation(header, tuple(ordered), frames, rows, columns, extent.element_type)


def segment_numbers(segments: Sequence[Segment], survey: Survey) -> dict[int, int]:
    """The number that the segment of each value has in a segmentation."""
    return {segment.value: i if survey.overlaps else segment.value for i, segment in enumerate(segments, 1)}


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a segmentation is. `element_type` is a numpy name, or `bit`."""

    frames: int
    element_type: str
    pixel_bytes: int

    def size(self, instances: Sequence[str], segments: Sequence[Segment]) -> int:
        """About how many bytes the file has, in all; `instances` are the SOP Instance UIDs of the images."""
        # Each image is named twice, and once more by each frame on it; each segment has its name twice.
        uids = sum(len(uid) + CLASS_UID_BYTES for uid in instances)
        of_images = IMAGE_BYTES * len(instances) + 2 * uids
        of_frames = self.frames * (uids / len(instances) + FRAME_BYTES[self.element_type == "bit"])
        of_segments = sum(2 * len(segment.name.encode()) + SEGMENT_BYTES for segment in segments)
        return round(FILE_BYTES + of_images + of_frames + of_segments) + self.pixel_bytes


def extent_of(segments: Sequence[Segment], survey: Survey, size: Sequence[int]) -> Extent:
    """Raises CasestoreError where it would be too large."""
    columns, rows, _ = (int(value) for value in size)
    overlapping = bool(survey.overlaps)
    element_type = "bit" if overlapping else element_type_of([segment.value for segment in segments])
    frames = int(survey.present.sum() if overlapping else survey.present.any(axis=0).sum())
    pixel_bytes = _pixel_bytes(frames, rows, columns, element_type)
    if frames > MAX_FRAMES or pixel_bytes > MAX_PIXEL_BYTES:
        raise CasestoreError(
            f"A DICOM SEG of these labels would have {frames} frames and {pixel_bytes} bytes of pixels; it can have "
            f"{MAX_FRAMES} frames and {MAX_PIXEL_BYTES} bytes."
        )
    return Extent(frames, element_type, pixel_bytes)


def _stand_in(source: Dataset, first: Dataset, thickness: float) -> Dataset:
    """The image with a single pixel and without anybody's name: highdicom writes invalid ones into its log."""
    made = Dataset()
    for name in IDENTITY:
        setattr(made, name, text(source, name))
    made.Rows = made.Columns = 1
    made.ImagePositionPatient = source.ImagePositionPatient
    # Scanners round the cosines of each image for themselves; highdicom takes only equal ones.
    made.ImageOrientationPatient = first.ImageOrientationPatient
    made.PixelSpacing = first.PixelSpacing
    # A Decimal String has 16 characters at most.
    made.SliceThickness = f"{(numbers(first, 'SliceThickness', 1) or (0.0,))[0] or thickness:.10g}"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(made, name, "")
    for name in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "Modality"):
        setattr(made, name, "")
    return made


def _describe(
    sources: Sequence[Dataset],
    segments: Sequence[Segment],
    present: np.ndarray,
    overlapping: bool,
    identity: str,
    moment: datetime,
) -> Dataset:
    # Only workers that write segmentations need it in memory.
    from highdicom.seg import Segmentation, SegmentationTypeValues

    logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
    if overlapping:
        # (slices, 1, 1, segments)
        pixels = present.T[:, None, None, :].astype(np.uint8)
    else:
        lowest = segments[0].value
        pixels = np.where(present.any(axis=0), lowest, 0).astype(
            element_type_of([segment.value for segment in segments])
        )[:, None, None]
    time = moment.astimezone(UTC)
    with warnings.catch_warnings():
        # They quote values.
        warnings.simplefilter("ignore")
        return Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=SegmentationTypeValues.BINARY if overlapping else SegmentationTypeValues.LABELMAP,
            segment_descriptions=[
                _description(i if overlapping else segment.value, segment) for i, segment in enumerate(segments, 1)
            ],
            series_instance_uid=derived_uid(identity, "series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=derived_uid(identity, "instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions="1",
            device_serial_number="1",
            content_label="LABELS",
            content_description="Labels exported from casestore",
            series_description="Labels",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set="ISO_IR 192",
            content_date=time.date(),
            content_time=time.time(),
        )


def _description(number: int, segment: Segment) -> Any:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    described = SegmentDescription(
        segment_number=number,
        segment_label=segment_label(segment),
        # What a label is of, only its name says. This is the code that 3D Slicer gives to what has none.
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
        display_color=CIELabColor.from_rgb(*segment.rgb),
    )
    described.SegmentDescription = segment.name
    return described


def segment_label(segment: Segment) -> str:
    """A Long String has no backslash, no control characters, and 64 characters at most (PS3.5 6.2)."""
    label = re.sub(r"[\\\x00-\x1f\x7f]+", " ", segment.name).strip() or segment.identifier
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def _complete(made: Dataset, first: Dataset, identity: str, moment: datetime, overlapping: bool) -> None:
    """Whose it is; and what depended on chance, on the clock, and on what the single pixels looked like."""
    for name, pattern in COPIED.items():
        value = text(first, name, 1000)
        if value and pattern.fullmatch(value):
            setattr(made, name, value)
    organization = derived_uid(identity, "dimensions")
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in made.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    time = moment.astimezone(UTC)
    made.InstanceCreationDate, made.InstanceCreationTime = f"{time:%Y%m%d}", f"{time:%H%M%S.%f}"
    for item in made.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{time:%Y%m%d%H%M%S.%f}"
    made.SegmentsOverlap = "YES" if overlapping else "NO"


def _frames(made: Dataset, sources: Sequence[Dataset], overlapping: bool) -> tuple[tuple[int | None, int], ...]:
    """What each frame shows, in the order that highdicom gave them."""
    slices = {text(source, "SOPInstanceUID"): k for k, source in enumerate(sources)}
    shared = made.SharedFunctionalGroupsSequence[0]
    frames: list[tuple[int | None, int]] = []
    for item in made.PerFrameFunctionalGroupsSequence:
        k = slices[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        if overlapping:
            group = item if "SegmentIdentificationSequence" in item else shared
            frames.append((int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) - 1, k))
        else:
            frames.append((None, k))
    return tuple(frames)


def _header(made: Dataset, rows: int, columns: int, pixel_bytes: int) -> bytes:
    """The file up to the value of Pixel Data, which is its last element."""
    del made.PixelData
    made.Rows, made.Columns = rows, columns
    target = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.save_as(target, enforce_file_format=True)
    kind = b"OW" if made.BitsAllocated == 16 else b"OB"
    return target.getvalue() + struct.pack("<HH2sHL", 0x7FE0, 0x0010, kind, 0, pixel_bytes)


def _paint(frame: np.ndarray, segment: Segment, k: int, value: int) -> None:
    x, y, mask = segment.mask(k)
    frame[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = value


def _pixel_bytes(frames: int, rows: int, columns: int, element_type: str) -> int:
    pixels = frames * rows * columns
    count = (pixels + 7) // 8 if element_type == "bit" else pixels * np.dtype(element_type).itemsize
    return count + count % 2


def derived_uid(identity: str, what: str) -> str:
    """2.25 and a number of 128 bits (PS3.5 B.2)."""
    digest = hashlib.sha256(f"casestore segmentation {what} {identity}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
