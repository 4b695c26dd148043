"""MetaImage: a header and a raw file for each volume, and for each label or all labels of it together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cases.deflate import piece_of
from exports import mhd
from exports.contents import Member, Volume
from exports.jobs import Job
from exports.label_maps import label_maps


def volume_files(volume: Volume, job: Job) -> Iterator[Member]:
    with job.voxels(volume) as (voxels, sha256):
        yield _header(volume.name, volume, volume.channels, volume.element_type, job)
        yield Member(f"{volume.name}.raw", voxels, volume.made_of, sha256)


def label_files(volume: Volume, job: Job, told: dict[str, Any]) -> Iterator[Member]:
    for found in label_maps(volume, job, told, ".raw"):
        yield _header(found.name, volume, 1, found.element_type, job)
        yield found.file


def _header(name: str, volume: Volume, channels: int, element_type: str, job: Job) -> Member:
    """`<name>.mhd` of `<name>.raw`; all headers of a volume have the same geometry, to the letter."""
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
    return Member(f"{name}.mhd", piece_of(header))
