"""NRRD: a `.nrrd` for each volume, and its labels as one `.seg.nrrd`, with names, colours and layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.slices import nrrd_header
from exports import seg_nrrd
from exports.contents import Member, Volume, headed
from exports.jobs import Job
from exports.label_values import element_type
from exports.segments import tell_labels, tell_overlaps


def volume_files(volume: Volume, job: Job) -> Iterator[Member]:
    header = nrrd_header(
        element_type=volume.element_type,
        size=volume.size,
        channels=volume.channels,
        geometry=volume.geometry,
        encoding="raw",
    )
    with job.voxels(volume) as (voxels, _):
        yield headed(f"{volume.name}.nrrd", header, voxels, volume.made_of)


def label_files(volume: Volume, job: Job, told: dict[str, Any]) -> Iterator[Member]:
    """None for a volume without labels: Slicer takes an image without segments for a template."""
    segments = job.segments_of(volume)
    told |= {"labels": [], "overlaps": []}
    if not segments:
        return
    survey = job.survey(segments, volume)
    layers, count = seg_nrrd.layers_of(survey)
    name = f"{volume.name}-label.seg.nrrd"
    tell_labels(told, segments, survey, name, "layer", layers)
    tell_overlaps(told, segments, survey)
    header = seg_nrrd.header(geometry=volume.geometry, size=volume.size, segments=segments, survey=survey)
    values = [segment.value for segment in segments]
    width, height, depth = volume.size
    size = width * height * depth * count * np.dtype(element_type(values)).itemsize
    with job.member(
        name,
        size,
        lambda pieces: seg_nrrd.add_voxels(
            pieces, segments=segments, survey=survey, size=volume.size, on_slice=job.beat
        ),
        header=header,
        # The header says their layers.
        made_of=["segments", *job.labels_made_of(volume)],
    ) as file:
        yield file
