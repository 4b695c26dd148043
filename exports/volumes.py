"""The slices of exported volumes. numpy only, no Django; one slice is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cases.dicom.rescale import rescale
from cases.label_bits import LabelVoxels, paint


def isolated_slices(label: LabelVoxels, size: Sequence[int]) -> Iterator[np.ndarray]:
    """The slices (y, x), uint8 0 or 1, of a volume of `size` (x, y, z) with one label."""
    return combined_slices([(1, label)], size, np.dtype(np.uint8))


def combined_slices(
    labels: Sequence[tuple[int, LabelVoxels]], size: Sequence[int], dtype: np.dtype
) -> Iterator[np.ndarray]:
    """The slices (y, x) of a volume of `size` (x, y, z): each label painted with its value, later over earlier.

    A slice may be the same array again when nothing is painted on it; whoever keeps slices must copy them.
    """
    width, height, depth = size
    empty = np.zeros((height, width), dtype)
    for k in range(depth):
        here = [(value, label) for value, label in labels if label.reaches(k)]
        if not here:
            yield empty
            continue
        slice_ = np.zeros((height, width), dtype)
        for value, label in here:
            paint(slice_, k, label, value)
        yield slice_


def convert(stored: np.ndarray, slope: float, intercept: float, element_type: str) -> np.ndarray:
    """The rescaled values, little-endian, of the same shape. Raises OverflowError where one does not fit the type."""
    dtype = np.dtype(element_type).newbyteorder("<")
    if stored.ndim == 3:
        return np.ascontiguousarray(stored, dtype)
    values = rescale(stored, slope, intercept)
    if dtype.kind in "iu" and values.size:
        if values.dtype.kind == "f":
            values = np.rint(values)
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise OverflowError(f"A rescaled value does not fit {element_type}.")
    return np.ascontiguousarray(values, dtype)
