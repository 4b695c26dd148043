"""DICOM: the original files, byte for byte, and the labels of each volume as a segmentation that refers to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, cast

from django.core.files.storage import default_storage

from cases.deflate import piece_of
from cases.models import SeriesFile
from casestore.errors import CasestoreError
from casestore.json_text import dump
from exports import seg_dicom
from exports.contents import Member, Volume
from exports.jobs import Job
from exports.nifti_header import value_table
from exports.pieces import Pieces
from exports.segments import Segment, Survey, tell_overlaps

CHUNK = 2**20


def volume_files(volume: Volume, job: Job) -> Iterator[Member]:
    """`vol000/00001.dcm` …, by image number: the files of the partial volume's images, in its order."""
    for number, file in _files(volume).items():
        with job.made(file.size, partial(_copy, file, number)) as content:
            yield Member(f"{volume.name}/{number:05d}.dcm", content, known_sha256=file.sha256)
        job.beat()


def label_files(volume: Volume, job: Job, told: dict[str, Any]) -> Iterator[Member]:
    """The segmentation and a table of its segments; none of a volume whose labels have no voxels."""
    segments = job.segments_of(volume)
    told |= {"labels": [], "overlaps": []}
    if not segments:
        return
    survey = job.survey(segments, volume)
    if job.is_dry:
        yield from _measured(volume, job, segments, survey)
        return
    made = None if survey.is_empty else _segmentation(volume, job, segments, survey)
    name = None if made is None else f"{volume.name}-label.dcm"
    numbers = {} if made is None else made.numbers
    for segment in segments:
        for label in segment.labels:
            told["labels"].append(
                {
                    "index": label.index,
                    "name": label.name,
                    "file": name,
                    "value": segment.value,
                    "segment": numbers.get(segment.value),
                    "voxels": survey.counts[label.index],
                    "voxelsInFile": survey.visible[label.index],
                }
            )
    tell_overlaps(told, segments, survey)
    if made is None or name is None:
        return
    job.beat()
    with job.member(
        name,
        made.pixel_bytes,
        partial(_add_pixels, made, job),
        header=made.header,
        made_of=["pixels", *job.labels_made_of(volume)],
    ) as file:
        yield file
    table = value_table(segments)
    for row in table["values"]:
        row["segment"] = numbers[row["value"]]
    yield Member(f"{volume.name}-label.json", piece_of(dump(table, indent=True) + b"\n"))


def _measured(volume: Volume, job: Job, segments: Sequence[Segment], survey: Survey) -> Iterator[Member]:
    """The segmentation without its header; of the images only the first one is looked at."""
    if survey.counts and survey.is_empty:
        return
    if len({image.file_id for image in volume.images}) != len(volume.images):
        raise CasestoreError(seg_dicom.MULTI_FRAME)
    if any(image.position is None or image.orientation is None for image in volume.images):
        raise CasestoreError(seg_dicom.NO_PLACE)
    seg_dicom.check([_source(SeriesFile.objects.get(pk=volume.images[0].file_id))])
    with job.made(seg_dicom.extent_of(segments, survey, volume.size).pixel_bytes, _no_pixels) as content:
        yield Member(f"{volume.name}-label.dcm", content)


def _no_pixels(pieces: Pieces) -> None:
    """Of a segmentation that is only measured."""


def _segmentation(volume: Volume, job: Job, segments: Sequence[Segment], survey: Survey) -> seg_dicom.DicomSegmentation:
    return seg_dicom.segmentation(
        sources=_sources(volume, job),
        size=volume.size,
        segments=segments,
        survey=survey,
        thickness=volume.geometry.spacing[2],
        identity=_identity(volume, job),
        moment=volume.entry.revision.date,
    )


def _files(volume: Volume) -> dict[int, SeriesFile]:
    """Each file once, under the number of its first image here."""
    files = SeriesFile.objects.in_bulk({image.file_id for image in volume.images})
    first: dict[int, int] = {}
    for image in volume.images:
        first.setdefault(image.file_id, image.number)
    return {number: files[pk] for pk, number in first.items()}


def _copy(file: SeriesFile, number: int, pieces: Pieces) -> None:
    """Raises CasestoreError where the file is not byte for byte what was received."""
    digest = hashlib.sha256()
    try:
        with default_storage.open(file.storage_key) as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                pieces.add(chunk)
    except FileNotFoundError:
        pass
    if digest.hexdigest() != file.sha256:
        raise CasestoreError(
            f"The DICOM file of image {number} of series {file.series.series_uid} is missing or damaged."
        )


def _sources(volume: Volume, job: Job) -> list[Any]:
    files = SeriesFile.objects.in_bulk({image.file_id for image in volume.images})
    found = []
    for image in volume.images:
        job.beat()
        found.append(_source(files[image.file_id]))
    return found


def _source(file: SeriesFile) -> Any:
    try:
        with default_storage.open(file.storage_key) as source:
            return seg_dicom.read_source(cast(BinaryIO, source))
    except FileNotFoundError:
        raise CasestoreError(f"A DICOM file of series {file.series.series_uid} is missing.") from None


def _identity(volume: Volume, job: Job) -> str:
    """A segmentation keeps its identifiers in every export of the same revision with the same options and values."""
    revision, entry = volume.entry.revision, volume.entry
    options = [job.options.get("labelValues"), bool(job.options.get("rasterizeShapes"))]
    values = [valued.value for valued in job.labels_of(volume)] if job.has_project_values else []
    parts = [revision.case.case_id, revision.index, entry.position, entry.series.series_uid, *options, *values]
    return "/".join(map(str, parts))


def _add_pixels(made: seg_dicom.DicomSegmentation, job: Job, pieces: Pieces) -> None:
    for part in made.pixels():
        job.beat()
        pieces.add(part)
