"""The life of a task: created and queued in one transaction, claimed by one worker, ended once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import celery
from django.db import transaction
from django.db.models import Q

from casestore import clock
from casestore.accounts.models import User
from casestore.errors import CasestoreError, Unavailable
from casestore.tasks.models import DownloadFileType, Status, Task

logger = logging.getLogger(__name__)

# A worker that has not been heard of for so long is taken for dead, and its task may be claimed again.
SILENCE = timedelta(seconds=45)
# A worker says at most so often that it lives, so that progress does not cost a transaction for each image.
BEAT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Result:
    """What a task leaves behind: a sentence and, where there is one, a file in the storage."""

    message: str
    key: str = ""
    file_type: DownloadFileType | None = None
    size: int = 0
    sha256: str = ""
    results: Sequence[dict[str, Any]] = ()


class Superseded(Exception):
    """Another worker took the task over, or it has ended: whoever gets this stops quietly."""


def create_task(*, owner: User, name: str, parameters: dict[str, Any], total: int, run_by: celery.Task) -> Task:
    """Queues the work when the surrounding transaction commits. Raises Unavailable where the broker is away."""
    task = Task(owner=owner, name=name, parameters=parameters, total=total, message="Waiting for a worker.")
    with transaction.atomic():
        task.save(force_insert=True)
        transaction.on_commit(lambda: _enqueue(task, run_by))
    return task


def _enqueue(task: Task, run_by: celery.Task) -> None:
    try:
        run_by.delay(task.task_id)
    except Exception as error:  # Whatever it is, the task must not wait for a worker for ever.
        logger.error("task %s could not be queued: %s", task.task_id, type(error).__name__)
        _end(task, Status.ERROR, error_message="The task could not be queued: the broker does not answer.")
        raise Unavailable("The task could not be queued: the broker does not answer. Try again later.") from None


class Progress:
    """How far a claimed task is. Each report also says that the worker lives and still owns the task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._written = clock.now()

    def expect(self, total_bytes: int) -> None:
        pass

    def checkpoint(self, data: dict[str, Any]) -> None:
        self._task.checkpoint = data

    def report(self, finished: int, message: str, *, bytes_done: int | None = None) -> None:
        """Writes at once when `finished` moved, else at most once in BEAT. Raises Superseded."""
        now = clock.now()
        task = self._task
        if finished == task.finished and now - self._written < BEAT:
            return
        owned = Task.objects.filter(pk=task.pk, status=Status.PROCESSING, heartbeat_at=task.heartbeat_at)
        if not owned.update(finished=finished, message=message[:255], heartbeat_at=now, updated_at=now):
            raise Superseded
        task.finished, task.heartbeat_at, self._written = finished, now, now


def claim(task_id: str) -> Task | None:
    """The task, now owned by the caller; None where it has ended or a living worker has it."""
    now = clock.now()
    free = Q(heartbeat_at=None) | Q(heartbeat_at__lt=now - SILENCE)
    claimed = Task.objects.filter(free, task_id=task_id, status=Status.PROCESSING).update(
        heartbeat_at=now, updated_at=now, finished=0
    )
    return Task.objects.select_related("owner").get(task_id=task_id) if claimed else None


def run_task(task_id: str, work: Callable[[Task, Progress], Result]) -> bool:
    """Claims, works, and records the end. False where a living worker has the task: ask again later."""
    task = claim(task_id)
    if task is None:
        return not Task.objects.filter(task_id=task_id, status=Status.PROCESSING).exists()
    try:
        result = work(task, Progress(task))
    except Superseded:
        return True
    except CasestoreError as error:
        _end(task, Status.ERROR, error_message=error.sentence)
    except Exception as error:
        # The message of an unforeseen exception may quote a data set; its type and place do not.
        place = "".join(traceback.format_tb(error.__traceback__))
        logger.error("task %s failed: %s\n%s", task_id, type(error).__name__, place)
        _end(task, Status.ERROR, error_message=f"The task failed unexpectedly ({type(error).__name__}).")
    else:
        _end(
            task,
            Status.FINISHED,
            finished_message=result.message,
            finished=task.total,
            result_key=result.key,
            download_file_type=result.file_type or "",
        )
    return True


def _end(task: Task, status: Status, **changes: Any) -> bool:
    now = clock.now()
    ended = Task.objects.filter(pk=task.pk, status=Status.PROCESSING, heartbeat_at=task.heartbeat_at).update(
        status=status, message="", ended_at=now, updated_at=now, **changes
    )
    return bool(ended)


def set_dismissed(task: Task, dismissed: bool) -> None:
    Task.objects.filter(pk=task.pk).update(dismissed=dismissed, updated_at=clock.now())
