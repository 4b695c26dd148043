"""DICOM files into series.

A series of one import comes in together or not at all. Several imports of one series, in pieces, in any order, twice or
at once, end the same: each takes the series' lock, adds the images that are not there yet, and works out again what
depends on all images.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction

from cases.dicom.errors import DicomRefused
from cases.dicom.files import SourceFile, group_by_series, iter_dicom_files
from cases.dicom.instance import Frame, Instance, PixelLayout
from cases.dicom.reader import read_instance
from cases.dicom.source import buffered
from cases.geometry import volume_geometry
from cases.image_numbers import format_image_numbers
from cases.models import Case, RevisionSeries, Series, SeriesFile, SeriesImage
from cases.services.cases import copy_patient
from cases.services.volumes import THREADS, SliceSpool, lock_series, store_volume, voxel_type
from casestore import clock, ids
from casestore.accounts.models import Domain

logger = logging.getLogger(__name__)

MAX_WARNINGS = 50
BATCH = 1000

# A file, what was read of it, and those of its frames that the series does not have yet.
Fresh = tuple[SourceFile, Instance, list[Frame]]


@dataclass
class ImportReport:
    """What became of the files: `refused` has a reason for each that was not taken."""

    imported: int = 0
    skipped: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    series: set[str] = field(default_factory=set)

    def summary(self) -> str:
        return (
            f"{self.imported} files imported into {len(self.series)} series, "
            f"{self.skipped} skipped as already here, {len(self.refused)} refused."
        )


class SeriesRefused(Exception):
    """Why none of an import's files of one series were taken."""


def import_dicom(
    paths: Iterable[Path],
    *,
    domain: Domain | Callable[[str], Domain],
    spool: Path,
    name_members: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Imports files, folders and archives. `spool` is an empty folder for what archives hold.

    `domain`: that of all series, or what says it of a Series Instance UID; it may raise SeriesRefused.
    `name_members`: whether the report may quote the names of files in archives.
    """
    report = ImportReport()

    def refuse(name: str, reason: str) -> None:
        report.refused.append((name, reason))

    groups = group_by_series(iter_dicom_files(paths, spool, refuse, name_members=name_members), refuse)
    total, done = sum(map(len, groups.values())), 0
    for series_uid, sources in sorted(groups.items()):
        read = []
        with SliceSpool(spool) as slices:
            for source in sources:
                try:
                    with source.path.open("rb") as file:
                        content = buffered(file, os.fstat(file.fileno()).st_size)
                        read.append((source, read_instance(content, slices.keep)))
                except DicomRefused as refusal:
                    refuse(source.name, refusal.sentence)
                done += 1
                on_progress(done, total)
            if not read:
                continue
            try:
                series_domain = domain(series_uid) if callable(domain) else domain
                added = add_to_series(series_uid, read, domain=series_domain)
            except SeriesRefused as refusal:
                for source, _ in read:
                    refuse(source.name, str(refusal))
                continue
            report.imported += added
            report.skipped += len(read) - added
            if added:
                report.series.add(series_uid)
                _fill_cache(series_uid, slices)
    return report


def _fill_cache(series_uid: str, slices: SliceSpool) -> None:
    """For the first export. Without it the import is complete, and that export makes the volume itself."""
    try:
        with transaction.atomic():
            lock_series(series_uid)
            series = Series.objects.filter(series_uid=series_uid).first()
            if series is not None:
                store_volume(series, slices)
    except OSError as error:
        logger.warning("a volume could not be stored for exports: %s", type(error).__name__)


def add_to_series(series_uid: str, read: Sequence[tuple[SourceFile, Instance]], *, domain: Domain) -> int:
    """Adds what is new, all of it or nothing; returns the number of files added. Raises SeriesRefused."""
    stored: list[str] = []
    try:
        with transaction.atomic():
            lock_series(series_uid)
            return _add(series_uid, read, domain, stored)
    except BaseException:
        for key in stored:
            default_storage.delete(key)
        raise


def _add(series_uid: str, read: Sequence[tuple[SourceFile, Instance]], domain: Domain, stored: list[str]) -> int:
    # NO KEY: a revision that refers to the series meanwhile must not wait for us, as we may wait for its case.
    series = Series.objects.select_for_update(no_key=True).filter(series_uid=series_uid).first()
    if series is not None and series.domain_id != domain.name:
        raise SeriesRefused("The series belongs to another domain.")
    known = {} if series is None else dict(series.image_set.values_list("number", "sha256"))
    _check_layout(series, [instance.layout for _, instance in read])
    fresh: list[Fresh] = []
    for source, instance in read:
        new = [frame for frame in instance.frames if frame.number not in known]
        for frame in instance.frames:
            if known.setdefault(frame.number, frame.sha256) != frame.sha256:
                raise SeriesRefused(f"Two images of the series have the number {frame.number} but differ.")
        if new:
            fresh.append((source, instance, new))
    if not fresh:
        return 0
    if series is None:
        layout = read[0][1].layout
        series = Series(series_uid=series_uid, domain=domain, width=layout.width, height=layout.height)
        series.save(force_insert=True)
    _store_files(series, fresh, stored)
    _take_header(series, [(instance, frames) for _, instance, frames in fresh])
    _work_out(series, [warning for _, instance, _ in fresh for warning in instance.warnings])
    return len(fresh)


def _check_layout(series: Series | None, layouts: Sequence[PixelLayout]) -> None:
    """All images of a series have one size and one kind of pixel."""
    first = layouts[0]
    for layout in layouts:
        if layout != first:
            raise SeriesRefused(f"The images of the series differ: {_describe(first)} and {_describe(layout)}.")
    if series is None:
        return
    # A series that came from another server's dump has a size but no pixels yet.
    stored_type = series.stored_type or first.dtype
    stored = PixelLayout(
        series.width, series.height, series.channels if series.stored_type else first.channels, stored_type
    )
    if stored != first:
        raise SeriesRefused(f"The series here has images of {_describe(stored)}, these are {_describe(first)}.")


def _describe(layout: PixelLayout) -> str:
    kind = "colour" if layout.channels == 3 else layout.dtype
    return f"{layout.width} x {layout.height} {kind}"


def _store_file(key: str, path: Path) -> tuple[int, str]:
    """Size and SHA-256 of the file, which then is in the storage."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        file.seek(0)
        default_storage.save(key, File(file))
    return size, sha256


def _store_files(series: Series, fresh: Sequence[Fresh], stored: list[str]) -> None:
    """Keeps the files byte for byte, under names of ours, and a row for each of them and of their new images."""
    keys = [f"dicom/{series.pk}/{ids.new_id()}.dcm" for _ in fresh]
    stored += keys
    # Waiting for the disk takes longest; several files wait at once.
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(_store_file, keys, [source.path for source, _, _ in fresh]))
    files = [
        SeriesFile(
            series=series,
            sop_instance_uid=instance.sop_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            transfer_syntax=instance.transfer_syntax,
            storage_key=key,
            size=size,
            sha256=sha256,
            pixels_start=instance.native.start if instance.native else None,
            bits_stored=instance.native.bits if instance.native else None,
        )
        for key, (size, sha256), (_, instance, _) in zip(keys, done, fresh, strict=True)
    ]
    SeriesFile.objects.bulk_create(files, batch_size=BATCH)
    images = (
        SeriesImage(
            series=series,
            file=row,
            number=frame.number,
            frame=frame.index,
            position=_list(frame.position),
            orientation=_list(frame.orientation),
            spacing=_list(frame.spacing),
            thickness=frame.thickness,
            tilt=frame.tilt,
            slope=frame.slope,
            intercept=frame.intercept,
            minimum=frame.minimum,
            maximum=frame.maximum,
            integral=frame.integral,
            sha256=frame.sha256,
        )
        for row, (_, _, frames) in zip(files, fresh, strict=True)
        for frame in frames
    )
    SeriesImage.objects.bulk_create(images, batch_size=BATCH)


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)


