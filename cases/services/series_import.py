"""DICOM files into series.

A series of one import comes in together or not at all. Several imports of one series, in pieces, in any order, twice or
at once, end the same: each takes the series' lock, adds the images that are not there yet, and works out again what
depends on all images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.storage import default_storage
from django.db import transaction

from cases.dicom.errors import DicomRefused
from cases.dicom.files import group_by_series, iter_dicom_files
from cases.dicom.instance import Frame, PixelLayout
from cases.dicom.reader import read_header
from cases.geometry import volume_geometry
from cases.image_numbers import format_image_numbers
from cases.models import Case, RevisionSeries, Series, SeriesFile, SeriesImage
from cases.services.cases import copy_patient
from cases.services.intake import Intake, Received
from cases.services.volumes import SliceSpool, lock_series, store_volume, voxel_type
from casestore import clock
from casestore.accounts.models import Domain

logger = logging.getLogger(__name__)

MAX_WARNINGS = 50
BATCH = 1000

# A file, and those of its frames that the series does not have yet.
Fresh = tuple[Received, list[Frame]]


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
        try:
            series_domain = domain(series_uid) if callable(domain) else domain
            with SliceSpool(spool) as slices, Intake(_fingerprints(series_uid), slices.keep) as intake:
                read: list[Received] = []
                for source, outcome in intake.read(sources):
                    if isinstance(outcome, DicomRefused):
                        refuse(source.name, outcome.sentence)
                    else:
                        read.append(outcome)
                    done += 1
                    on_progress(done, total)
                if not read:
                    continue
                added = add_to_series(series_uid, read, intake, domain=series_domain)
                report.imported += added
                report.skipped += len(read) - added
                if added:
                    report.series.add(series_uid)
                    _fill_cache(series_uid, slices)
        except SeriesRefused as refusal:
            told = {name for name, _ in report.refused}
            for source in sources:
                if source.name not in told:
                    refuse(source.name, str(refusal))
    return report


def _fingerprints(series_uid: str) -> dict[int, str]:
    """Of the images that the series has, by their numbers."""
    return dict(SeriesImage.objects.filter(series__series_uid=series_uid).values_list("number", "sha256"))


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


def add_to_series(series_uid: str, read: Sequence[Received], intake: Intake, *, domain: Domain) -> int:
    """Adds what is new, all of it or nothing; returns the number of files added. Raises SeriesRefused."""
    with transaction.atomic():
        lock_series(series_uid)
        added = _add(series_uid, read, intake, domain)
        # Before the commit, whose outcome may stay unknown: a file without a row is swept, a row without one is a loss.
        intake.keep(added)
        return len(added)


def _add(series_uid: str, read: Sequence[Received], intake: Intake, domain: Domain) -> list[Received]:
    # NO KEY: a revision that refers to the series meanwhile must not wait for us, as we may wait for its case.
    series = Series.objects.select_for_update(no_key=True).filter(series_uid=series_uid).first()
    if series is not None and series.domain_id != domain.name:
        raise SeriesRefused("The series belongs to another domain.")
    known = {} if series is None else dict(series.image_set.values_list("number", "sha256"))
    _check_layout(series, [one.instance.layout for one in read])
    fresh: list[Fresh] = []
    for one in read:
        new = [frame for frame in one.instance.frames if frame.number not in known]
        for frame in one.instance.frames:
            if known.setdefault(frame.number, frame.sha256) != frame.sha256:
                raise SeriesRefused(f"Two images of the series have the number {frame.number} but differ.")
        if new:
            fresh.append((intake.copied(one), new))
    if not fresh:
        return []
    if series is None:
        layout = read[0].instance.layout
        series = Series(series_uid=series_uid, domain=domain, width=layout.width, height=layout.height)
        series.save(force_insert=True)
    _add_rows(series, fresh)
    _take_header(series, fresh)
    _work_out(series, [warning for one, _ in fresh for warning in one.instance.warnings])
    return [one for one, _ in fresh]


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


def _add_rows(series: Series, fresh: Sequence[Fresh]) -> None:
    """A row for each file, and for each of its new images."""
    files = [
        SeriesFile(
            series=series,
            sop_instance_uid=one.instance.sop_instance_uid,
            sop_class_uid=one.instance.sop_class_uid,
            transfer_syntax=one.instance.transfer_syntax,
            storage_key=one.key,
            size=one.size,
            sha256=one.sha256,
            pixels_start=one.instance.native.start if one.instance.native else None,
            bits_stored=one.instance.native.bits if one.instance.native else None,
        )
        for one, _ in fresh
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
        for row, (_, frames) in zip(files, fresh, strict=True)
        for frame in frames
    )
    SeriesImage.objects.bulk_create(images, batch_size=BATCH)


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)


def _take_header(series: Series, fresh: Sequence[Fresh]) -> None:
    """What a series says of itself is what its lowest-numbered image says, in whatever order they come."""
    number, first = min(
        ((min(frame.number for frame in frames), one) for one, frames in fresh), key=lambda pair: pair[0]
    )
    layout = first.instance.layout
    series.channels, series.stored_type = layout.channels, layout.dtype
    if series.header_number is not None and series.header_number <= number:
        return
    with default_storage.open(first.key) as file:
        header = read_header(cast(BinaryIO, file))
    patient = header.patient
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
