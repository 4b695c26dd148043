"""Celery tasks. Every worker imports this, and with it what watches over the tasks."""

from __future__ import annotations

import celery

from casestore.tasks import watching  # noqa: F401  connects to the worker's signals
from casestore.tasks.sweeping import sweep


@celery.shared_task(name="tasks.sweep")
def sweep_tasks() -> None:
    sweep()
