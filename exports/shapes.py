"""Shapes as masks: which voxels a cuboid, ellipsoid, rectangle, ellipse or polyline holds. numpy only, no Django.

Coordinates of shapes are millimetres along the axes of the partial volume itself - x along the rows, y along the
columns, z along its images in their order - from the outer corner of its first voxel. So voxel (i, j, k) reaches from
(i, j, k) * spacing to (i + 1, j + 1, k + 1) * spacing, and the cuboid from origin * spacing to (origin + size) *
spacing holds exactly the box of a voxel label with that `origin` and `size`.

A voxel belongs to a shape that holds its centre; the boundary counts as inside. A flat shape lies on the slice that
holds its `z`, which is the slice with the nearest centre. A polyline is closed from its last point to its first and
filled by the even-odd rule; of centres on its very line those at a left or upper edge count. What lies outside the
volume is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cases.label_bits import LabelVoxels

# Where a z is meant to be the border of two slices, rounding must not choose the lower one.
BORDER = 1e-6
# Points beyond any volume are moved here, so that no product overflows.
FAR = 1e12
CROSSINGS = 2**20

EMPTY = LabelVoxels(b"", (0, 0, 0), (0, 0, 0))
Range = tuple[int, int]


def rasterize(kind: str, data: Mapping[str, Any], *, spacing: Sequence[float], size: Sequence[int]) -> LabelVoxels:
    """The mask of a label's `data` in a volume of `size` (x, y, z) voxels of `spacing` mm; without voxels outside it.

    Raises KeyError for a kind that has no inside: a point, a ruler.
    """
    grid = Grid(spacing, size)
    return RASTERIZERS[kind](grid, data)


class Grid:
    """The centres of a volume's voxels along x, y and z, in mm."""

    def __init__(self, spacing: Sequence[float], size: Sequence[int]) -> None:
        self.spacing = [float(value) for value in spacing]
        self.size = [int(value) for value in size]
        self.centres = [(np.arange(count) + 0.5) * step for count, step in zip(self.size, self.spacing, strict=True)]

    def within(self, axis: int, low: float, high: float) -> Range:
        """First and one past the last index whose centre is in [low, high]."""
        inside = np.flatnonzero((self.centres[axis] >= low) & (self.centres[axis] <= high))
        return (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)

    def slice_at(self, z: float) -> Range:
        position = z / self.spacing[2]
        if not -1 <= position <= self.size[2]:
            return 0, 0
        k = math.floor(position + BORDER)
        return (k, k + 1) if 0 <= k < self.size[2] else (0, 0)


def _cuboid(grid: Grid, data: Mapping[str, Any]) -> LabelVoxels:
    low, high = _bounds(data)
    return _full([grid.within(axis, low[axis], high[axis]) for axis in range(3)])


def _rectangle(grid: Grid, data: Mapping[str, Any]) -> LabelVoxels:
    low, high = _bounds(data)
    return _full([*(grid.within(axis, low[axis], high[axis]) for axis in range(2)), grid.slice_at(float(data["z"]))])


def _ellipsoid(grid: Grid, data: Mapping[str, Any]) -> LabelVoxels:
    low, high = _bounds(data)
    return _round(grid, low, high, [grid.within(axis, low[axis], high[axis]) for axis in range(3)])


def _ellipse(grid: Grid, data: Mapping[str, Any]) -> LabelVoxels:
    low, high = _bounds(data)
    ranges = [*(grid.within(axis, low[axis], high[axis]) for axis in range(2)), grid.slice_at(float(data["z"]))]
    return _round(grid, low, high, ranges)


def _polyline(grid: Grid, data: Mapping[str, Any]) -> LabelVoxels:
    points = np.clip(np.array(data["points"], float).reshape(-1, 2), -FAR, FAR)
    ranges = [
        *(grid.within(axis, float(points[:, axis].min()), float(points[:, axis].max())) for axis in range(2)),
        grid.slice_at(float(data["z"])),
    ]
    return _boxed(ranges, lambda k: _filled(points, *(grid.centres[i][slice(*ranges[i])] for i in range(2))))


