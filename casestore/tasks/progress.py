"""What a working task says: how far it is, that its worker lives, and where another one could go on."""

from __future__ import annotations

import mmap
import threading
import time
from types import TracebackType
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, connections
from django.db.models import QuerySet
from django.db.models.functions import Now

from casestore.tasks.models import Status, Task

# A worker writes at most so often, so that progress does not cost a transaction for each image.
WRITE_EVERY = 1.0
# A thread beside the work says so often that the worker lives, however long one step of the work takes.
BEAT_EVERY = 3.0
# What the database raises when it is away, restarts or has no room: nothing that a task did wrong.
AWAY = (OperationalError, InterfaceError)

# Shared with the processes that a worker forks, which hear nothing of its signals.
_stopping = mmap.mmap(-1, 1)


class Superseded(BaseException):
    """The task was cancelled, has ended, or another worker has it: whoever gets this stops at once and says nothing.

    No Exception: code that goes on with the next case when one fails must not go on with this.
    """


class HandedBack(Superseded):
    """The worker is asked to stop: another one goes on with the task."""


def stop_working() -> None:
    """Makes every task of this worker hand itself back at its next report."""
    _stopping[0] = 1


def is_stopping() -> bool:
    return bool(_stopping[0])


class Progress:
    """How far a claimed task is. Whatever is written here also says that the worker lives and still owns the task.

    Every method raises Superseded when the task is no longer this worker's.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lost = False
        self._written = 0.0
        self._finished: int | None = None
        self._measured = False

    def check(self) -> None:
        """Writes nothing: for each step inside a transaction, which would keep the row locked until it ends."""
        if self._lost:
            raise Superseded
        if is_stopping():
            raise HandedBack

    def report(
        self, finished: int, message: str, *, bytes_done: int | None = None, bytes_total: int | None = None
    ) -> None:
        """Writes at once when `finished` moved, else at most once in WRITE_EVERY seconds: call it for each slice.

        `bytes_total` may be an estimate that later reports correct.

        A database that is away is no reason to stop: what it missed, a later report tells.
        """
        self.check()
        now = time.monotonic()
        if finished == self._finished and now - self._written < WRITE_EVERY:
            return
        changes: dict[str, Any] = {"finished": finished, "message": message[:255], "updated_at": Now()}
        if bytes_done is not None:
            changes |= {"bytes_done": bytes_done}
            if bytes_total is not None:
                changes |= {"bytes_total": max(bytes_total, bytes_done)}
            if not self._measured:
                changes |= {"bytes_before": bytes_done, "measured_at": Now()}
        self._written = now
        try:
            self._write(**changes)
        except AWAY:
            if connection.in_atomic_block:
                raise
            connection.close()
        else:
            self._finished = finished
            self._measured = self._measured or bytes_done is not None

    def checkpoint(self, data: dict[str, Any], *, further: bool = True) -> None:
        """Keeps what the work needs to go on from here; whoever claims the task next finds it in `task.checkpoint`.

        `further`: the task got further than ever, so that workers that died before do not count any more.
        """
        self._write(checkpoint=data, updated_at=Now(), **({"attempts": 1} if further else {}))
        self._task.checkpoint = data

    def beat(self) -> None:
        self._write()

    def _write(self, **changes: Any) -> None:
        if not owned(self._task).update(heartbeat_at=Now(), **changes):
            self._lost = True
            raise Superseded


def owned(task: Task) -> QuerySet[Task]:
    """The row, as long as whoever claimed this task still has it."""
    return Task.objects.filter(pk=task.pk, status=Status.PROCESSING, claimed_by=task.claimed_by)


class Heart:
    """Beats while the block runs, in a thread with a connection of its own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stop = threading.Event()
        # Work that hangs for longer than a task may take is not alive.
        self._until = time.monotonic() + settings.CASESTORE_TASK_SECONDS + 60
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(BEAT_EVERY) and time.monotonic() < self._until:
                try:
                    self._progress.beat()
                except AWAY:
                    connection.close()
        except Superseded:
            pass
        finally:
            connections.close_all()
