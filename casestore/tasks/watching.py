"""A look at the tasks every few seconds, by each worker, in a thread beside its work.

Not a task itself: it must not wait behind the work that it looks after, nor depend on a scheduler. What it finds:
tasks whose worker fell silent, which it frees or, when that happens again and again, ends; and tasks that wait although
the broker has no message for them.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery import signals
from django.core.files.storage import default_storage
from django.db import close_old_connections, connection
from django.db.models.functions import Now

from casestore.storage import is_local
from casestore.tasks import files, queueing, sweeping
from casestore.tasks.models import Status, Task
from casestore.tasks.progress import AWAY, BEAT_EVERY, is_stopping, stop_working
from casestore.tasks.running import end

logger = logging.getLogger(__name__)

LOOK_EVERY = 3.0
# A worker that has not been heard of for so many seconds is taken for dead.
SILENCE = 5 * BEAT_EVERY
# A task whose workers die so often, without its getting on, is not given to another one.
MOST_ATTEMPTS = 3
SWEEP_EVERY = 3600.0
TAKEN_OVER = "Waiting: its worker died, another one goes on."


class Watch:
    """Heartbeats are compared with what was seen before, on this host's own clock, never with a time of day."""

    def __init__(self) -> None:
        # Claim -> the last heartbeat, and when it was first seen.
        self._seen: dict[str, tuple[Any, float]] = {}
        self._looked = 0.0
        self._swept: float | None = None

    def look(self) -> None:
        """Raises what database and broker raise. Where one is away, nobody is called silent for it."""
        try:
            self.look_for_silence(time.monotonic())
        except AWAY:
            self._seen.clear()
            raise
        queueing.queue_again()
        if self._swept is None or time.monotonic() - self._swept > SWEEP_EVERY:
            self._swept = time.monotonic()
            sweeping.sweep_spool()

    def look_for_silence(self, now: float) -> None:
        """`now` is of a clock that only runs forward."""
        claimed = list(Task.objects.filter(status=Status.PROCESSING).exclude(claimed_by=""))
        # Who did not look does not know: this host may have slept.
        before = self._seen if now - self._looked < SILENCE else {}
        self._seen, self._looked = {}, now
        for task in claimed:
            heartbeat, since = before.get(task.claimed_by, (None, now))
            if heartbeat != task.heartbeat_at:
                since = now
            self._seen[task.claimed_by] = (task.heartbeat_at, since)
            if now - since >= SILENCE:
                take_from_the_dead(task)


def take_from_the_dead(task: Task) -> None:
    """Frees the task for another worker, or ends it. Nothing where its worker was heard of meanwhile."""
    rows = Task.objects.filter(
        pk=task.pk, status=Status.PROCESSING, claimed_by=task.claimed_by, heartbeat_at=task.heartbeat_at
    )
    if task.attempts >= MOST_ATTEMPTS:
        sentence = f"The task was given up: {MOST_ATTEMPTS} times its worker died while doing it."
        if end(rows, Status.ERROR, error_message=sentence):
            logger.error("task %s was given up", task.task_id)
            queueing.wake_next(task)
            # Connections to an object storage must not be open when this process forks; a sweep does it there.
            if is_local(default_storage):
                files.discard(task.task_id)
    elif rows.update(claimed_by="", queued_at=None, updated_at=Now(), message=TAKEN_OVER):
        logger.warning("the worker of task %s died", task.task_id)


def _run() -> None:
    watch = Watch()
    told = ""
    while not is_stopping():
        try:
            close_old_connections()
            watch.look()
            told = ""
        except Exception as error:  # Whatever is away comes back; nobody else would look.
            if told != (told := type(error).__name__):
                logger.warning("cannot look after the tasks: %s", told)
            connection.close()
        time.sleep(LOOK_EVERY)


@signals.worker_ready.connect
def start(**options: Any) -> None:
    threading.Thread(target=_run, name="watch", daemon=True).start()


@signals.worker_shutting_down.connect
def stop(**options: Any) -> None:
    stop_working()
