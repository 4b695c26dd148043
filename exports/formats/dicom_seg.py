"""DICOM: the original files, byte for byte, and the labels of each volume as a segmentation that refers to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, cast

from django.core.files.storage import default_storage
from django.db.models import prefetch_related_objects

from cases.deflate import Deflated, measured, piece_of
from cases.dicom.errors import DicomRefused
from cases.models import SeriesImage
from cases.services.volumes import check_files, damaged_file
from casestore.errors import CasestoreError
from casestore.json_text import dump
from exports import dicom_sources, seg_dicom
from exports.contents import Member, Volume
from exports.jobs import Job
from exports.nifti_header import value_table
from exports.pieces import Pieces
from exports.segments import Segment, Survey, tell_labels, tell_overlaps

CHUNK = 2**20


def volume_files(volume: Volume, job: Job) -> Iterator[Member]:
    """`vol000/00001.dcm` …, by image number: the files of the partial volume's images, in its order."""
    if job.is_dry:
        check_files(volume.images)
    for image in _first_images(volume):
        file = image.file
        with job.made(file.size, partial(_copy, image)) as content:
            yield Member(f"{volume.name}/{image.number:05d}.dcm", content, known_sha256=file.sha256)
        job.beat()


def label_files(volume: Volume, job: Job, told: dict[str, Any]) -> Iterator[Member]:
    """The segmentation and a table of its segments; none of a volume whose labels have no voxels."""
    segments = job.segments_of(volume)
    told |= {"labels": [], "overlaps": []}
    if not segments:
        return
    survey = job.survey(segments, volume)
    name = None if survey.is_empty else f"{volume.name}-label.dcm"
    numbers = {} if survey.is_empty else seg_dicom.segment_numbers(segments, survey)
    tell_labels(told, segments, survey, name, "segment", [numbers.get(segment.value) for segment in segments])
    tell_overlaps(told, segments, survey)
    if name is None:
        return
    if job.is_dry:
        yield Member(name, _measured(volume, segments, survey))
    else:
        yield from _made(name, volume, job, segments, survey)
    table = value_table(segments)
    for row in table["values"]:
        row["segment"] = numbers[row["value"]]
    yield Member(f"{volume.name}-label.json", piece_of(dump(table, indent=True) + b"\n"))


def _made(name: str, volume: Volume, job: Job, segments: Sequence[Segment], survey: Survey) -> Iterator[Member]:
    seg_dicom.load_tables()
    made = seg_dicom.segmentation(
        sources=_sources(volume, job),
        size=volume.size,
        segments=segments,
        survey=survey,
        thickness=volume.geometry.spacing[2],
        identity=_identity(volume, job),
        moment=volume.entry.revision.date,
    )
    job.beat()
    with job.member(
        name,
        made.pixel_bytes,
        partial(_add_pixels, made, job),
        header=made.header,
        made_of=["pixels", *job.labels_made_of(volume)],
    ) as file:
        yield file


def _measured(volume: Volume, segments: Sequence[Segment], survey: Survey) -> Deflated:
    """As large as the segmentation will be, about. Opens only the first image. Raises CasestoreError."""
    extent = seg_dicom.extent_of(segments, survey, volume.size)
    # Where only one frame of a file is used, its other frames tell.
    if SeriesImage.objects.filter(file__in={image.file_id for image in volume.images}, frame__gt=0).exists():
        raise CasestoreError(dicom_sources.MULTI_FRAME)
    dicom_sources.check_planes([image.plane for image in volume.images])
    dicom_sources.check([_source(volume.images[0])])
    return measured(extent.size([image.file.sop_instance_uid for image in volume.images], segments))


def _first_images(volume: Volume) -> list[SeriesImage]:
    """The first image here of each file, with its file, in the order of the volume."""
    prefetch_related_objects(volume.images, "file")
    first: dict[int, SeriesImage] = {}
    for image in volume.images:
        first.setdefault(image.file_id, image)
    return list(first.values())


def _copy(image: SeriesImage, pieces: Pieces) -> None:
    """Raises DamagedFile where the file is not byte for byte what was received."""
    digest = hashlib.sha256()
    try:
        with default_storage.open(image.file.storage_key) as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                pieces.add(chunk)
    except FileNotFoundError:
        pass
    if digest.hexdigest() != image.file.sha256:
        raise damaged_file(image)


def _sources(volume: Volume, job: Job) -> list[Any]:
    found = []
    for image in volume.images:
        job.beat()
        found.append(_source(image))
    return found


def _source(image: SeriesImage) -> Any:
    try:
        with default_storage.open(image.file.storage_key) as source:
            return dicom_sources.read_source(cast(BinaryIO, source))
    except (FileNotFoundError, DicomRefused):
        raise damaged_file(image) from None


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
