"""What label files hold: for each value how many voxels, and between which planes. numpy only; a chunk at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

# A layer and a value in it.
Key = tuple[int, int]
# More different ones than any labels have: a file of noise must not fill the memory.
MAX_KEYS = 2**18
MAX_LAYERS = 2**10


@dataclass(slots=True)
class Tally:
    """`box` is (x0, x1, y0, y1, z0, z1), inclusive."""

    count: int
    box: tuple[int, ...]

    def add(self, count: int, box: Sequence[int]) -> None:
        self.count += count
        self.box = tuple((min, max)[i % 2](pair) for i, pair in enumerate(zip(self.box, box, strict=True)))


@dataclass(slots=True)
class VoxelCounter:
    """Voxels (x fastest, before it the layers) of a volume of `size` (x, y, z), as they come.

    `shared` counts the voxels that two keys both have, the lesser layer first.
    """

    size: tuple[int, int, int]
    dtype: np.dtype
    layers: int = 1
    found: dict[Key, Tally] = field(default_factory=dict)
    shared: dict[tuple[Key, Key], int] = field(default_factory=lambda: defaultdict(int))
    _position: int = 0
    _rest: bytes = b""

    def __post_init__(self) -> None:
        if not 0 < self.layers <= MAX_LAYERS or min(self.size) < 1:
            raise ValueError(f"A file of labels claims {self.layers} layers of {self.size} voxels.")

    @property
    def bytes_expected(self) -> int:
        width, height, depth = self.size
        return width * height * depth * self.layers * self.dtype.itemsize

    def feed(self, chunk: bytes) -> None:
        data = self._rest + chunk
        step = self.layers * self.dtype.itemsize
        whole = len(data) // step * step
        self._rest = data[whole:]
        voxels = np.frombuffer(data[:whole], self.dtype)
        taken = np.flatnonzero(voxels)
        if taken.size:
            values = voxels[taken].astype(np.int64)
            self._take(taken % self.layers << 16 | values, taken // self.layers + self._position)
            if self.layers > 1:
                self._take_shared(voxels.reshape(-1, self.layers))
        self._position += whole // step

    def _take(self, keys: np.ndarray, places: np.ndarray) -> None:
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(np.append(starts, len(keys)))
        width, height, _ = self.size
        axes = places % width, places // width % height, places // (width * height)
        bounds = [edge.reduceat(axis, starts) for axis in axes for edge in (np.minimum, np.maximum)]
        for i, (key, count) in enumerate(zip(keys[starts].tolist(), counts.tolist(), strict=True)):
            self.add((key >> 16, key & 0xFFFF), count, [int(bound[i]) for bound in bounds])

    def add(self, key: Key, count: int, box: Sequence[int]) -> None:
        if key in self.found:
            self.found[key].add(count, box)
        elif len(self.found) < MAX_KEYS:
            self.found[key] = Tally(count, tuple(box))
        else:
            raise ValueError("A file of labels has more different values than any export.")

    def _take_shared(self, voxels: np.ndarray) -> None:
        crowded = voxels[np.count_nonzero(voxels, axis=1) > 1].astype(np.int64)
        used = np.flatnonzero(crowded.any(axis=0)).tolist()
        for one, other in combinations(used, 2):
            both = crowded[(crowded[:, one] != 0) & (crowded[:, other] != 0)]
            pairs, counts = np.unique(both[:, one] << 16 | both[:, other], return_counts=True)
            for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
                self.shared[(one, pair >> 16), (other, pair & 0xFFFF)] += count
                if len(self.shared) > MAX_KEYS:
                    raise ValueError("A file of labels has more overlaps than any export.")
