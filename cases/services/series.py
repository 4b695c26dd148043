"""Importing by upload, and deleting series."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import ProtectedError

from cases.models import Series, SeriesFile, StoredVolume
from cases.services.series_import import ImportReport, import_dicom
from casestore import ids
from casestore.accounts.models import Domain, User
from casestore.errors import BadRequest, CasestoreError
from casestore.tasks.files import UPLOADS
from casestore.tasks.models import Task
from casestore.tasks.services import Progress, Result, create_task

# A sentence in a task; the whole list would be as long as the upload.
MAX_REASONS = 20


def request_import(*, user: User, domain: str, files: Sequence[UploadedFile]) -> Task:
    """Keeps the uploaded files where a worker finds them, and queues their import."""
    from cases.tasks import import_uploaded_series

    task_id = ids.new_id()
    # Never the names that the files came with: they often hold the patient's.
    keys = [default_storage.save(f"{UPLOADS}/{task_id}/{index}", file) for index, file in enumerate(files, 1)]
    return create_task(
        owner=user,
        name="Import series",
        parameters={"domain": domain, "keys": keys},
        total=0,
        run_by=import_uploaded_series,
        task_id=task_id,
    )


def import_upload(task: Task, progress: Progress) -> Result:
    """The work of an import task. The upload is removed when the task has ended."""
    domain = Domain.objects.filter(name=task.parameters["domain"]).first()
    if domain is None or domain.name not in task.owner.domains:
        raise CasestoreError("The domain is no longer one of yours.")
    keys = task.parameters["keys"]
    with TemporaryDirectory(prefix=f"casestore-import-{task.task_id}-", dir=settings.FILE_UPLOAD_TEMP_DIR) as temporary:
        received = Path(temporary, "received")
        received.mkdir()
        Path(temporary, "unpacked").mkdir()
        for index, key in enumerate(keys, 1):
            with default_storage.open(key) as source, (received / f"file {index}").open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
        report = import_dicom(
            [received],
            domain=domain,
            spool=Path(temporary, "unpacked"),
            name_members=False,
            on_progress=lambda done, total: progress.report(0, f"{done} of {total} files read."),
        )
    report.refused = [(name.removeprefix(f"{received}/"), reason) for name, reason in report.refused]
    if report.refused and not (report.imported or report.skipped):
        raise CasestoreError(_sentence(report))
    return Result(message=_sentence(report))


def _sentence(report: ImportReport) -> str:
    reasons = [f"{name}: {reason}" for name, reason in report.refused[:MAX_REASONS]]
    if len(report.refused) > MAX_REASONS:
        reasons.append(f"and {len(report.refused) - MAX_REASONS} more.")
    return " ".join([report.summary(), *reasons])


@transaction.atomic
def delete_series(*, series: Series) -> None:
    """Rows and files. Raises BadRequest while a case uses the series, be it in the bin."""
    keys = list(SeriesFile.objects.filter(series=series).values_list("storage_key", flat=True))
    keys += StoredVolume.objects.filter(series=series).values_list("storage_key", flat=True)
    try:
        series.delete()
    except ProtectedError:
        if series.uses.filter(revision__case__deleted_at=None).exists():
            raise BadRequest("The series is in use by a case.") from None
        raise BadRequest("The series is in use by a case in the bin, until that is purged.") from None
    transaction.on_commit(lambda: delete_files(keys))


def delete_files(keys: Sequence[str]) -> None:
    for key in keys:
        default_storage.delete(key)
