"""Counting label voxels in chunks against counting them in one array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.verification.tally import VoxelCounter


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*[st.integers(1, 5)] * 3),
    layers=st.integers(1, 4),
    kind=st.sampled_from(["uint8", "uint16"]),
    step=st.integers(1, 40),
)
def test_tallies(seed: int, size: tuple[int, int, int], layers: int, kind: str, step: int) -> None:
    width, height, depth = size
    values = np.array([0, 0, 1, 2, 255 if kind == "uint8" else 40_000], kind)
    voxels = np.random.default_rng(seed).choice(values, (depth, height, width, layers))
    counted = VoxelCounter(size, np.dtype(kind).newbyteorder("<"), layers)
    data = voxels.astype(counted.dtype).tobytes()
    assert counted.bytes_expected == len(data)
    for start in range(0, len(data), step):
        counted.feed(data[start : start + step])
    expected, shared = {}, {}
    for layer in range(layers):
        for value in values[2:].tolist():
            z, y, x = np.nonzero(voxels[..., layer] == value)
            if x.size:
                expected[layer, value] = (
                    x.size,
                    tuple(int(edge) for axis in (x, y, z) for edge in (axis.min(), axis.max())),
                )
            for other in range(layer + 1, layers):
                for second in values[2:].tolist():
                    both = (voxels[..., layer] == value) & (voxels[..., other] == second)
                    if both.any():
                        shared[(layer, value), (other, second)] = int(both.sum())
    assert {key: (tally.count, tally.box) for key, tally in counted.found.items()} == expected
    assert counted.shared == shared


@pytest.mark.parametrize(("size", "layers"), [((1, 1, 1), 0), ((1, 1, 1), 10**9), ((0, 1, 1), 1)])
def test_files_that_claim_the_impossible(size: tuple[int, int, int], layers: int) -> None:
    with pytest.raises(ValueError, match="claims"):
        VoxelCounter(size, np.dtype("u1"), layers)


def test_noise_does_not_fill_the_memory() -> None:
    noise = VoxelCounter((2**16, 2**4, 1), np.dtype("<u2"), 8)
    data = np.random.default_rng(1).integers(1, 2**16, 2**22).astype("<u2").tobytes()
    with pytest.raises(ValueError, match="more (different values|overlaps)"):
        noise.feed(data)