def _take_header(series: Series, added: Sequence[tuple[Instance, Sequence[Frame]]]) -> None:
    """What a series says of itself is what its lowest-numbered image says, in whatever order they come."""
    number, instance = min(
        ((min(frame.number for frame in frames), instance) for instance, frames in added),
        key=lambda pair: pair[0],
    )
    series.channels, series.stored_type = instance.layout.channels, instance.layout.dtype
    if series.header_number is not None and series.header_number <= number:
        return
    header, patient = instance.header, instance.header.patient
    series.header_number = number
    series.study_uid = header.study_uid
    series.modality = header.modality
    series.series_description = header.series_description
    series.body_part = header.body_part
    series.station_name = header.station_name
    series.model_name = header.model_name
    series.manufacturer = header.manufacturer
    series.series_date = header.series_date
    series.parameters = header.parameters
    series.patient_id = patient.patient_id
    series.patient_name = patient.patient_name
    series.patient_birth_date = patient.birth_date
    series.patient_age = patient.age
    series.patient_sex = patient.sex
    series.patient_size = patient.size
    series.patient_weight = patient.weight
    _copy_to_cases(series)


def _copy_to_cases(series: Series) -> None:
    """Cases carry a copy of their patient; those that already use the series get the new one."""
    users = RevisionSeries.objects.filter(series=series).values("revision")
    for case in Case.objects.select_for_update(of=("self",)).filter(latest_revision__in=users).order_by("pk"):
        entries = RevisionSeries.objects.filter(revision=case.latest_revision_id).select_related("series")
        rows = [series if entry.series_id == series.pk else entry.series for entry in entries.order_by("position")]
        if copy_patient(case, rows):
            case.version += 1
            case.save()


def _work_out(series: Series, warnings: Iterable[str]) -> None:
    """What depends on all images: their numbers, the geometry, the type of voxel that an export has."""
    images = list(series.image_set.order_by("number"))
    declared = (
        (number for first, last in series.image_ranges for number in range(first, last + 1)) if series.images else ()
    )
    series.images = format_image_numbers({*declared, *(image.number for image in images)})
    series.__dict__.pop("image_ranges", None)
    geometry = volume_geometry([image.plane for image in images])
    series.import_warnings = sorted({*series.import_warnings, *warnings})[:MAX_WARNINGS]
    series.geometry = {
        "spacing": geometry.spacing,
        "origin": geometry.origin,
        "direction": geometry.direction,
        "pixelType": voxel_type(images, series.channels),
        "warnings": [*geometry.warnings, *series.import_warnings],
    }
    series.updated_at = clock.now()
    series.save()
