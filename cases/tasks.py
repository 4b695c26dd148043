"""Celery tasks: thin; the row of the task says what to do."""

from __future__ import annotations

import celery

from cases.services.bin import purge_bin
from cases.services.blob_sweeping import sweep_blobs
from cases.services.series import import_upload
from cases.services.sweeping import sweep_files
from casestore.tasks.services import run_task


@celery.shared_task(name="cases.import_uploaded_series")
def import_uploaded_series(task_id: str) -> None:
    run_task(task_id, import_upload)


@celery.shared_task(name="cases.purge_bin")
def purge_deleted_cases() -> None:
    purge_bin()


@celery.shared_task(name="cases.sweep_files")
def sweep_stored_files() -> None:
    sweep_files()


@celery.shared_task(name="cases.sweep_blobs")
def sweep_unused_blobs() -> None:
    sweep_blobs()
