"""What a DICOM SEG holds, read by pydicom, a frame at a time."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import IO, BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from cases.dicom.errors import DicomRefused
from cases.dicom.source import open_header
from exports.verification.tally import Tally, VoxelCounter

# The second tells a file without preamble from one that is not DICOM.
IDENTITY_TAGS = (0x00080018, 0x0020000E)
# Larger images are not stored.
MAX_PIXELS = 2**30
# So many numbers are multiplied at a time; more segments than that are on no image.
PORTION = 2**22
MAX_ON_IMAGE = 2**11


@dataclass(slots=True)
class Segmentation:
    """`segments` are label and description by number; `frames` the SOP Instance UID of the image that each lies on.

    `tallies[number, uid]`: a segment's voxels on an image. `shared` counts the voxels that two segments both have.
    `is_padded`: behind the last pixel there are zeros.
    """

    kind: str
    columns: int
    rows: int
    series: str
    referenced: tuple[str, ...]
    segments: dict[int, tuple[str, str]]
    frames: list[str]
    tallies: dict[tuple[int, str], Tally] = field(default_factory=dict)
    shared: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    is_padded: bool = False


def instance_of(file: BinaryIO) -> str:
    """The SOP Instance UID of an original image; empty where it is no DICOM file."""
    try:
        with open_header(file, IDENTITY_TAGS) as (dataset, _):
            return str(dataset.get("SOPInstanceUID", ""))
    except DicomRefused:
        return ""


def read_segmentation(file: IO[bytes]) -> Segmentation:
    """Raises ValueError, and what pydicom raises."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    dataset = pydicom.dcmread(file, stop_before_pixels=True)
    file.seek(12, os.SEEK_CUR)
    start = file.tell()
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.NumberOfFrames)
    bits = int(dataset.BitsAllocated)
    if rows * columns > MAX_PIXELS:
        raise ValueError("A DICOM SEG has larger images than any export.")
    items = dataset.PerFrameFunctionalGroupsSequence
    end = start + (rows * columns * count * bits + 7) // 8
    if bits not in {1, 8, 16} or min(rows, columns, count) < 1 or len(items) != count or not 0 <= size - end < 2:
        raise ValueError("A DICOM SEG has other pixels than it says.")
    (referenced,) = dataset.ReferencedSeriesSequence
    found = Segmentation(
        kind=str(dataset.SegmentationType),
        columns=columns,
        rows=rows,
        series=str(referenced.SeriesInstanceUID),
        referenced=tuple(str(item.ReferencedSOPInstanceUID) for item in referenced.ReferencedInstanceSequence),
        segments={
            int(item.SegmentNumber): (str(item.SegmentLabel), str(item.get("SegmentDescription", "")))
            for item in dataset.SegmentSequence
        },
        frames=[_image_of(item) for item in items],
    )
    if bits == 1:
        _read_binary(file, start, found, [_segment_of(item, dataset) for item in items])
    else:
        _read_label_map(file, start, found, np.dtype(f"<u{bits // 8}"))
    used = rows * columns * count * bits % 8
    file.seek(end - 1)
    last, *padding = file.read(3)
    found.is_padded = not any(padding) and not (used and last >> used)
    return found


def _image_of(item: Dataset) -> str:
    (derivation,) = item.DerivationImageSequence
    (source,) = derivation.SourceImageSequence
    return str(source.ReferencedSOPInstanceUID)


def _segment_of(item: Dataset, dataset: Dataset) -> int:
    group = item if "SegmentIdentificationSequence" in item else dataset.SharedFunctionalGroupsSequence[0]
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _read_label_map(file: IO[bytes], start: int, found: Segmentation, dtype: np.dtype) -> None:
    file.seek(start)
    for uid in found.frames:
        frame = VoxelCounter((found.columns, found.rows, 1), dtype)
        frame.feed(file.read(frame.bytes_expected))
        for (_, number), tally in frame.found.items():
            _add(found, number, uid, tally)


def _add(found: Segmentation, number: int, uid: str, tally: Tally) -> None:
    if (number, uid) in found.tallies:
        raise ValueError("A DICOM SEG has a segment on an image twice.")
    found.tallies[number, uid] = tally


def _read_binary(file: IO[bytes], start: int, found: Segmentation, numbers: list[int]) -> None:
    on_image: dict[str, list[int]] = defaultdict(list)
    for i, (uid, number) in enumerate(zip(found.frames, numbers, strict=True)):
        on_image[uid].append(i)
        frame = VoxelCounter((found.columns, found.rows, 1), np.dtype("u1"))
        frame.feed(_bits(file, start, found, i).tobytes())
        for tally in frame.found.values():
            _add(found, number, uid, tally)
    for indices in on_image.values():
        for pair, count in _shared(file, start, found, indices):
            one, other = sorted((numbers[pair[0]], numbers[pair[1]]))
            found.shared[one, other] += count


def _bits(file: IO[bytes], start: int, found: Segmentation, index: int) -> np.ndarray:
    """One bit a pixel, the least significant first, frames without padding between (PS3.5 8.2)."""
    pixels = found.rows * found.columns
    first = index * pixels
    file.seek(start + first // 8)
    data = np.frombuffer(file.read((first + pixels + 7) // 8 - first // 8), np.uint8)
    return np.unpackbits(data, bitorder="little")[first % 8 : first % 8 + pixels]


def _shared(
    file: IO[bytes], start: int, found: Segmentation, indices: list[int]
) -> Iterator[tuple[tuple[int, int], int]]:
    """Which two of these frames, all of one image, have how many pixels in common."""
    if len(indices) < 2:
        return
    if len(indices) > MAX_ON_IMAGE:
        raise ValueError("A DICOM SEG has more segments on an image than any export.")
    taken = np.zeros(found.rows * found.columns, np.uint16)
    for i in indices:
        taken += _bits(file, start, found, i)
    crowded = np.flatnonzero(taken > 1)
    products = np.zeros((len(indices), len(indices)))
    step = PORTION // len(indices)
    for first in range(0, len(crowded), step):
        here = crowded[first : first + step]
        bits = np.stack([_bits(file, start, found, i)[here] for i in indices]).astype(float)
        products += bits @ bits.T
    for one, other in combinations(range(len(indices)), 2):
        if products[one, other]:
            yield (indices[one], indices[other]), int(products[one, other])
