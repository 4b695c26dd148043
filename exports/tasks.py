"""Celery tasks: thin; the row of the task says what to do."""

from __future__ import annotations

import celery

from casestore.tasks.services import run_task
from exports.packing import pack


@celery.shared_task(name="exports.export_mhd")
def export_mhd(task_id: str) -> None:
    run_task(task_id, pack)
