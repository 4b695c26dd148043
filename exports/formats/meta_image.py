"""MetaImage: a header and a raw file for each volume, and for each label or all labels of it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cases.deflate import Deflated, piece_of
from exports import mhd
from exports.contents import Member, Volume
from exports.jobs import Job
from exports.label_maps import label_maps


def volume_files(volume: Volume, job: Job) -> Iterator[Member]:
    with job.voxels(volume) as (voxels, sha256):
        header, data = _pair(volume.name, volume, volume.channels, volume.element_type, voxels, volume.made_of, job)
        yield header
        yield replace(data, known_sha256=sha256)


def label_files(volume: Volume, job: Job, told: dict[str, Any]) -> Iterator[Member]:
    for found in label_maps(volume, job, told, ".raw"):
        yield from _pair(found.name, volume, 1, found.element_type, found.content, found.made_of, job)


def _pair(
    name: str, volume: Volume, channels: int, element_type: str, voxels: Deflated, made_of: Any, job: Job
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
        line_ending=job.options["mhdLineEnding"],
    )
    return Member(f"{name}.mhd", piece_of(header)), Member(f"{name}.raw", voxels, made_of)
