"""Slices of exported volumes: exact values, labels where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.dicom.rescale import rescaled_range
from cases.geometry import element_type
from cases.label_bits import LabelVoxels, pack
from exports.volumes import combined_slices, convert, isolated_slices

SIZE = (7, 5, 4)


@st.composite
def labels(draw: st.DrawFn) -> tuple[LabelVoxels, np.ndarray]:
    """A label and the same as a full mask (z, y, x); the box may touch any face."""
    origin = tuple(draw(st.integers(0, extent - 1)) for extent in SIZE)
    size = tuple(draw(st.integers(1, extent - o)) for extent, o in zip(SIZE, origin, strict=True))
    bits = draw(st.binary(min_size=size[0] * size[1] * size[2], max_size=size[0] * size[1] * size[2]))
    box = (np.frombuffer(bits, np.uint8) & 1).reshape(size[::-1]).astype(bool)
    mask = np.zeros(SIZE[::-1], bool)
    x, y, z = origin
    mask[z : z + size[2], y : y + size[1], x : x + size[0]] = box
    return LabelVoxels(pack(box), origin, size), mask  # type: ignore[arg-type]


@given(st.lists(labels(), max_size=4))
def test_labels_are_painted_in_order(painted: list[tuple[LabelVoxels, np.ndarray]]) -> None:
    expected = np.zeros(SIZE[::-1], np.uint16)
    for value, (_, mask) in enumerate(painted, 300):
        expected[mask] = value
    slices = combined_slices([(v, label) for v, (label, _) in enumerate(painted, 300)], SIZE, np.dtype(np.uint16))
    assert np.array_equal(np.stack([s.copy() for s in slices]), expected)
    for label, mask in painted:
        alone = np.stack([s.copy() for s in isolated_slices(label, SIZE)])
        assert alone.dtype == np.uint8
        assert np.array_equal(alone, mask)


def test_an_empty_label_is_an_empty_volume() -> None:
    slices = list(isolated_slices(LabelVoxels(b"", (0, 0, 0), (0, 0, 0)), SIZE))
    assert len(slices) == 4
    assert not np.any(slices)


STORED = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]


@given(
    st.sampled_from(STORED),
    st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4),
    st.sampled_from([1.0, -1.0, 2.0, 1000.0, 0.5, 0.1, 0.684, 1e-3]),
    st.sampled_from([0.0, -1024.0, 32768.0, 1e6, 0.25]),
)
def test_conversion_is_exact_and_never_wraps(dtype: str, raw: list[int], slope: float, intercept: float) -> None:
    stored = np.array(raw, np.uint32).astype(dtype).reshape(2, 2)
    low, high, integral = rescaled_range(stored, slope, intercept)
    name = element_type(low, high, integral, 1)
    got = convert(stored, slope, intercept, name)
    assert got.dtype == np.dtype(name)
    if name == "float32":
        expected = stored.astype(np.float64) * slope + intercept
        assert np.allclose(got, expected, rtol=1e-6, atol=0)
    else:
        whole = slope.is_integer() and intercept.is_integer()
        for value, exact in zip(got.ravel().tolist(), stored.ravel().tolist(), strict=True):
            assert value == (exact * int(slope) + int(intercept) if whole else exact * slope + intercept)


def test_conversion_refuses_what_does_not_fit() -> None:
    with pytest.raises(OverflowError):
        convert(np.array([[40000]], np.uint16), 1.0, 0.0, "int16")


@pytest.mark.parametrize(
    ("low", "high", "integral", "channels", "name"),
    [
        (-1024, 3071, True, 1, "int16"),
        (0, 255, True, 1, "int16"),
        (-32768, 32767, True, 1, "int16"),
        (0, 32768, True, 1, "uint16"),
        (0, 65536, True, 1, "int32"),
        (-1, 40000, True, 1, "int32"),
        (0, 2**31, True, 1, "float32"),
        (0.5, 1.5, False, 1, "float32"),
        (0, 255, True, 3, "uint8"),
    ],
)
def test_element_types(low: float, high: float, integral: bool, channels: int, name: str) -> None:
    assert element_type(low, high, integral, channels) == name
