"""Celery tasks: thin; the row of the task says what to do."""

from __future__ import annotations

import celery

from cases.services.bin import purge_bin
from cases.services.series import import_upload
from casestore.tasks.services import SILENCE, run_task


@celery.shared_task(bind=True, name="cases.import_uploaded_series", max_retries=None)
def import_uploaded_series(self: celery.Task, task_id: str) -> None:
    if not run_task(task_id, import_upload):
        raise self.retry(countdown=SILENCE.total_seconds())


@celery.shared_task(name="cases.purge_bin")
def purge_deleted_cases() -> None:
    purge_bin()
