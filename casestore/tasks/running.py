"""The work of a task: claimed by one worker, done, and its end recorded once, whatever dies meanwhile."""

from __future__ import annotations

import errno
import hashlib
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Greatest, Now

from casestore.errors import CasestoreError
from casestore.tasks import files, kinds, queueing
from casestore.tasks.models import DownloadFileType, Status, Task
from casestore.tasks.progress import AWAY, HandedBack, Heart, Progress, Superseded, is_stopping, owned

logger = logging.getLogger(__name__)

# A database that fails this often in one task is not away.
MOST_RESTARTS = 10
NO_ROOM = {
    errno.ENOSPC: "There is no room left on the disk.",
    errno.EDQUOT: "There is no room left on the disk: the quota is used up.",
    errno.EFBIG: "A file would be larger than this system allows.",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a task leaves behind: a sentence and, where there is one, a file in the storage.

    `results` says what became of each item. `size` and `sha256` are worked out where they are missing.
    """

    message: str
    key: str = ""
    file_type: DownloadFileType | None = None
    size: int = 0
    sha256: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)


class WorkFailed(CasestoreError):
    """The work of a task came to nothing; `results` says what became of its items."""

    def __init__(self, sentence: str, *, results: list[dict[str, Any]]) -> None:
        super().__init__(sentence)
        self.results = results


Work = Callable[[Task, Progress], Result]


def claim(task_id: str) -> Task | None:
    """A task that is now the caller's; None where there is nothing to do.

    Where an owner may have only so many at once, it is the oldest of theirs that waits, not always the one named.
    """
    named = Task.objects.filter(task_id=task_id).first()
    if named is None:
        return None
    at_once = kinds.kind_of(named.run_by).at_once
    if at_once is None:
        return _take(queueing.waiting().filter(pk=named.pk))
    with transaction.atomic():
        queueing.lock_owner(named)
        oldest = queueing.waiting(named.run_by).filter(owner=named.owner_id)
        count = queueing.running(named)
        if count >= at_once():
            message = f"Waiting: {count} of your tasks are running; this one starts when one of them ends."
            oldest.filter(pk=named.pk).update(message=message, updated_at=Now())
            return None
        return _take(oldest)


def _take(rows: QuerySet[Task]) -> Task | None:
    task = rows.first()
    if task is None:
        return None
    token = secrets.token_hex(16)
    taken = rows.filter(pk=task.pk).update(
        claimed_by=token,
        attempts=F("attempts") + 1,
        heartbeat_at=Now(),
        updated_at=Now(),
        measured_at=None,
        message="Started.",
    )
    # It may have been cancelled at once.
    return Task.objects.select_related("owner").filter(pk=task.pk, claimed_by=token).first() if taken else None


def run_task(task_id: str, work: Work) -> bool:
    """Claims, works, and records the end. Whether there was anything to do.

    `work` may be called again when the database was away meanwhile; `task.checkpoint` is then what was kept last.
    """
    try:
        task = claim(task_id)
    except AWAY as error:
        # The message is used up; a look sends another one.
        logger.warning("task %s could not be claimed: %s", task_id, type(error).__name__)
        connection.close()
        return False
    if task is None:
        return False
    progress = Progress(task)
    with Heart(progress):
        try:
            ending = _work(task, progress, work)
            _record(task, progress, ending)
        except HandedBack:
            _hand_back(task)
        except Superseded:
            _leave(task)
    return True


@dataclass(frozen=True, slots=True)
class _Ending:
    status: Status
    changes: dict[str, Any]
    key: str = ""


def _work(task: Task, progress: Progress, work: Work) -> _Ending:
    for restart in range(MOST_RESTARTS):
        try:
            if restart:
                _until_the_database_answers(progress)
                task.refresh_from_db(fields=["checkpoint"])
            return _finished(_measured(work(task, progress)))
        except AWAY as error:
            logger.warning("task %s waits for the database: %s", task.task_id, type(error).__name__)
        except Exception as error:
            results = error.results if isinstance(error, WorkFailed) else []
            return _Ending(Status.ERROR, {"error_message": _sentence(task, error), "results": results})
    return _Ending(Status.ERROR, {"error_message": "The database failed again and again; its log says why."})


def ends_task(error: BaseException) -> bool:
    """Whether the error concerns the whole task: work that goes on when one item fails must raise it again."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return not isinstance(error, Exception) or isinstance(error, (*AWAY, MemoryError, SoftTimeLimitExceeded))


def _sentence(task: Task, error: Exception) -> str:
    if isinstance(error, CasestoreError):
        return error.sentence
    if isinstance(error, SoftTimeLimitExceeded):
        return f"The task took longer than {timedelta(seconds=settings.CASESTORE_TASK_SECONDS)} and was stopped."
    if isinstance(error, MemoryError):
        return "The task needs more memory than this server has."
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return NO_ROOM[error.errno]
    # The message of an unforeseen exception may quote a data set; its type and place do not.
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("task %s failed: %s\n%s", task.task_id, type(error).__name__, place)
    return f"The task failed unexpectedly ({type(error).__name__})."


def _measured(result: Result) -> Result:
    if not result.key or result.sha256:
        return result
    with default_storage.open(result.key) as file:
        digest = hashlib.sha256()
        size = 0
        while block := file.read(2**20):
            digest.update(block)
            size += len(block)
    return Result(result.message, result.key, result.file_type, size, digest.hexdigest(), result.results)


def _finished(result: Result) -> _Ending:
    changes = {
        "finished_message": result.message,
        "finished": F("total"),
        "bytes_done": Greatest(F("bytes_done"), F("bytes_total")),
        "bytes_total": Greatest(F("bytes_done"), F("bytes_total")),
        "results": result.results,
        "result_key": result.key,
        "download_file_type": result.file_type or "",
        "size": result.size,
        "sha256": result.sha256,
    }
    if result.key and settings.CASESTORE_EXPORT_DAYS:
        changes["expires_at"] = Now() + timedelta(days=settings.CASESTORE_EXPORT_DAYS)
    return _Ending(Status.FINISHED, changes, result.key)


def _until_the_database_answers(progress: Progress) -> None:
    """Raises Superseded where the task went to somebody else meanwhile, and when this worker is to stop."""
    pause = 0.2
    while True:
        if is_stopping():
            raise HandedBack
        connection.close()
        try:
            progress.beat()
        except AWAY:
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        else:
            return


def _record(task: Task, progress: Progress, ending: _Ending) -> None:
    while True:
        try:
            ended = end(owned(task), ending.status, **ending.changes)
        except AWAY:
            try:
                _until_the_database_answers(progress)
            except Superseded:
                # What was sent before the connection broke may have been done.
                _leave(task, ending.key)
                return
        else:
            break
    if not ended:
        _leave(task, ending.key)
        return
    after_end(task)


def end(rows: QuerySet[Task], status: Status, **changes: Any) -> bool:
    """One conditional update, whatever the condition is."""
    return bool(
        rows.update(
            status=status, message="", ended_at=Now(), updated_at=Now(), checkpoint={}, claimed_by="", **changes
        )
    )


def after_end(task: Task) -> None:
    """What follows from the end of a task. What a crash leaves undone here, looks and sweeps make up for."""
    try:
        queueing.wake_next(task)
        files.discard(task.task_id)
    except AWAY:
        connection.close()


def _hand_back(task: Task) -> None:
    try:
        freed = owned(task).update(
            claimed_by="",
            attempts=Greatest(F("attempts") - 1, 0),
            queued_at=Now(),
            updated_at=Now(),
            message=queueing.WAITING,
        )
    except AWAY:
        return
    if freed:
        logger.info("task %s was handed back", task.task_id)
        queueing.try_to_send(task)


def _leave(task: Task, key: str = "") -> None:
    """Removes what is left of work that nobody wants: a result that came late, and all of a task that is over."""
    try:
        row = Task.objects.filter(pk=task.pk).first()
        if key and (row is None or row.result_key != key):
            files.delete([key])
        if row is None or row.status != Status.PROCESSING:
            files.discard(task.task_id)
    except AWAY:
        connection.close()
