"""Pixel data that are not encapsulated (PS3.5 8.1.1): each image is a run of numbers in its file. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cases.dicom.errors import DicomRefused


@dataclass(frozen=True, slots=True)
class NativePixels:
    """`start` is where the first image begins, in bytes; `bits` (Bits Stored) of each number are its value."""

    start: int
    bits: int
    big_endian: bool = False

    def image(self, file: BinaryIO, index: int, *, width: int, height: int, dtype: str) -> np.ndarray:
        """Image `index` (from 0) as (height, width), unused high bits cleared. Raises DicomRefused."""
        stored = np.dtype(dtype).newbyteorder(">" if self.big_endian else "<")
        size = width * height * stored.itemsize
        file.seek(self.start + index * size)
        data = file.read(size)
        if len(data) != size:
            raise DicomRefused("truncated", "The file is truncated: it ends within its pixel data.")
        image = np.frombuffer(data, stored).reshape(height, width).astype(dtype, copy=False)
        unused = 8 * stored.itemsize - self.bits
        # What stands in the unused bits may be an overlay; those of a negative number repeat its sign.
        return image << unused >> unused if unused else image
