"""Rescale Slope and Intercept (PS3.3 C.11.1)."""

from __future__ import annotations

import numpy as np

EXACT_INT32 = 2**31 - 1


def rescale(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """stored * slope + intercept, exact: int32 or int64 where slope and intercept are integers, else float64."""
    if slope == 1 and intercept == 0:
        return stored
    if not (slope.is_integer() and intercept.is_integer() and max(abs(slope), abs(intercept)) < 2**31):
        return stored.astype(np.float64) * slope + intercept
    largest = max(abs(int(np.iinfo(stored.dtype).min)), int(np.iinfo(stored.dtype).max))
    # One type for the whole image, from bounds that hold for every value: nothing can wrap.
    wide = np.int32 if largest * abs(int(slope)) + abs(int(intercept)) <= EXACT_INT32 else np.int64
    values: np.ndarray = stored.astype(wide)
    if slope != 1:
        values = values * wide(int(slope))
    if intercept:
        values = values + wide(int(intercept))
    return values


def rescaled_range(stored: np.ndarray, slope: float, intercept: float) -> tuple[float, float, bool]:
    """Smallest and largest rescaled value, and whether all of them are integers."""
    low, high = int(stored.min()), int(stored.max())
    if slope.is_integer() and intercept.is_integer():
        ends = (low * int(slope) + int(intercept), high * int(slope) + int(intercept))
        return float(min(ends)), float(max(ends)), True
    values = rescale(stored, slope, intercept)
    return float(values.min()), float(values.max()), bool((values == np.rint(values)).all())


def convert(stored: np.ndarray, slope: float, intercept: float, element_type: str) -> np.ndarray:
    """The rescaled values, little-endian, of the same shape. Raises OverflowError where one does not fit the type."""
    dtype = np.dtype(element_type).newbyteorder("<")
    if stored.ndim == 3:
        return np.ascontiguousarray(stored, dtype)
    values = rescale(stored, slope, intercept)
    if dtype.kind in "iu" and values.size and not np.can_cast(values.dtype, dtype):
        if values.dtype.kind == "f":
            values = np.rint(values)
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise OverflowError(f"A rescaled value does not fit {element_type}.")
    return np.ascontiguousarray(values, dtype)
