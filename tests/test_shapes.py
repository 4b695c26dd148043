"""Shapes as masks, against a plain loop over the voxels of the volume."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.label_bits import LabelVoxels, unpack
from exports.shapes import KINDS, rasterize

SIZE = (9, 7, 19)
SPACINGS = [(1.0, 1.0, 1.0), (0.5, 0.75, 2.5), (0.3, 0.7, 0.1)]
coordinates = st.one_of(
    # Often on voxel borders and centres, where mistakes are.
    st.integers(-4, 24).map(lambda n: n / 2),
    st.floats(-30, 60),
    st.sampled_from([-1e15, 1e15, 0.0]),
)


def full(mask: LabelVoxels) -> np.ndarray:
    """The mask in the whole volume, (z, y, x); it lies inside."""
    whole = np.zeros(SIZE[::-1], bool)
    x, y, z = mask.origin
    box = unpack(bytes(mask.data), mask.size)
    whole[z : z + mask.size[2], y : y + mask.size[1], x : x + mask.size[0]] = box
    assert whole.sum() == box.sum()
    return whole


def loop(spacing: tuple[float, ...], inside: Any) -> np.ndarray:
    whole = np.zeros(SIZE[::-1], bool)
    for k, j, i in product(*(range(n) for n in SIZE[::-1])):
        centre = [(index + 0.5) * step for index, step in zip((i, j, k), spacing, strict=True)]
        whole[k, j, i] = inside(*centre, k)
    return whole


def ordered(a: list[float], b: list[float]) -> list[tuple[float, float]]:
    return [(min(pair), max(pair)) for pair in zip(a, b, strict=True)]


def on_slice(z: float, spacing: tuple[float, ...]) -> int:
    return math.floor(z / spacing[2] + 1e-6)


def in_ellipsoid(point: list[float], bounds: list[tuple[float, float]]) -> bool:
    total = 0.0
    for value, (low, high) in zip(point, bounds, strict=True):
        if low == high or not low <= value <= high:
            return False
        total += ((value - (low / 2 + high / 2)) / (high / 2 - low / 2)) ** 2
    return total <= 1


def in_polygon(x: float, y: float, points: list[tuple[float, float]]) -> bool:
    """Franklin's test: how often a ray to the right crosses the outline."""
    inside = False
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        (x1, y1), (x2, y2) = sorted([(x1, y1), (x2, y2)], key=lambda point: point[1])
        if y1 <= y < y2 and x < x1 + (y - y1) * ((x2 - x1) / (y2 - y1)):
            inside = not inside
    return inside


triples = st.lists(coordinates, min_size=3, max_size=3)
pairs = st.lists(coordinates, min_size=2, max_size=2)


@given(st.sampled_from(SPACINGS), triples, triples)
def test_cuboids_and_ellipsoids(spacing: tuple[float, ...], low: list[float], high: list[float]) -> None:
    bounds = ordered(low, high)
    data = {"min": low, "max": high}
    expected = loop(spacing, lambda x, y, z, k: all(a <= c <= b for c, (a, b) in zip((x, y, z), bounds, strict=True)))
    assert np.array_equal(full(rasterize("cuboid", data, spacing=spacing, size=SIZE)), expected)
    expected = loop(spacing, lambda x, y, z, k: in_ellipsoid([x, y, z], bounds))
    assert np.array_equal(full(rasterize("ellipsoid", data, spacing=spacing, size=SIZE)), expected)


@given(st.sampled_from(SPACINGS), pairs, pairs, coordinates)
def test_rectangles_and_ellipses(spacing: tuple[float, ...], low: list[float], high: list[float], z: float) -> None:
    bounds = ordered(low, high)
    data = {"min": low, "max": high, "z": z}
    here = on_slice(z, spacing)
    expected = loop(
        spacing, lambda x, y, z, k: k == here and all(a <= c <= b for c, (a, b) in zip((x, y), bounds, strict=True))
    )
    assert np.array_equal(full(rasterize("rectangle", data, spacing=spacing, size=SIZE)), expected)
    expected = loop(spacing, lambda x, y, z, k: k == here and in_ellipsoid([x, y], bounds))
    assert np.array_equal(full(rasterize("ellipse", data, spacing=spacing, size=SIZE)), expected)


