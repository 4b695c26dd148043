"""The labels of a series as they are exported: each value one segment; and what it takes to paint them. No Django.

A survey goes through the labels once, a slice at a time, and holds neither a volume nor a mask of one.
"""

from __future__ import annotations

import colorsys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases.label_bits import LabelVoxels

# Enough for any annotation that a person made; labels that need more must not fill the memory.
MAX_LAYERS = 64
MAX_PAIRS = 100_000
GOLDEN = 0.618033988749895

Box = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class ExportedLabel:
    """A label of a series: its index there, what the annotator called it, `#rrggbb`, and its voxels."""

    index: int
    name: str | None
    color: str | None
    voxels: LabelVoxels


@dataclass(frozen=True, slots=True)
class Segment:
    """All labels of a series that have one value; name and colour are the first one's."""

    value: int
    labels: tuple[ExportedLabel, ...]

    @property
    def identifier(self) -> str:
        """Different for each segment of a series, and the name of the first label's own mask."""
        return f"label{self.labels[0].index:03d}"

    @property
    def has_name(self) -> bool:
        return bool((self.labels[0].name or "").strip())

    @property
    def name(self) -> str:
        return (self.labels[0].name or "").strip() or self.identifier

    @property
    def has_color(self) -> bool:
        return self.labels[0].color is not None

    @property
    def rgb(self) -> tuple[int, int, int]:
        """0 to 255; for a label without a colour one that differs from its neighbours'."""
        color = self.labels[0].color
        if color is not None:
            return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
        red, green, blue = colorsys.hsv_to_rgb(self.value * GOLDEN % 1, 0.65, 0.95)
        return round(255 * red), round(255 * green), round(255 * blue)

    def reaches(self, k: int) -> bool:
        """Whether slice k cuts a label's box."""
        return any(label.voxels.reaches(k) for label in self.labels)

    def mask(self, k: int) -> tuple[int, int, np.ndarray]:
        """Slice k, which the segment must reach: x and y of the first voxel of a box, and the box (y, x), bool."""
        here = [label.voxels for label in self.labels if label.voxels.reaches(k)]
        if len(here) == 1:
            return here[0].origin[0], here[0].origin[1], here[0].slice_bits(k).view(bool)
        left, top = (min(voxels.origin[axis] for voxels in here) for axis in (0, 1))
        right, bottom = (max(voxels.origin[axis] + voxels.size[axis] for voxels in here) for axis in (0, 1))
        whole = np.zeros((bottom - top, right - left), bool)
        for voxels in here:
            x, y = voxels.origin[0] - left, voxels.origin[1] - top
            whole[y : y + voxels.size[1], x : x + voxels.size[0]] |= voxels.slice_bits(k).view(bool)
        return left, top, whole


def segments_of(labels: Sequence[ExportedLabel], values: Sequence[int]) -> list[Segment]:
    """The segments, in the order of their first labels."""
    groups: dict[int, list[ExportedLabel]] = {}
    for label, value in zip(labels, values, strict=True):
        groups.setdefault(value, []).append(label)
    return [Segment(value, tuple(group)) for value, group in groups.items()]


@dataclass(frozen=True, slots=True)
class Survey:
    """Where segments have voxels, and where they overlap; entry i of each is about segment i.

    `boxes` are the inclusive bounds (x0, x1, y0, y1, z0, z1), None for a segment without voxels; `present[i, k]` says
    whether it has voxels on slice k. `overlaps` counts the voxels that two segments share. `layers` numbers, from 0,
    volumes in which no segments overlap, each segment in the first one where it has room: one layer where nothing
    overlaps. Where there are more than 64 layers or 100,000 pairs, `layers` is None and `overlaps` names some of the
    pairs. `counts[index]` are the voxels of a label, `visible[index]` those that no later label of its segment has too.
    """

    counts: dict[int, int]
    visible: dict[int, int]
    boxes: tuple[Box | None, ...]
    present: np.ndarray
    overlaps: dict[tuple[int, int], int]
    layers: tuple[int, ...] | None

    @property
    def layer_count(self) -> int | None:
        return None if self.layers is None else max(self.layers, default=0) + 1

    @property
    def is_empty(self) -> bool:
        return not self.present.any()


def survey(segments: Sequence[Segment], size: Sequence[int], on_slice: Callable[[], object] = lambda: None) -> Survey:
    """Goes through the slices of a volume of `size` (x, y, z); `on_slice` is called for each that has labels."""
    surveyor = _Surveyor(segments, int(size[2]))
    for k in range(int(size[2])):
        here = [(i, segment) for i, segment in enumerate(segments) if segment.reaches(k)]
        if here:
            on_slice()
            surveyor.take(k, here)
    return surveyor.result()


def tell_labels(
    told: dict[str, Any],
    segments: Sequence[Segment],
    found: Survey,
    file: str | None,
    kind: str,
    numbers: Sequence[Any],
) -> None:
    """What a manifest says of the labels of a file, by their index; `numbers[i]` is the `kind` of segment i there."""
    rows = [
        {
            "index": label.index,
            "name": label.name,
            "file": file,
            "value": segment.value,
            kind: number,
            "voxels": found.counts.get(label.index),
            "voxelsInFile": found.visible.get(label.index),
        }
        for segment, number in zip(segments, numbers, strict=True)
        for label in segment.labels
    ]
    told["labels"] = sorted(rows, key=lambda row: row["index"])


