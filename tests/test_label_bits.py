"""Label voxels: bits, most significant first, of boxes whose slices may begin in the middle of a byte."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.label_bits import LabelVoxels, byte_length, pack, paint, unpack

sizes = st.tuples(*[st.integers(1, 7)] * 3)


def read_bit(data: bytes, i: int) -> int:
    """As the contract says it: voxel i is bit 7 - i % 8 of byte i // 8."""
    return data[i // 8] >> (7 - i % 8) & 1


@given(sizes, st.randoms())
def test_every_voxel_is_where_the_contract_says(size: tuple[int, int, int], random: object) -> None:
    x, y, z = size
    mask = np.array([random.getrandbits(1) for _ in range(x * y * z)]).reshape(z, y, x)  # type: ignore[attr-defined]
    data = pack(mask)
    assert len(data) == byte_length(size) == -(-x * y * z // 8)
    for k, j, i in product(range(z), range(y), range(x)):
        assert read_bit(data, i + x * (j + y * k)) == mask[k, j, i]
    assert all(read_bit(data, i) == 0 for i in range(x * y * z, 8 * len(data)))
    assert np.array_equal(unpack(data, size), mask)
    label = LabelVoxels(data, (0, 0, 3), size)
    for k in range(z):
        assert label.reaches(3 + k)
        assert np.array_equal(label.slice_bits(3 + k), mask[k])
    assert not label.reaches(2)
    assert not label.reaches(3 + z)


def test_unpack_refuses_other_lengths() -> None:
    for data in (b"", b"\0\0"):
        with pytest.raises(ValueError, match="has 1 bytes"):
            unpack(data, (2, 2, 2))


def test_paint_touches_only_what_is_set() -> None:
    slice_ = np.full((4, 5), 7, np.uint8)
    label = LabelVoxels(pack(np.array([[[1, 0], [0, 1]]])), (3, 2, 1), (2, 2, 1))
    paint(slice_, 0, label, 9)
    assert (slice_ == 7).all()
    paint(slice_, 1, label, 9)
    assert np.argwhere(slice_ == 9).tolist() == [[2, 3], [3, 4]]
    assert (slice_ == 7).sum() == 18
    paint(slice_, 0, LabelVoxels(b"", (0, 0, 0), (0, 0, 0)), 1)
    assert (slice_ == 1).sum() == 0


def test_label_bits_are_the_contracts() -> None:
    """The bits that tests draw with are checked here against the contract's own words, not our own code."""
    assert pack(np.array([[[1, 0, 0], [0, 0, 1]], [[0, 1, 1], [0, 0, 0]]])) == bytes([0b10000101, 0b10000000])
