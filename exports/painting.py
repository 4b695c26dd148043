"""Label volumes as compressed pieces: what is painted, and runs of zeros between. numpy only, no Django.

Only the band of rows that labels reach on a slice is ever made; nothing has the size of a volume.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cases.label_bits import LabelVoxels
from exports.pieces import Pieces

Band = tuple[int, np.ndarray]


@dataclass(slots=True)
class Painted:
    """What was painted. `counts[i]`: voxels of label i of the request; `covered[i, j]`: those of i that j lies over."""

    counts: list[int]
    covered: Counter[tuple[int, int]] = field(default_factory=Counter)

    def visible(self, label: int) -> int:
        """Voxels that have this label's value in the end."""
        return self.counts[label] - sum(n for (under, _), n in self.covered.items() if under == label)


def paint_labels(
    labels: Sequence[tuple[int, LabelVoxels]],
    size: Sequence[int],
    dtype: np.dtype,
    pieces: Pieces,
    on_slice: Callable[[], object] = lambda: None,
) -> Painted:
    """Adds a volume of `size` (x, y, z) to `pieces`, each label painted with its value (not 0), later over earlier.

    `on_slice` is called for each slice that has labels.
    """
    painted = Painted([0] * len(labels))
    width, height, depth = size

    def band_of(k: int) -> Band | None:
        here = [(index, label) for index, (_, label) in enumerate(labels) if label.reaches(k)]
        if not here:
            return None
        on_slice()
        first = min(label.origin[1] for _, label in here)
        last = max(label.origin[1] + label.size[1] for _, label in here)
        return first, _band(here, k, (first, last, width), labels, painted, dtype)

    add_bands(pieces, band_of, height, depth, width * dtype.itemsize)
    return painted


def add_bands(pieces: Pieces, band_of: Callable[[int], Band | None], height: int, depth: int, row_bytes: int) -> None:
    """Adds a volume of `depth` slices of `height` rows, all zero but for a band of rows on each slice: the number of
    its first row, and the rows, C-contiguous. None where a slice is empty.
    """
    empty = 0
    for k in range(depth):
        found = band_of(k)
        if found is None or not found[1].any():
            empty += height * row_bytes
            continue
        first, band = found
        pieces.add_zeros(empty + first * row_bytes)
        pieces.add(band)
        empty = height * row_bytes - first * row_bytes - band.nbytes
    pieces.add_zeros(empty)


def _band(
    here: Sequence[tuple[int, LabelVoxels]],
    k: int,
    place: tuple[int, int, int],
    labels: Sequence[tuple[int, LabelVoxels]],
    painted: Painted,
    dtype: np.dtype,
) -> np.ndarray:
    """Rows first to last of slice k."""
    first, last, width = place
    band = np.zeros((last - first, width), dtype.newbyteorder("<"))
    # Which label lies on top, from 1; only where more than one may.
    top = np.zeros(band.shape, np.uint32) if len(here) > 1 else None
    for index, label in here:
        x, y = label.origin[0], label.origin[1] - first
        window = np.s_[y : y + label.size[1], x : x + label.size[0]]
        mask = label.slice_bits(k).view(bool)
        painted.counts[index] += int(np.count_nonzero(mask))
        band[window][mask] = labels[index][0]
        if top is not None:
            below = top[window][mask]
            if below.any():
                found, counts = np.unique(below[below > 0], return_counts=True)
                for under, count in zip(found.tolist(), counts.tolist(), strict=True):
                    painted.covered[under - 1, index] += count
            top[window][mask] = index + 1
    return band