def tell_overlaps(told: dict[str, Any], segments: Sequence[Segment], found: Survey) -> None:
    """Adds to `overlaps` of a manifest which segments share voxels; each is known by its first label's index."""
    for (one, other), count in found.overlaps.items():
        pair = {"label": segments[one].labels[0].index, "by": segments[other].labels[0].index}
        told["overlaps"].append(pair | {"voxelsShared": count})


class _Surveyor:
    """Collects what the slices say."""

    def __init__(self, segments: Sequence[Segment], depth: int) -> None:
        self.counts = {label.index: 0 for segment in segments for label in segment.labels}
        self.visible = dict(self.counts)
        self.boxes: list[Box | None] = [None] * len(segments)
        self.present = np.zeros((len(segments), depth), bool)
        self.overlaps: dict[tuple[int, int], int] = defaultdict(int)
        self.crowded = False

    def take(self, k: int, here: Sequence[tuple[int, Segment]]) -> None:
        planes = _Planes(here, k) if len(here) > 1 else None
        for i, segment in here:
            x, y, mask = segment.mask(k)
            if not self._count(segment, k, (x, y), mask):
                continue
            self.present[i, k] = True
            self.boxes[i] = _grown(self.boxes[i], x, y, k, mask)
            if planes is not None:
                self._place(i, planes, x, y, mask)

    def _count(self, segment: Segment, k: int, corner: tuple[int, int], mask: np.ndarray) -> bool:
        """Whether the segment has voxels here."""
        here = [label for label in segment.labels if label.voxels.reaches(k)]
        taken: np.ndarray | None = None
        for label in reversed(here):
            if len(here) == 1:
                bits = mask
            else:
                bits = np.zeros_like(mask)
                x, y = label.voxels.origin[0] - corner[0], label.voxels.origin[1] - corner[1]
                width, height, _ = label.voxels.size
                bits[y : y + height, x : x + width] = label.voxels.slice_bits(k)
            count = int(np.count_nonzero(bits))
            self.counts[label.index] += count
            self.visible[label.index] += count if taken is None else int(np.count_nonzero(bits & ~taken))
            taken = bits if taken is None else taken | bits
        return bool(mask.any())

    def _place(self, i: int, planes: _Planes, x: int, y: int, mask: np.ndarray) -> None:
        for other, count in planes.place(x, y, mask, i):
            if (other, i) in self.overlaps or len(self.overlaps) < MAX_PAIRS:
                self.overlaps[other, i] += count
            else:
                self.crowded = True
        self.crowded |= planes.full

    def result(self) -> Survey:
        return Survey(
            counts=self.counts,
            visible=self.visible,
            boxes=tuple(self.boxes),
            present=self.present,
            overlaps=dict(sorted(self.overlaps.items())),
            layers=None if self.crowded else self._layers(),
        )

    def _layers(self) -> tuple[int, ...] | None:
        before: dict[int, list[int]] = defaultdict(list)
        for earlier, later in self.overlaps:
            before[later].append(earlier)
        layers: list[int] = []
        for i in range(len(self.boxes)):
            taken = {layers[earlier] for earlier in before[i]}
            layers.append(next(layer for layer in range(len(taken) + 1) if layer not in taken))
        return tuple(layers) if max(layers, default=0) < MAX_LAYERS else None


class _Planes:
    """The segments of one slice, side by side on as many planes as it takes; 0 is nobody, i + 1 segment i."""

    def __init__(self, here: Sequence[tuple[int, Segment]], k: int) -> None:
        boxes = [label.voxels for _, segment in here for label in segment.labels if label.voxels.reaches(k)]
        self.x, self.y = (min(box.origin[axis] for box in boxes) for axis in (0, 1))
        right, bottom = (max(box.origin[axis] + box.size[axis] for box in boxes) for axis in (0, 1))
        self.shape = bottom - self.y, right - self.x
        self.planes: list[np.ndarray] = []
        self.full = False

    def place(self, x: int, y: int, mask: np.ndarray, i: int) -> Iterator[tuple[int, int]]:
        """Puts the segment where none of its voxels is taken; with which others it shares how many."""
        room = None
        for plane in self.planes:
            region = self._region(plane, x, y, mask)
            taken = region[mask]
            if taken.any():
                owners, counts = np.unique(taken[taken > 0], return_counts=True)
                yield from zip((owners - 1).tolist(), counts.tolist(), strict=True)
            elif room is None:
                room = region
        if room is None:
            if len(self.planes) == MAX_LAYERS:
                self.full = True
                return
            self.planes.append(np.zeros(self.shape, np.int32))
            room = self._region(self.planes[-1], x, y, mask)
        room[mask] = i + 1

    def _region(self, plane: np.ndarray, x: int, y: int, mask: np.ndarray) -> np.ndarray:
        height, width = mask.shape
        return plane[y - self.y : y - self.y + height, x - self.x : x - self.x + width]


def _grown(box: Box | None, x: int, y: int, k: int, mask: np.ndarray) -> Box:
    """The box, so that it holds the mask's voxels too; slices come in ascending order."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x0, x1, y0, y1 = x + int(columns[0]), x + int(columns[-1]), y + int(rows[0]), y + int(rows[-1])
    if box is None:
        return x0, x1, y0, y1, k, k
    return min(box[0], x0), max(box[1], x1), min(box[2], y0), max(box[3], y1), box[4], k
