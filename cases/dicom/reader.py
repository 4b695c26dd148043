"""Reading instances and pixels. The only place that decides what a DICOM file's voxels are."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cases.dicom import header
from cases.dicom.codestream import check_codestreams
from cases.dicom.errors import DicomRefused
from cases.dicom.instance import Frame, Instance, PixelLayout, SeriesHeader
from cases.dicom.native import NativePixels
from cases.dicom.rescale import rescaled_range
from cases.dicom.source import Source, open_header, open_source

MAX_UID = 64
MAX_NUMBER = 2**31 - 1
MAX_FRAMES = 100_000
MAX_FRAME_BYTES = 2**30
# Of files with larger images one is decoded at a time: there are many threads, and a small file may claim any size.
LARGE_FRAME_BYTES = 2**25

one_large = Lock()

SERIES_UID = 0x0020000E
GREY = {"MONOCHROME1", "MONOCHROME2"}
NATIVE_SYNTAXES = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
# What decoding needs: the Image Pixel module with the palettes, the Modality LUT, and the extended offsets.
PIXEL_TAGS = (
    *(0x00280000 | element for element in (0x0002, 0x0004, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102)),
    *(0x00280000 | element for element in (0x0103, 0x0106, 0x0107, 0x1101, 0x1102, 0x1103, 0x1199)),
    *(0x00280000 | element for element in (0x1201, 0x1202, 0x1203, 0x1221, 0x1222, 0x1223, 0x3000)),
    SERIES_UID,  # by which a file without preamble is told from one that is not DICOM
    0x7FE00001,
    0x7FE00002,
)


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a file's stored values become the values of its images. `layout` is what comes out."""

    layout: PixelLayout
    frames: int
    palette: bool
    lut: bool
    # Colour of more than 8 bits a channel loses the lowest of them.
    drop_bits: int
    native: NativePixels | None = None


def read_series_uid(file: BinaryIO) -> str:
    """The Series Instance UID, from the header alone. Raises DicomRefused."""
    with open_header(file, [SERIES_UID]) as (dataset, _):
        return _series_uid(dataset)


def read_instance(
    file: BinaryIO, on_image: Callable[[Frame, np.ndarray], None] = lambda frame, image: None
) -> Instance:
    """Reads and decodes a whole file, a frame at a time. Raises DicomRefused with the reason.

    `on_image` is given each frame with its image as stored, not rescaled; it must not raise.
    """
    try:
        with open_source(file) as source:
            return _instance(source, on_image)
    except DicomRefused:
        raise
    except Exception as error:  # Malformed sequences and values make pydicom raise nearly anything.
        raise DicomRefused("damaged", f"Its header is damaged ({type(error).__name__}).") from None


def read_header(file: BinaryIO) -> SeriesHeader:
    """What a file says of its series. Raises DicomRefused."""
    with open_header(file) as (dataset, _):
        return header.series_header(dataset)


