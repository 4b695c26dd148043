"""Label volumes of one number a voxel: a mask for each label, or all labels of a volume together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from exports.contents import Member, Volume, label_made_of, label_voxels
from exports.jobs import Job, ValuedLabel
from exports.label_values import element_type
from exports.painting import Painted, paint_labels
from exports.pieces import Pieces


@dataclass(frozen=True, slots=True)
class LabelMap:
    """`name` is that of its file without the ending. The file can be read until the next one is asked for."""

    name: str
    element_type: str
    file: Member


def label_maps(
    volume: Volume, job: Job, told: dict[str, Any], ending: str, header: Callable[[str], bytes] = lambda kind: b""
) -> Iterator[LabelMap]:
    """Isolated, a mask of 0 and 1 (or the project's value) for each label; else one map, later labels over earlier.

    What a manifest says of them goes to `told`: `labels` and, combined, `overlaps`; `ending` is that of the files,
    `header` what a file with voxels of a type begins with.
    """

    def mapped(name: str, labels: Sequence[ValuedLabel]) -> Iterator[LabelMap]:
        values = [valued.value for valued in labels]
        kind = element_type(values)
        dtype = np.dtype(kind)

        def paint(pieces: Pieces) -> None:
            bits = label_voxels([valued.label for valued in labels], volume)
            painted = paint_labels(list(zip(values, bits, strict=True)), volume.size, dtype, pieces, job.beat)
            tell(told, labels, painted, f"{name}{ending}")

        made_of = [label_made_of(valued.label, valued.value, volume) for valued in labels]
        with job.member(
            f"{name}{ending}",
            prod(volume.size) * dtype.itemsize,
            paint,
            header=header(kind),
            made_of=["labels", kind, volume.size, made_of],
        ) as file:
            yield LabelMap(name, kind, file)

    labels = job.labels_of(volume)
    told["labels"] = []
    if not job.isolated:
        told["overlaps"] = []
        yield from mapped(f"{volume.name}-label", labels)
        return
    for valued in labels:
        value = valued.value if job.has_project_values else 1
        yield from mapped(f"{volume.name}-label{valued.label.position:03d}", [ValuedLabel(valued.label, value)])


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
