"""What lies in folders beside a dump: label voxels, and DICOM files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings

from cases.models import Series
from cases.serializers.labels import SHA1
from cases.services.blobs import renew_blobs, store_blob
from cases.services.series_import import SeriesRefused, import_dicom
from casestore.accounts.models import Domain
from casestore.errors import CasestoreError
from mylists.circus.importing import Progress
from mylists.circus.report import Outcome, Place, Report, presentable

BLOBS_AT_ONCE = 200


def import_dicom_folder(folder: Path, report: Report, on_progress: Progress) -> None:
    """Each series into its own domain. One that neither the dump nor anybody before described is refused."""

    def domain_of(series_uid: str) -> Domain:
        series = Series.objects.select_related("domain").filter(series_uid=series_uid).first()
        if series is None:
            raise SeriesRefused("The dump does not describe this series.")
        return series.domain

    with TemporaryDirectory(prefix="casestore-import-", dir=settings.FILE_UPLOAD_TEMP_DIR) as spool:
        done = import_dicom(
            [folder],
            domain=domain_of,
            spool=Path(spool),
            on_progress=lambda done, total: on_progress(folder.name, done, total),
        )
    report.count(folder.name, Outcome.IMPORTED, done.imported)
    report.count(folder.name, Outcome.UNCHANGED, done.skipped)
    for name, reason in done.refused:
        report.refuse(Place(folder.name, 0, _relative(name, folder)), reason)


def _relative(name: str, folder: Path) -> str:
    return name.removeprefix(f"{folder}{os.sep}")


def import_blobs(folder: Path, report: Report, on_progress: Progress) -> None:
    """Label voxels, in files named by their SHA-1, with whatever suffix and however deep."""
    report.count(folder.name, Outcome.IMPORTED, 0)
    paths = _files(folder, report)
    done = 0
    while batch := list(islice(paths, BLOBS_AT_ONCE)):
        # The cases that use them may come much later in this import, or with the next one.
        there = renew_blobs([sha1 for sha1, _ in batch])
        for sha1, path in batch:
            if sha1 in there:
                report.count(folder.name, Outcome.UNCHANGED)
            else:
                _import_blob(sha1, path, folder.name, report)
        done += len(batch)
        on_progress(folder.name, done, done)


def _files(folder: Path, report: Report) -> Iterator[tuple[str, Path]]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            sha1 = name.split(".", 1)[0].lower()
            if SHA1.match(sha1):
                yield sha1, Path(parent, name)
            elif not name.startswith("."):
                report.refuse(Place(folder.name, 0, presentable(name)), "The name of this file is no SHA-1.")


def _import_blob(sha1: str, path: Path, name: str, report: Report) -> None:
    place = Place(name, 0, sha1)
    try:
        if path.stat().st_size > settings.CASESTORE_MAX_BLOB:
            reason = f"It is larger than {settings.CASESTORE_MAX_BLOB} bytes (CASESTORE_MAX_BLOB)."
            report.refuse(place, reason)
            return
        data = path.read_bytes()
    except OSError as error:
        report.refuse(place, f"It cannot be read: {error.strerror}.")
        return
    try:
        store_blob(user=None, sha1=sha1, data=data)
    except CasestoreError:
        report.refuse(place, "It is empty, or its content is another than its name says.")
    else:
        report.count(name, Outcome.IMPORTED)
