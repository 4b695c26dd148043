"""A volume as a gzip'd NRRD file whose deflate stream is cut at each image. Plain Python and numpy, no Django.

Any NRRD reader opens such a file; and because each image is a piece of its own (see `cases.deflate`), an archive takes
the images that it needs, in any order, without decompressing one.

NRRD: https://teem.sourceforge.net/nrrd/format.html. gzip: RFC 1952.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import nrrd
import numpy as np

from cases.deflate import END, Deflated, combine_crc, crc32, deflate, is_repetitive, joined
from cases.geometry import VolumeGeometry

CHUNK = 2**20
# So many rows tell how an image is best compressed.
SAMPLED_ROWS = 16
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
NRRD_TYPES = {"float32": "float"}
# Of each image: its number, where its piece lies in the file, the CRC-32 of its voxels, and that of the piece itself.
ENTRY = np.dtype([("number", "<u8"), ("offset", "<u8"), ("length", "<u8"), ("crc", "<u4"), ("check", "<u4")])


class DamagedSlices(Exception):
    """The file is not what its index says."""


def nrrd_header(
    *,
    element_type: str,
    size: Sequence[int],
    channels: int = 1,
    layers: int = 1,
    geometry: VolumeGeometry,
    encoding: str,
    more: Sequence[str] = (),
) -> bytes:
    """Up to and with the empty line. `size` is (x, y, z); space is DICOM's LPS. `more` are key/value lines.

    Colour, or layers where there are several, are the first, fastest axis. pynrrd formats what has more than one
    number; its `write` wants all voxels as one array, and writes the hour into the header.
    """
    first = ("RGB-color", channels) if channels == 3 else ("list", layers)
    extra = first[1] != 1
    axes = np.array(geometry.direction).reshape(3, 3).T * np.array(geometry.spacing)[:, None]
    lines = [
        "NRRD0004",
        f"type: {NRRD_TYPES.get(element_type, element_type)}",
        f"dimension: {4 if extra else 3}",
        "space: left-posterior-superior",
        f"sizes: {nrrd.format_number_list(np.array([first[1], *size] if extra else size))}",
        f"space directions: {nrrd.format_optional_vector_list([None, *axes] if extra else list(axes))}",
        f"kinds: {f'{first[0]} ' if extra else ''}domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        f"space origin: {nrrd.format_vector(np.array(geometry.origin, float))}",
        *more,
    ]
    return ("\n".join(lines) + "\n\n").encode()


@dataclass(frozen=True, slots=True)
class Slice:
    """One image as a piece of the file: the CRC-32 of its `size` bytes of voxels, and that of the piece itself."""

    piece: bytes
    size: int
    crc: int
    check: int


def compress_slice(voxels: np.ndarray) -> Slice:
    """Of little-endian, C-contiguous voxels."""
    sample = np.ascontiguousarray(voxels[:: max(1, len(voxels) // SAMPLED_ROWS)])
    piece = deflate(voxels.data, repetitive=is_repetitive(sample.data))
    return Slice(piece, voxels.nbytes, crc32(voxels.data), crc32(piece))


class SliceWriter:
    """Writes the file, an image at a time."""

    def __init__(self, file: BinaryIO, header: bytes) -> None:
        self._file = file
        self.position = 0
        self._crc = self._size = 0
        self._entries: list[tuple[int, int, int, int, int]] = []
        self._write(header + GZIP_HEADER)

    def add(self, number: int, image: Slice) -> None:
        self._entries.append((number, self.position, len(image.piece), image.crc, image.check))
        self._crc = combine_crc(self._crc, image.crc, image.size)
        self._size += image.size
        self._write(image.piece)

    def finish(self) -> bytes:
        """The index of the file."""
        self._write(END + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF))
        return pack_index(self._entries)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.position += len(data)


def pack_index(entries: Iterable[tuple[int, int, int, int, int]]) -> bytes:
    """Of (number, offset, length, CRC of the voxels, CRC of the piece) for each image, in the order of the file."""
    return np.array(list(entries), ENTRY).tobytes()


class SliceReader:
    """The pieces of images in an open file. `slice_bytes` is the size of one decoded image."""

    def __init__(self, file: BinaryIO, index: bytes, slice_bytes: int) -> None:
        self._file, self._slice_bytes = file, slice_bytes
        self._entries = np.frombuffer(index, ENTRY)
        self._places = {int(number): place for place, number in enumerate(self._entries["number"])}

    def slice(self, number: int) -> Slice:
        """One image. Raises DamagedSlices."""
        _, offset, length, crc, check = self._entries[self._places[number]].tolist()
        return Slice(b"".join(self._read(offset, length, check)), self._slice_bytes, crc, check)

    @property
    def numbers(self) -> list[int]:
        """Of all images, in the order in which they stand in the file."""
        return list(self._places)

    def has(self, numbers: Iterable[int]) -> bool:
        return all(number in self._places for number in numbers)

    def pieces(self, numbers: Sequence[int]) -> Deflated:
        """These images in this order. Reading raises DamagedSlices where the file is not what it was."""
        places = [self._places[number] for number in numbers]
        starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(places)) if b != a + 1), len(places)]
        return joined([self._run(places[a], places[b - 1]) for a, b in pairwise(starts)])

    def _run(self, first: int, last: int) -> Deflated:
        """Images whose pieces follow each other in the file."""
        rows = self._entries[first : last + 1]
        crc = check = 0
        for length, of_voxels, of_piece in zip(*(rows[n].tolist() for n in ("length", "crc", "check")), strict=True):
            crc = combine_crc(crc, of_voxels, self._slice_bytes)
            check = combine_crc(check, of_piece, length)
        length = int(rows["length"].sum())
        start = int(rows["offset"][0])
        return Deflated(len(rows) * self._slice_bytes, crc, length, lambda: self._read(start, length, check))

    def _read(self, start: int, length: int, check: int) -> Iterator[Any]:
        seen, left = 0, length
        self._file.seek(start)
        while left and (chunk := self._file.read(min(left, CHUNK))):
            seen = crc32(chunk, seen)
            left -= len(chunk)
            yield chunk
        if left or seen != check:
            raise DamagedSlices