@given(st.sampled_from(SPACINGS), st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=8), coordinates)
def test_polylines(spacing: tuple[float, ...], points: list[tuple[float, float]], z: float) -> None:
    here = on_slice(z, spacing)
    clipped = [(max(min(x, 1e12), -1e12), max(min(y, 1e12), -1e12)) for x, y in points]
    expected = loop(spacing, lambda x, y, z, k: k == here and in_polygon(x, y, clipped))
    data = {"points": [list(point) for point in points], "z": z}
    assert np.array_equal(full(rasterize("polyline", data, spacing=spacing, size=SIZE)), expected)


@given(st.sampled_from(SPACINGS), st.tuples(*[st.integers(0, n - 1) for n in SIZE]), st.data())
def test_a_cuboid_around_voxels_is_their_box(
    spacing: tuple[float, ...], origin: tuple[int, int, int], data: st.DataObject
) -> None:
    """Shapes and voxel labels stand in the same place."""
    size = tuple(data.draw(st.integers(1, n - o)) for o, n in zip(origin, SIZE, strict=True))
    low = [o * s for o, s in zip(origin, spacing, strict=True)]
    high = [(o + n) * s for o, n, s in zip(origin, size, spacing, strict=True)]
    mask = rasterize("cuboid", {"min": low, "max": high}, spacing=spacing, size=SIZE)
    assert (mask.origin, mask.size) == (origin, size)
    assert unpack(mask.data, mask.size).all()
    # Whether a viewer writes the near face of a slice or its middle.
    for z in (origin[2] * spacing[2], (origin[2] + 0.5) * spacing[2]):
        flat = rasterize("rectangle", {"min": low[:2], "max": high[:2], "z": z}, spacing=spacing, size=SIZE)
        assert (flat.origin, flat.size) == (origin, (*size[:2], 1))


def test_a_ring_is_hollow() -> None:
    """Even-odd: a square that is drawn inside another one, in one stroke, is a hole."""
    outer, inner = [[0, 0], [8, 0], [8, 6], [0, 6], [0, 0]], [[2, 2], [5, 2], [5, 4], [2, 4], [2, 2]]
    mask = full(rasterize("polyline", {"points": [*outer, *inner, [0, 0]], "z": 3}, spacing=(1, 1, 1), size=SIZE))
    assert mask.sum() == 8 * 6 - 3 * 2
    assert not mask[3, 2:4, 2:5].any()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_outside_is_empty(kind: str) -> None:
    for far in (-1000.0, 1000.0, -1e15, 1e15):
        box = {"min": [far, far, far], "max": [far + 5, far + 5, far + 5]}
        data = {
            "cuboid": box,
            "ellipsoid": box,
            "rectangle": {"min": [0, 0], "max": [5, 5], "z": far},
            "ellipse": {"min": [far, 0], "max": [far + 5, 5], "z": 1},
            "polyline": {"points": [[far, 0], [far + 5, 0], [far, 5]], "z": 1},
        }[kind]
        assert rasterize(kind, data, spacing=(0.1, 0.1, 0.1), size=SIZE) == LabelVoxels(b"", (0, 0, 0), (0, 0, 0))


def test_many_points_fill_in_portions() -> None:
    """A star of 20,000 edges, each of which crosses many rows."""
    angles = np.arange(20_000) * (2 * np.pi * 9_999 / 20_000)
    points = np.column_stack([500 + 480 * np.cos(angles), 500 + 480 * np.sin(angles)])
    mask = rasterize("polyline", {"points": points.tolist(), "z": 0}, spacing=(1, 1, 1), size=(1000, 1000, 1))
    box = unpack(mask.data, mask.size)[0]
    x, y, _ = mask.origin
    random = np.random.default_rng(1)
    outline = [tuple(point) for point in points.tolist()]
    for j, i in random.integers(0, min(box.shape), (10, 2)):
        assert box[j, i] == in_polygon(x + i + 0.5, y + j + 0.5, outline)


def test_what_has_no_inside() -> None:
    assert {"point", "ruler", "voxel"}.isdisjoint(KINDS)
