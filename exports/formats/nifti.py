"""NIfTI-1: a `.nii` for each volume, one for its labels with a table of their values, or one for each label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cases.deflate import piece_of
from casestore.json_text import dump
from exports.contents import Member, Volume, headed
from exports.jobs import Job
from exports.label_maps import label_maps
from exports.nifti_header import header, value_table


def volume_files(volume: Volume, job: Job) -> Iterator[Member]:
    start = header(
        geometry=volume.geometry, size=volume.size, channels=volume.channels, element_type=volume.element_type
    )
    with job.voxels(volume) as (voxels, _):
        yield headed(f"{volume.name}.nii", start, voxels, volume.made_of)


def label_files(volume: Volume, job: Job, told: dict[str, Any]) -> Iterator[Member]:
    for found in label_maps(volume, job, told, ".nii"):
        start = header(
            geometry=volume.geometry, size=volume.size, channels=1, element_type=found.element_type, labels=True
        )
        yield headed(f"{found.name}.nii", start, found.content, found.made_of)
    if not job.isolated:
        table = dump(value_table(job.segments_of(volume, named_only=True)), indent=True) + b"\n"
        yield Member(f"{volume.name}-label.json", piece_of(table))
