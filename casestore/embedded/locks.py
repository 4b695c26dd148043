"""Locks that the kernel releases when their holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from casestore.embedded.errors import EmbeddedError


class Lock:
    """An flock on a file. Children do not inherit it: Python opens files close-on-exec.

    A forked child without exec shares it; `release` unlocks for both, so such a child cannot keep it alive.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            raise EmbeddedError(f"{path} may not be written; the data folder belongs to another user.") from None

    def shared(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def exclusive(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def try_exclusive(self) -> bool:
        """Whether nobody else holds the lock. A shared lock held before may be lost when they do."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)


@contextlib.contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Waits for the lock on `path` and holds it."""
    lock = Lock(path)
    try:
        lock.exclusive()
        yield
    finally:
        lock.release()
