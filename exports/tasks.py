"""Celery tasks: thin; the row of the task says what to do."""

from __future__ import annotations

import celery

from casestore.tasks.services import SILENCE, run_task
from exports.packing import pack


@celery.shared_task(bind=True, name="exports.export_mhd", max_retries=None)
def export_mhd(self: celery.Task, task_id: str) -> None:
    if not run_task(task_id, pack):
        raise self.retry(countdown=SILENCE.total_seconds())
