"""The life of a task as its owner sees it: created and queued in one transaction, cancelled, dismissed, removed.

What works on tasks finds what it needs here too.
"""

from __future__ import annotations

import logging
from typing import Any

import celery
from django.db import transaction
from django.db.models.functions import Now

from casestore import ids
from casestore.accounts.models import User
from casestore.errors import InsufficientPrivilege, Unavailable
from casestore.tasks import files, kinds, queueing
from casestore.tasks.models import Status, Task
from casestore.tasks.progress import Progress, Superseded
from casestore.tasks.running import Result, WorkFailed, after_end, claim, end, ends_task, run_task

__all__ = [
    "Progress",
    "Result",
    "Superseded",
    "WorkFailed",
    "cancel_or_remove",
    "check_download",
    "claim",
    "create_task",
    "ends_task",
    "run_task",
    "set_dismissed",
]

logger = logging.getLogger(__name__)

CANCELLED = "Cancelled by its owner."


def create_task(
    *,
    owner: User,
    name: str,
    parameters: dict[str, Any],
    total: int,
    run_by: celery.Task,
    task_id: str | None = None,
) -> Task:
    """Queues the work when the surrounding transaction commits. Raises Unavailable where the broker is away.

    `task_id` is given where files were stored under it before.
    """
    task = Task(
        task_id=task_id or ids.new_id(),
        owner=owner,
        name=name,
        run_by=run_by.name,
        parameters=parameters,
        total=total,
        message=queueing.WAITING,
        queued_at=Now(),
    )
    with transaction.atomic():
        task.save(force_insert=True)
        transaction.on_commit(lambda: _enqueue(task))
    return task


def _enqueue(task: Task) -> None:
    try:
        queueing.send(task)
    except Exception as error:  # Whatever it is, the task must not wait for a worker for ever.
        logger.error("task %s could not be queued: %s", task.task_id, type(error).__name__)
        message = "The task could not be queued: the broker does not answer."
        if end(queueing.waiting().filter(pk=task.pk), Status.ERROR, error_message=message):
            files.discard(task.task_id)
            raise Unavailable(f"{message} Try again later.") from None


def check_download(user: User, task: Task) -> None:
    """Raises InsufficientPrivilege where the user may not have what the task made; deny by default."""
    check = kinds.kind_of(task.run_by).check_download
    if check is None:
        raise InsufficientPrivilege("Nobody may download what this task made.")
    check(user, task)


def cancel_or_remove(task: Task) -> None:
    """Ends a task that runs or waits; of one that has ended, removes the row and the file."""
    if end(Task.objects.filter(pk=task.pk, status=Status.PROCESSING), Status.ERROR, error_message=CANCELLED):
        # Its worker finds out at its next report.
        after_end(task)
    elif task.status != Status.PROCESSING:
        Task.objects.filter(pk=task.pk).delete()
        files.discard(task.task_id)


def set_dismissed(task: Task, dismissed: bool) -> None:
    Task.objects.filter(pk=task.pk).update(dismissed=dismissed, updated_at=Now())
