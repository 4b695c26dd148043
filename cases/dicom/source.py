"""Opening a DICOM file (PS3.10): its data set without the pixel data, and where the pixel data lies.

Nothing here holds a volume in memory. Sizes that a file claims are checked before anything is read for them.
"""

from __future__ import annotations

import io
import logging
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cases.dicom.errors import DicomRefused

# Complaints about a value quote it, and it may be the patient's name: no warnings and no logs. Importing pydicom sets
# its logger's level, so this must come after it.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"(pydicom|pylibjpeg|libjpeg|openjpeg|rle)(\..*)?\Z")
for name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle"):
    logging.getLogger(name).setLevel(logging.CRITICAL + 1)

PREAMBLE = 132
PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = {0x7FE00008, 0x7FE00009}
UNDEFINED = 0xFFFFFFFF
ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
# A deflated file of a few kilobytes may claim any size.
MAX_INFLATED = 2 * 2**30
MAX_FRAGMENTS = 10**6
SMALL = 4 * 2**20

NOT_DICOM = DicomRefused("not_dicom", "It is not a DICOM file.")


@dataclass(frozen=True, slots=True)
class Source:
    """`stream` holds the pixel data's value from `start` on; encapsulated ones have `fragments` (offset, length)."""

    dataset: Dataset
    stream: BinaryIO
    start: int
    length: int
    fragments: tuple[tuple[int, int], ...] | None

    @property
    def transfer_syntax(self) -> UID:
        return UID(self.dataset.file_meta.TransferSyntaxUID)


def buffered(file: BinaryIO, size: int) -> BinaryIO:
    """The file, or its content where that is small: parsing asks for a few bytes at a time, thousands of times."""
    return io.BytesIO(file.read()) if size <= SMALL else file


@contextmanager
def open_header(file: BinaryIO, tags: Sequence[int] | None = None) -> Iterator[tuple[Dataset, BinaryIO]]:
    """The data set up to its pixel data, all of it or just `tags`, and the stream, which stands where they begin.

    Files without preamble are taken when the rest makes sense. Raises DicomRefused.
    """
    file.seek(0)
    start = file.read(PREAMBLE)
    if not start:
        raise DicomRefused("empty", "The file is empty.")
    is_part10 = start[128:] == b"DICM"
    try:
        dataset, stream = _read(file, PREAMBLE if is_part10 else 0, None if tags is None else list(tags))
    except DicomRefused:
        raise
    except Exception:  # A damaged file makes pydicom raise nearly anything.
        raise (DicomRefused("damaged", "Its header is damaged or cut off.") if is_part10 else NOT_DICOM) from None
    if not is_part10 and "SeriesInstanceUID" not in dataset:
        raise NOT_DICOM
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    try:
        yield dataset, stream
    finally:
        if stream is not file:
            stream.close()


def _read(file: BinaryIO, start: int, tags: list[int] | None) -> tuple[Dataset, BinaryIO]:
    file.seek(start)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        stream = _inflate(file)
        dataset = read_dataset(
            stream, False, True, stop_when=lambda tag, vr, length: tag >= 0x7FE00008, specific_tags=tags
        )
        dataset.file_meta = FileMetaDataset(meta)
        return dataset, stream
    file.seek(0)
    return pydicom.dcmread(file, force=start == 0, stop_before_pixels=True, specific_tags=tags), file


def _inflate(file: BinaryIO) -> BinaryIO:
    """What follows in `file`, inflated (PS3.5 A.5), in a temporary file."""
    target = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=8 * 2**20))  # noqa: SIM115  the caller closes it
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not inflater.eof:
            chunk = inflater.unconsumed_tail or file.read(2**16)
            if not chunk:
                raise DicomRefused("truncated", "The file is truncated: its deflated part has no end.")
            target.write(inflater.decompress(chunk, 2**20))
            if target.tell() > MAX_INFLATED:
                raise DicomRefused("too_large", "The file inflates to more than 2 GiB.")
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def _guessed_syntax(dataset: Dataset) -> UID:
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


@contextmanager
def open_source(file: BinaryIO, tags: Sequence[int] | None = None) -> Iterator[Source]:
    """The data set and where its pixel data are. Raises DicomRefused where there are none or not all of them."""
    with open_header(file, tags) as (dataset, stream):
        yield _source(dataset, stream)


def _source(dataset: Dataset, stream: BinaryIO) -> Source:
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not syntax.is_transfer_syntax:
        raise DicomRefused("transfer_syntax", "Its transfer syntax is not known.")
    order = "<" if syntax.is_little_endian else ">"
    head = stream.read(12)
    if len(head) < 8:
        raise DicomRefused("no_pixel_data", "It holds no pixel data, or ends before them.")
    group, element = struct.unpack(f"{order}HH", head[:4])
    tag = group << 16 | element
    if tag in FLOAT_PIXEL_DATA:
        raise DicomRefused("float_pixels", "Its pixels are floating-point numbers; 8 to 32 bit integers are stored.")
    if tag != PIXEL_DATA:
        raise DicomRefused("no_pixel_data", "It holds no pixel data.")
    if syntax.is_implicit_VR:
        (length,) = struct.unpack(f"{order}L", head[4:8])
        # Of a single pixel there may be less than 4 bytes.
        stream.seek(8 - len(head), 1)
    elif len(head) == 12:
        (length,) = struct.unpack(f"{order}L", head[8:12])
    else:
        raise DicomRefused("truncated", "The file is truncated where its pixel data begin.")
    start = stream.tell()
    end = stream.seek(0, 2)
    if (length == UNDEFINED) != syntax.is_encapsulated:
        raise DicomRefused("wrong_syntax", f"Its pixel data are not encoded as its transfer syntax {syntax} says.")
    if length != UNDEFINED:
        if start + length > end:
            raise DicomRefused("truncated", "The file is truncated: it ends within its pixel data.")
        return Source(dataset, stream, start, length, None)
    return Source(dataset, stream, start, end - start, tuple(_fragments(stream, start, end)))


def _fragments(stream: BinaryIO, start: int, end: int) -> list[tuple[int, int]]:
    """(offset, length) of the fragments of encapsulated pixel data (PS3.5 A.4), without the Basic Offset Table."""
    found: list[tuple[int, int]] = []
    position = start
    while position < end:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            raise DicomRefused("truncated", "The file is truncated: it ends within its pixel data.")
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return found[1:]
        if tag != ITEM or length == UNDEFINED or len(found) > MAX_FRAGMENTS:
            raise DicomRefused("damaged", "Its encapsulated pixel data are damaged.")
        position += 8 + length
        if position > end:
            raise DicomRefused("truncated", "The file is truncated: it ends within its pixel data.")
        found.append((position - length, length))
    # No end of the sequence, but no broken fragment either: what there is can be decoded or not.
    return found[1:]