RASTERIZERS: dict[str, Callable[[Grid, Mapping[str, Any]], LabelVoxels]] = {
    "cuboid": _cuboid,
    "ellipsoid": _ellipsoid,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "polyline": _polyline,
}
KINDS = frozenset(RASTERIZERS)


def _bounds(data: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """`min` and `max`, the lesser number of each axis first."""
    pairs = [sorted((float(a), float(b))) for a, b in zip(data["min"], data["max"], strict=True)]
    return [low for low, _ in pairs], [high for _, high in pairs]


def _round(grid: Grid, low: Sequence[float], high: Sequence[float], ranges: Sequence[Range]) -> LabelVoxels:
    """The ellipsoid in the bounds, or the ellipse where they have two axes; without extent along one it is empty."""
    squares = []
    for axis, (least, most) in enumerate(zip(low, high, strict=True)):
        # Halves first: the sum of two numbers may be too large for one.
        middle, half = least / 2 + most / 2, most / 2 - least / 2
        if half == 0:
            return EMPTY
        squares.append(((grid.centres[axis][slice(*ranges[axis])] - middle) / half) ** 2)
    flat = squares[0][None, :] + squares[1][:, None]
    if len(squares) == 2:
        return _boxed(ranges, lambda k: flat <= 1)
    return _boxed(ranges, lambda k: flat + squares[2][k] <= 1)


def _filled(points: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which centres (rows, columns) the closed polygon holds: those left of an odd number of its edges."""
    ends = np.roll(points, -1, axis=0)
    upwards = points[:, 1] <= ends[:, 1]
    low, high = np.where(upwards[:, None], points, ends), np.where(upwards[:, None], ends, points)
    # An edge crosses the rows from its lower end, included, to its upper end, not included.
    first, last = np.searchsorted(rows, low[:, 1]), np.searchsorted(rows, high[:, 1])
    # toggles[r, c]: an edge lies right of the first c centres of row r, an odd number of times.
    toggles = np.zeros((len(rows), len(columns) + 1), np.uint8)
    for edges in _in_portions(last - first):
        counts = (last - first)[edges]
        edge = np.repeat(edges, counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
        crossing = low[edge, 0] + (rows[row] - low[edge, 1]) * slope
        # A byte that overflows keeps its last bit, and that is all that counts.
        np.add.at(toggles, (row, np.searchsorted(columns, crossing)), 1)
    toggled = np.bitwise_xor.accumulate(toggles[:, :0:-1] & 1, axis=1)[:, ::-1]
    return toggled.astype(bool)


def _in_portions(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of the edges that cross a row, so many at a time that their crossings stay few."""
    indices = np.flatnonzero(counts > 0)
    portion = np.cumsum(counts[indices]) // CROSSINGS
    for which in np.unique(portion):
        yield indices[portion == which]


def _full(ranges: Sequence[Range]) -> LabelVoxels:
    """A box all of whose voxels are set."""
    origin, size = _box(ranges)
    count = size[0] * size[1] * size[2]
    if not count:
        return EMPTY
    rest = count % 8
    return LabelVoxels(b"\xff" * (count // 8) + (bytes([0xFF00 >> rest & 0xFF]) if rest else b""), origin, size)


def _boxed(ranges: Sequence[Range], slice_of: Callable[[int], np.ndarray]) -> LabelVoxels:
    """A box whose k-th slice (y, x) is `slice_of(k)`; eight slices, which fill whole bytes, are in memory at a time."""
    origin, size = _box(ranges)
    if 0 in size:
        return EMPTY
    parts = []
    for first in range(0, size[2], 8):
        slices: Iterable[np.ndarray] = (slice_of(k) for k in range(first, min(first + 8, size[2])))
        parts.append(np.packbits(np.concatenate([slice_.ravel() for slice_ in slices])).tobytes())
    data = b"".join(parts)
    return LabelVoxels(data, origin, size) if data.count(0) < len(data) else EMPTY


def _box(ranges: Sequence[Range]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    (x0, x1), (y0, y1), (z0, z1) = ranges
    return (x0, y0, z0), (x1 - x0, y1 - y0, z1 - z0)
