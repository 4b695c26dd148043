"""Label volumes of one number a voxel: a mask for each label, or all labels of a volume together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from cases.deflate import Deflated
from exports.contents import Volume, label_made_of, label_voxels
from exports.jobs import Job, ValuedLabel
from exports.label_values import element_type
from exports.painting import Painted, paint_labels


@dataclass(frozen=True, slots=True)
class LabelMap:
    """`name` is that of its files without their ending. The content can be read until the next one is asked for."""

    name: str
    element_type: str
    content: Deflated
    made_of: list[Any]


def label_maps(volume: Volume, job: Job, told: dict[str, Any], ending: str) -> Iterator[LabelMap]:
    """Isolated, a mask of 0 and 1 (or the project's value) for each label; else one map, later labels over earlier.

    What a manifest says of them goes to `told`: `labels` and, combined, `overlaps`; `ending` is that of the files.
    """
    labels = job.labels_of(volume)
    told["labels"] = []
    if not job.isolated:
        told["overlaps"] = []
        yield from _map(f"{volume.name}-label", labels, volume, job, told, ending)
        return
    for valued in labels:
        value = valued.value if job.has_project_values else 1
        name = f"{volume.name}-label{valued.label.position:03d}"
        yield from _map(name, [ValuedLabel(valued.label, value)], volume, job, told, ending)


def _map(
    name: str, labels: Sequence[ValuedLabel], volume: Volume, job: Job, told: dict[str, Any], ending: str
) -> Iterator[LabelMap]:
    values = [valued.value for valued in labels]
    kind = element_type(values)
    dtype = np.dtype(kind)

    def paint(file: BinaryIO) -> Deflated:
        bits = label_voxels([valued.label for valued in labels], volume)
        painted = paint_labels(list(zip(values, bits, strict=True)), volume.size, dtype, file, job.beat)
        tell(told, labels, painted, f"{name}{ending}")
        return painted.content

    width, height, depth = volume.size
    made_of = ["labels", kind, volume.size, [label_made_of(valued.label, valued.value, volume) for valued in labels]]
    with job.made(width * height * depth * dtype.itemsize, paint) as content:
        yield LabelMap(name, kind, content, made_of)


def tell(told: dict[str, Any], labels: Sequence[ValuedLabel], painted: Painted, file: str) -> None:
    """Adds what a manifest says of painted labels."""
    for index, valued in enumerate(labels):
        told["labels"].append(
            {
                "index": valued.label.position,
                "name": valued.label.name,
                "file": file,
                "value": valued.value,
                "voxels": painted.counts[index],
                "voxelsInFile": painted.visible(index),
            }
        )
    for (under, over), count in sorted(painted.covered.items()):
        told["overlaps"].append(
            {
                "label": labels[under].label.position,
                "by": labels[over].label.position,
                "voxelsPaintedOver": count,
            }
        )
