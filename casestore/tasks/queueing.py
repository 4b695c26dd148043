"""Telling workers that there is something to do. The rows are the queue; a message only wakes a worker.

So a message that is lost costs time and no task, and one that comes twice costs nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from casestore.celery import app
from casestore.tasks import kinds
from casestore.tasks.models import Status, Task

logger = logging.getLogger(__name__)

WAITING = "Waiting for a worker."
# A message younger than this may be on its way.
ON_ITS_WAY = timedelta(seconds=10)
# Where the queue is never empty, a task whose message may be lost is queued again after so long.
LONG = timedelta(minutes=10)
MOST_AT_ONCE = 1000

# Primary key, id, kind and owner of a task, when it was queued, and the time now.
Row = tuple[int, str, str, int, datetime | None, datetime]


def send(task: Task) -> None:
    """Raises what the broker raises."""
    app.send_task(task.run_by, args=[task.task_id])


def try_to_send(task: Task) -> None:
    """Where the broker is away, the next look of a worker finds the task."""
    try:
        send(task)
    except Exception as error:
        logger.warning("task %s could not be queued yet: %s", task.task_id, type(error).__name__)


def waiting(run_by: str | None = None) -> QuerySet[Task]:
    """Tasks that nobody works on, the oldest first."""
    rows = Task.objects.filter(status=Status.PROCESSING, claimed_by="").order_by("created_at", "pk")
    return rows if run_by is None else rows.filter(run_by=run_by)


def lock_owner(task: Task) -> None:
    """Until the transaction ends, nobody else claims a task of this owner and kind."""
    name = hashlib.sha256(f"{task.run_by} {task.owner_id}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int.from_bytes(name[:8], "big", signed=True)])


def running(task: Task) -> int:
    """How many tasks of this one's owner and kind are being worked on."""
    rows = Task.objects.filter(status=Status.PROCESSING, owner=task.owner_id, run_by=task.run_by)
    return rows.exclude(claimed_by="").count()


def wake_next(ended: Task) -> None:
    """The end of a task is the beginning of the owner's oldest that waits."""
    if kinds.kind_of(ended.run_by).at_once is None:
        return
    following = waiting(ended.run_by).filter(owner=ended.owner_id).first()
    if following is not None:
        Task.objects.filter(pk=following.pk).update(queued_at=Now())
        try_to_send(following)


def queue_again() -> int:
    """Sends new messages for tasks whose messages seem to be lost; how many.

    An empty queue has no message for any task that waits. Raises what the broker raises.
    """
    columns = ("pk", "task_id", "run_by", "owner_id", "queued_at", Now())
    rows = waiting().filter(run_by__in=kinds.names()).values_list(*columns)
    startable = [
        (Task(pk=pk, task_id=task_id, run_by=run_by), at, now - at if at else LONG)
        for pk, task_id, run_by, _, at, now in _startable(list(rows))
    ]
    lost = [row for row in startable if row[2] >= ON_ITS_WAY]
    if lost and length():
        lost = [row for row in lost if row[2] >= LONG]
    sent = 0
    for task, queued_at, _ in lost[:MOST_AT_ONCE]:
        # Of several workers that look at once, one sends.
        if Task.objects.filter(pk=task.pk, claimed_by="", queued_at=queued_at).update(queued_at=Now()):
            send(task)
            sent += 1
    return sent


def _startable(rows: Sequence[Row]) -> list[Row]:
    """Those whose owners have fewer running than they may; of each owner's, the oldest."""
    if not rows:
        return []
    at_work = Task.objects.filter(status=Status.PROCESSING).exclude(claimed_by="")
    busy = Counter(at_work.values_list("run_by", "owner_id"))
    found = []
    for row in rows:
        key = row[2:4]
        at_once = kinds.kind_of(row[2]).at_once
        if at_once is None or busy[key] < at_once():
            found.append(row)
        busy[key] += 1
    return found


def length() -> int:
    """Messages that no worker has taken yet."""
    with app.connection_for_write() as broker:
        try:
            declared = broker.default_channel.queue_declare(app.conf.task_default_queue, passive=True)
        except broker.channel_errors:
            # Redis has no empty lists.
            return 0
        return int(declared.message_count)