def decode_frames(file: BinaryIO, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """The images of these frames (from 0), (rows, columns) or (rows, columns, 3), as stored, not rescaled.

    Unused high bits are cleared, MONOCHROME1 is not inverted, colour is RGB. Raises DicomRefused.
    """
    with open_source(file, PIXEL_TAGS) as source:
        yield from _decode(source, _pixels(source), indices)


def _instance(source: Source, on_image: Callable[[Frame, np.ndarray], None]) -> Instance:
    dataset = source.dataset
    series_uid = _series_uid(dataset)
    pixels = _pixels(source)
    warnings: list[str] = []
    numbers = _numbers(dataset, pixels.frames, warnings)
    if pixels.drop_bits:
        warnings.append(f"Colours of {8 + pixels.drop_bits} bits a channel are exported as 8 bits.")
    if "DoseGridScaling" in dataset:
        warnings.append("Dose Grid Scaling is not applied to the voxels.")
    check_codestreams(source, width=pixels.layout.width, height=pixels.layout.height)
    frames = []
    with one_large if pixels.layout.size > LARGE_FRAME_BYTES else nullcontext():
        for index, image in enumerate(_decode(source, pixels, range(pixels.frames))):
            frames.append(_frame(dataset, pixels, index, numbers[index], image, warnings))
            on_image(frames[-1], image)
    return Instance(
        series_uid=series_uid,
        sop_instance_uid=header.text(dataset, "SOPInstanceUID", MAX_UID),
        sop_class_uid=header.text(dataset, "SOPClassUID", MAX_UID),
        transfer_syntax=str(source.transfer_syntax),
        layout=pixels.layout,
        native=pixels.native,
        frames=frames,
        warnings=list(dict.fromkeys(warnings)),
    )


def _series_uid(dataset: Dataset) -> str:
    uid = header.text(dataset, "SeriesInstanceUID", 1000)
    if not uid or len(uid) > MAX_UID:
        what = "no Series Instance UID" if not uid else "a Series Instance UID of more than 64 characters"
        raise DicomRefused("no_series_uid", f"It has {what}.")
    return uid


def _numbers(dataset: Dataset, frames: int, warnings: list[str]) -> Sequence[int]:
    """Image numbers: frame numbers of a multi-frame image, else its Instance Number."""
    if frames > 1:
        return range(1, frames + 1)
    value = header.number(dataset, "InstanceNumber")
    if value is None:
        warnings.append("An image without Instance Number has the number 1.")
        return [1]
    number = int(value)
    if number != value or not 0 <= number <= MAX_NUMBER:
        raise DicomRefused("bad_number", "Its Instance Number is not a whole number from 0 to 2147483647.")
    if number == 0:
        warnings.append("Image 0 cannot be part of a partial volume, whose numbers begin at 1.")
    return [number]


def _pixels(source: Source) -> Pixels:
    """Checks what the header says of the pixels, and that there are enough of them."""
    dataset = source.dataset
    rows, columns = _count(dataset, "Rows"), _count(dataset, "Columns")
    frames = _count(dataset, "NumberOfFrames", 1) or 1
    samples = _count(dataset, "SamplesPerPixel", 1)
    allocated = _count(dataset, "BitsAllocated")
    stored = _count(dataset, "BitsStored", allocated)
    signed = _count(dataset, "PixelRepresentation", 0)
    high = _count(dataset, "HighBit", stored - 1)
    photometric = header.text(dataset, "PhotometricInterpretation")
    if not (0 < rows < 2**16 and 0 < columns < 2**16 and frames <= MAX_FRAMES):
        raise DicomRefused("bad_size", f"Its size, {columns} x {rows} x {frames}, is impossible.")
    if allocated not in {8, 16, 32} or not 0 < stored <= allocated or signed not in {0, 1}:
        raise DicomRefused("bad_pixels", f"It has {allocated} bits a pixel; 8, 16 and 32 can be stored.")
    if samples not in {1, 3}:
        raise DicomRefused("bad_pixels", f"It has {samples} samples a pixel; 1 and 3 can be stored.")
    if source.fragments is None and high != stored - 1:
        raise DicomRefused("bad_pixels", f"The highest bit of its pixels is {high}, not {stored - 1}.")
    palette = photometric == "PALETTE COLOR"
    lut = not palette and samples == 1 and bool(header.value_of(dataset, "ModalityLUTSequence"))
    _check_length(source, rows * columns * samples * allocated // 8, frames, photometric)
    if palette or samples == 3:
        if signed:
            raise DicomRefused("bad_pixels", "Its colours are signed numbers.")
        drop = _palette_bits(dataset) - 8 if palette else stored - 8
        return Pixels(PixelLayout(columns, rows, 3, "uint8"), frames, palette, False, max(drop, 0))
    dtype = f"{'' if signed else 'u'}int{allocated}"
    if lut:
        dtype = "uint16"
    native = None
    if photometric in GREY and not lut and "BitsStored" in dataset and "PixelRepresentation" in dataset:
        native = _native(source, allocated, stored)
    return Pixels(PixelLayout(columns, rows, 1, dtype), frames, False, lut, 0, native)


def _native(source: Source, allocated: int, stored: int) -> NativePixels | None:
    """None where the pixel data are encapsulated, in an inflated copy of the file, or bytes in words of big-endian."""
    syntax = source.transfer_syntax
    if syntax not in NATIVE_SYNTAXES or (allocated == 8 and not syntax.is_little_endian):
        return None
    return NativePixels(source.start, stored, not syntax.is_little_endian)


def _check_length(source: Source, frame_bytes: int, frames: int, photometric: str) -> None:
    if frame_bytes > MAX_FRAME_BYTES:
        raise DicomRefused("too_large", "One of its images takes more than 1 GiB.")
    if source.fragments is not None:
        if len(source.fragments) < frames:
            raise DicomRefused("truncated", f"It has {len(source.fragments)} of {frames} encapsulated images.")
        return
    expected = frame_bytes * frames
    if photometric == "YBR_FULL_422":
        expected = expected // 3 * 2
    if source.length < expected:
        raise DicomRefused("truncated", f"Its pixel data are truncated: {source.length} of {expected} bytes.")


def _palette_bits(dataset: Dataset) -> int:
    descriptor = header.value_of(dataset, "RedPaletteColorLookupTableDescriptor")
    return 16 if descriptor is None or len(descriptor) != 3 else int(descriptor[2])


def _count(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    value = header.number(dataset, keyword)
    if value is None:
        if default is None:
            raise DicomRefused("no_pixel_description", f"It does not say its {keyword}.")
        return default
    return int(value)


def _decode(source: Source, pixels: Pixels, indices: Sequence[int]) -> Iterator[np.ndarray]:
    if pixels.native is not None:
        layout = pixels.layout
        for index in indices:
            yield pixels.native.image(
                source.stream, index, width=layout.width, height=layout.height, dtype=layout.dtype
            )
        return
    syntax = source.transfer_syntax
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DicomRefused("transfer_syntax", f"Its transfer syntax, {syntax.name}, is not supported.") from None
    try:
        options: dict[str, Any] = as_pixel_options(source.dataset)
        options |= {"number_of_frames": pixels.frames, "pixel_keyword": "PixelData"}
        options |= {
            "transfer_syntax_uid": syntax,
            "pixel_vr": "OB" if options["bits_allocated"] == 8 else "OW",
        }
        if (offsets := _offsets(source, pixels.frames)) is not None:
            options["extended_offsets"] = offsets
        source.stream.seek(source.start)
        # All frames in order are read in one go; others are looked up one by one.
        wanted = None if list(indices) == list(range(pixels.frames)) else list(indices)
        count = 0
        for image, _ in decoder.iter_array(source.stream, indices=wanted, raw=pixels.layout.channels == 1, **options):
            yield _finished(image, source.dataset, pixels)
            count += 1
        # Without an offset table a decoder may take the fragments of several images for those of one.
        if count != len(indices):
            raise DicomRefused("undecodable", f"Its pixel data decode to {count} images, not {len(indices)}.")
    except (DicomRefused, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Each decoder has errors of its own; a panic of one in Rust is no Exception.
        reason = f"Its pixel data cannot be decoded ({syntax.name}, {type(error).__name__})."
        raise DicomRefused("undecodable", reason) from None


def _offsets(source: Source, frames: int) -> tuple[bytes, bytes] | None:
    """Where each frame is, when each is one fragment: without it, finding frame k would read all before it."""
    if source.fragments is None or len(source.fragments) != frames:
        return None
    first = source.fragments[0][0] - 8
    starts = [offset - 8 - first for offset, _ in source.fragments]
    lengths = [length for _, length in source.fragments]
    return struct.pack(f"<{frames}Q", *starts), struct.pack(f"<{frames}Q", *lengths)


def _finished(image: np.ndarray, dataset: Dataset, pixels: Pixels) -> np.ndarray:
    layout = pixels.layout
    if pixels.palette:
        image = apply_color_lut(image, dataset)
    elif pixels.lut:
        image = apply_modality_lut(image, dataset)
    if pixels.drop_bits:
        image = image >> pixels.drop_bits
    shape = (layout.height, layout.width) + ((3,) if layout.channels == 3 else ())
    if image.shape != shape:
        raise DicomRefused("undecodable", "Its pixel data decode to another size than its header says.")
    return np.ascontiguousarray(image, layout.dtype)


def _frame(dataset: Dataset, pixels: Pixels, index: int, number: int, image: np.ndarray, warnings: list[str]) -> Frame:
    groups = FunctionalGroups(dataset, index)
    position = header.numbers(groups.find("PlanePositionSequence", "ImagePositionPatient"), "ImagePositionPatient", 3)
    orientation = header.numbers(
        groups.find("PlaneOrientationSequence", "ImageOrientationPatient"), "ImageOrientationPatient", 6
    )
    measures = groups.find("PixelMeasuresSequence", "PixelSpacing")
    rows_columns = header.numbers(measures, "PixelSpacing", 2)
    # Pixel Spacing gives the distance of rows, which is y, first (PS3.3 10.7.1.3).
    spacing = rows_columns[::-1] if rows_columns and min(rows_columns) > 0 else None
    slope, intercept = _rescale(groups, pixels, warnings)
    low, high, integral = rescaled_range(image, slope, intercept) if pixels.layout.channels == 1 else (0.0, 255.0, True)
    frame = Frame(
        number=number,
        index=index,
        position=_grid_frame(dataset, position, orientation, index),
        orientation=orientation,
        spacing=spacing,
        thickness=header.positive(groups.find("PixelMeasuresSequence", "SliceThickness"), "SliceThickness"),
        tilt=header.number(groups.find("CTGeometrySequence", "GantryDetectorTilt"), "GantryDetectorTilt") or 0.0,
        slope=slope,
        intercept=intercept,
        sha256="",
        minimum=low,
        maximum=high,
        integral=integral,
    )
    return replace(frame, sha256=_fingerprint(pixels.layout, frame, image))


class FunctionalGroups:
    """Where a frame's attributes are: of its own, shared by all frames (PS3.3 C.7.6.16), or in the data set itself."""

    def __init__(self, dataset: Dataset, index: int) -> None:
        self.dataset = dataset
        own = header.value_of(dataset, "PerFrameFunctionalGroupsSequence")
        shared = header.value_of(dataset, "SharedFunctionalGroupsSequence")
        self.groups = [own[index]] if own and index < len(own) else []
        self.groups += [shared[0]] if shared else []

    def find(self, sequence: str, keyword: str) -> Dataset:
        """The first data set that has the keyword."""
        for group in self.groups:
            items: Sequence[Dataset] = header.value_of(group, sequence) or ()
            if items and keyword in items[0]:
                return items[0]
        return self.dataset


def _rescale(groups: FunctionalGroups, pixels: Pixels, warnings: list[str]) -> tuple[float, float]:
    if pixels.lut or pixels.layout.channels == 3:
        return 1.0, 0.0
    place = groups.find("PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = header.number(place, "RescaleSlope"), header.number(place, "RescaleIntercept")
    if slope == 0:
        warnings.append("A Rescale Slope of 0 is taken as 1.")
    return slope or 1.0, intercept or 0.0


def _grid_frame(
    dataset: Dataset, position: tuple[float, ...] | None, orientation: tuple[float, ...] | None, index: int
) -> tuple[float, ...] | None:
    """A dose grid gives its first position and the offsets of its frames along the normal (PS3.3 C.8.8.3.2)."""
    offsets = header.value_of(dataset, "GridFrameOffsetVector")
    if position is None or orientation is None or offsets is None or isinstance(offsets, str | float):
        return position
    if index >= len(offsets) or float(offsets[0]) != 0:
        return position
    normal = np.cross(orientation[:3], orientation[3:])
    return tuple(float(p) for p in np.array(position) + normal * float(offsets[index]))


def _fingerprint(layout: PixelLayout, frame: Frame, image: np.ndarray) -> str:
    """SHA-256 of what the image is, in whatever transfer syntax it came."""
    place = (
        frame.position,
        frame.orientation,
        frame.spacing,
        frame.thickness,
        frame.tilt,
        frame.slope,
        frame.intercept,
    )
    digest = hashlib.sha256(repr((layout, place)).encode())
    digest.update(image.astype(image.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()
