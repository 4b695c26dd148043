"""NIfTI-1: a `.nii` for each volume, one for its labels with a table of their values, or one for each label."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
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
    start = partial(header, geometry=volume.geometry, size=volume.size, channels=1, labels=True)
    for found in label_maps(volume, job, told, ".nii", lambda kind: start(element_type=kind)):
        yield found.file
    if not job.isolated:
        table = dump(value_table(job.segments_of(volume, named_only=True)), indent=True) + b"\n"
        yield Member(f"{volume.name}-label.json", piece_of(table))
