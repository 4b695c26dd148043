"""MetaImage: a header and a raw file for each volume, and for each label or all labels of it together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cases.deflate import Deflated, piece_of
from cases.label_bits import LabelVoxels
from cases.models import Label
from exports import mhd
from exports.contents import Member, Volume, label_made_of, label_voxels, spool
from exports.painting import Painted, paint_labels


def volume_files(volume: Volume, voxels: Deflated, sha256: str, options: dict[str, Any]) -> Iterator[Member]:
    """`sha256` of the voxels, or nothing where it is not known yet."""
    header, data = _pair(volume.name, volume, volume.channels, volume.element_type, voxels, volume.made_of, options)
    yield header
    yield replace(data, known_sha256=sha256)


def label_files(volume: Volume, options: dict[str, Any], told: dict[str, Any]) -> Iterator[Member]:
    """Labels of the volume; what a manifest says of them goes to `told`: `labels` and, combined, `overlaps`."""
    labels = volume.voxel_labels
    told["labels"] = []
    if options["labelPackType"] == "isolated":
        for label in labels:
            yield from _isolated(label, volume, options, told)
        return
    told["overlaps"] = []
    values = [label.position + 1 for label in labels]
    element_type = "uint16" if any(value > 255 for value in values) else "uint8"
    name = f"{volume.name}-label"
    with spool() as file:
        bits = [(value, label_voxels(label)) for value, label in zip(values, labels, strict=True)]
        painted = paint_labels(bits, volume.size, np.dtype(element_type), file)
        made_of = _made_of(volume, element_type, zip(labels, values, strict=True))
        yield from _pair(name, volume, 1, element_type, painted.content, made_of, options)
        tell(told, labels, values, painted, f"{name}.raw")


def _isolated(label: Label, volume: Volume, options: dict[str, Any], told: dict[str, Any]) -> Iterator[Member]:
    name = f"{volume.name}-label{label.position:03d}"
    with spool() as file:
        bits: list[tuple[int, LabelVoxels]] = [(1, label_voxels(label))]
        painted = paint_labels(bits, volume.size, np.dtype("uint8"), file)
        made_of = _made_of(volume, "uint8", [(label, 1)])
        yield from _pair(name, volume, 1, "uint8", painted.content, made_of, options)
        tell(told, [label], [1], painted, f"{name}.raw")


def _made_of(volume: Volume, element_type: str, labels: Any) -> list[Any]:
    return ["labels", element_type, volume.size, [label_made_of(label, value) for label, value in labels]]


def tell(told: dict[str, Any], labels: Sequence[Label], values: Sequence[int], painted: Painted, file: str) -> None:
    """Adds what a manifest says of painted labels."""
    for index, (label, value) in enumerate(zip(labels, values, strict=True)):
        told["labels"].append(
            {
                "index": label.position,
                "name": label.name,
                "file": file,
                "value": value,
                "voxels": painted.counts[index],
                "voxelsInFile": painted.visible(index),
            }
        )
    for (under, over), count in sorted(painted.covered.items()):
        told["overlaps"].append(
            {"label": labels[under].position, "by": labels[over].position, "voxelsPaintedOver": count}
        )


def _pair(
    name: str,
    volume: Volume,
    channels: int,
    element_type: str,
    voxels: Deflated,
    made_of: Any,
    options: dict[str, Any],
) -> tuple[Member, Member]:
    """`<name>.mhd` and `<name>.raw`; all pairs of a volume have the same geometry, to the letter."""
    geometry = volume.geometry
    header = mhd.header(
        spacing=geometry.spacing,
        origin=geometry.origin,
        direction=geometry.direction,
        size=volume.size,
        channels=channels,
        element_type=element_type,
        data_file=f"{name}.raw",
        line_ending=options["mhdLineEnding"],
    )
    return Member(f"{name}.mhd", piece_of(header)), Member(f"{name}.raw", voxels, made_of)
