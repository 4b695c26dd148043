"""The progress of one's tasks as server-sent events (HTML Standard, 9.2).

The rows are asked, once a second, with one query for all tasks of a user. An event's id is the time, on the database's
clock, up to which everything was told, and which ends shortly before it were told too: rows become visible a little
later than the times they hold. So a client that comes back with the id of its last event misses no end and hears none
twice.

A stream holds a thread of the web server. So it lasts for a bounded time, and only a few are held at once in a process;
who comes when there is no room gets the news at once and is asked to come back in a few seconds, which is polling in
the same words.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from casestore.accounts.models import User
from casestore.json_text import dump
from casestore.tasks.models import Status, Task
from casestore.tasks.progress import AWAY

LOOK_EVERY = 1.0
# So often something is sent, that a client which is gone is noticed.
BREATH = 5.0
RETRY, RETRY_WITHOUT_ROOM = 2000, 4000
# A row that says when it ended may become visible so much later.
LATE = timedelta(seconds=10)
# A new client is told of what ended just before: it may have asked for it.
RECENT = timedelta(seconds=60)
MOST_AT_ONCE = 500
# An id must fit a header.
MOST_IN_ID = 100
MOST_OF_ONE = 2
_ID = re.compile(r"(\d{1,17})((?:\.[0-9a-z]{26}){0,100})\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Room:
    """Which streams this process holds."""

    def __init__(self) -> None:
        self._held: Counter[int] = Counter()
        self._lock = threading.Lock()

    def take(self, user: int) -> bool:
        with self._lock:
            if self._held.total() >= settings.CASESTORE_REPORTS or self._held[user] >= MOST_OF_ONE:
                return False
            self._held[user] += 1
            return True

    def leave(self, user: int) -> None:
        with self._lock:
            self._held[user] -= 1


room = Room()
closing = threading.Event()


def close_on(number: signal.Signals) -> None:
    """Ends every stream at this signal too: a server that is told to stop would wait for them."""
    previous = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        closing.set()
        if callable(previous):
            previous(received, frame)

    if callable(previous):
        signal.signal(number, handle)


def stream(user: User, last_event_id: str) -> Iterator[bytes]:
    """The events, until the stream has lasted long enough or the database is away: the client comes back."""
    news = News(user, last_event_id)
    has_room = room.take(user.pk)
    try:
        until = time.monotonic() + settings.CASESTORE_REPORT_SECONDS if has_room else 0.0
        yield b"retry: %d\n\n" % (RETRY if has_room else RETRY_WITHOUT_ROOM)
        sent = time.monotonic()
        while True:
            for event in news.look():
                yield event
                sent = time.monotonic()
            if time.monotonic() + LOOK_EVERY > until:
                return
            if closing.wait(LOOK_EVERY):
                return
            if time.monotonic() - sent >= BREATH:
                yield b": still here\n\n"
                sent = time.monotonic()
    except AWAY:
        connection.close()
    finally:
        if has_room:
            room.leave(user.pk)


class News:
    """What one client has not been told yet."""

    def __init__(self, user: User, last_event_id: str) -> None:
        self._user = user
        # Ends until then were told, and of those shortly before, these.
        self._until: datetime | None = None
        self._told: dict[str, datetime | None] = {}
        self._progress: dict[str, tuple[Any, ...]] = {}
        if found := _ID.match(last_event_id):
            self._until = _EPOCH + timedelta(microseconds=int(found[1]))
            self._told = dict.fromkeys(found[2].split(".")[1:])

    def look(self) -> Iterator[bytes]:
        """Ends first, in their order: whoever hears only some of them comes back for the others."""
        since = Now() - RECENT if self._until is None else self._until - LATE
        mine = Task.objects.visible_to(self._user).filter(owner__is_active=True)
        rows = mine.filter(Q(ended_at=None) | Q(ended_at__gt=since)).annotate(now=Now())
        found = list(rows.order_by("ended_at", "pk")[:MOST_AT_ONCE])
        for task in found:
            if task.ended_at is None:
                self._until = task.now
                state = (task.message, task.finished, task.total, task.bytes_done, task.bytes_total)
                if self._progress.get(task.task_id) != state:
                    self._progress[task.task_id] = state
                    yield self._event("progress", task, task.message)
            elif task.task_id not in self._told:
                self._until = max(self._until or task.ended_at, task.ended_at)
                self._tell(task)
                if task.status == Status.FINISHED:
                    yield self._event("finish", task, task.finished_message)
                else:
                    yield self._event("error", task, task.error_message)

    def _tell(self, task: Task) -> None:
        self._progress.pop(task.task_id, None)
        self._told[task.task_id] = task.ended_at
        assert self._until is not None
        recent = [(task_id, at) for task_id, at in self._told.items() if at is None or at > self._until - 2 * LATE]
        self._told = dict(recent[-MOST_AT_ONCE:])

    def _event(self, name: str, task: Task, message: str) -> bytes:
        data = {
            "taskId": task.task_id,
            "message": message,
            "finished": task.finished,
            "total": task.total,
            "bytesDone": task.bytes_done,
            "bytesTotal": task.bytes_total or None,
            "remainingSeconds": task.remaining_seconds,
        }
        assert self._until is not None
        told = "".join(f".{task_id}" for task_id in list(self._told)[-MOST_IN_ID:])
        moment = (self._until - _EPOCH) // timedelta(microseconds=1)
        return b"event: %s\nid: %d%s\ndata: %s\n\n" % (name.encode(), moment, told.encode(), dump(data))
