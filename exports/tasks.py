"""Celery tasks: thin; the row of the task says what to do."""

from __future__ import annotations

import celery

from casestore.tasks.models import Status
from casestore.tasks.services import run_task
from exports.models import PackedCase
from exports.packing import pack


@celery.shared_task(name="exports.export_mhd")
def export_mhd(task_id: str) -> None:
    run_task(task_id, pack)
    forget_packed_cases()


@celery.shared_task(name="exports.forget_packed_cases")
def forget_packed_cases() -> None:
    """What was kept for manifests of exports that have ended."""
    PackedCase.objects.exclude(task__status=Status.PROCESSING).delete()
