"""Label voxels as bits: one a voxel, x fastest, then y, then z, most significant bit first. numpy only, no Django.

Voxel i of a box is bit `7 - i % 8` of byte `i // 8`. Neither rows nor slices are padded, so that a slice may begin in
the middle of a byte; the last byte is padded with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def byte_length(size: Sequence[int]) -> int:
    """Bytes of a box of (x, y, z) voxels."""
    x, y, z = size
    return (x * y * z + 7) // 8


def pack(mask: np.ndarray) -> bytes:
    """The bits of a mask (z, y, x); whatever is not zero is set."""
    return np.packbits(np.ascontiguousarray(mask).ravel() != 0, bitorder="big").tobytes()


def unpack(data: bytes, size: Sequence[int]) -> np.ndarray:
    """The mask (z, y, x), bool, of a box of (x, y, z) voxels. Raises ValueError where the bytes do not fit."""
    x, y, z = size
    if len(data) != byte_length(size):
        raise ValueError(f"A box of {x} x {y} x {z} voxels has {byte_length(size)} bytes, not {len(data)}.")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=x * y * z, bitorder="big")
    return bits.reshape(z, y, x).astype(bool)


@dataclass(frozen=True, slots=True)
class LabelVoxels:
    """The bits of a box of `size` (x, y, z) whose first voxel is at `origin` (x, y, z) of the partial volume."""

    data: Any  # an object with the buffer protocol
    origin: tuple[int, int, int]
    size: tuple[int, int, int]

    def reaches(self, k: int) -> bool:
        """Whether slice k of the partial volume cuts the box."""
        return 0 <= k - self.origin[2] < self.size[2] and self.size[0] > 0 and self.size[1] > 0

    def slice_bits(self, k: int) -> np.ndarray:
        """The box's part (y, x) of slice k of the partial volume, uint8 0 or 1. The box must reach k."""
        width, height, _ = self.size
        count = width * height
        first = (k - self.origin[2]) * count
        whole = np.frombuffer(self.data, np.uint8)[first // 8 : (first + count + 7) // 8]
        bits = np.unpackbits(whole, bitorder="big")[first % 8 : first % 8 + count]
        return bits.reshape(height, width)


def paint(slice_: np.ndarray, k: int, label: LabelVoxels, value: int) -> None:
    """Sets the label's voxels of slice k in `slice_` (y, x) to `value`; the box must lie inside it."""
    if not label.reaches(k):
        return
    x, y, _ = label.origin
    width, height, _ = label.size
    slice_[y : y + height, x : x + width][label.slice_bits(k).view(bool)] = value
