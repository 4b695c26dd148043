"""An archive while it grows: what it has so far, and going on after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from casestore import ids
from casestore.storage import GrowingFile
from exports.archives import ArchiveWriter, archive_writer

CHUNK = 2**20
# After writing less than so much, what was written is not looked at.
PORTION = 2**18
Checkpoint = dict[str, Any]


class FileDigest:
    """SHA-256 of what is in a file that grows, read behind its writer in a thread."""

    def __init__(self, file: int, pool: ThreadPoolExecutor) -> None:
        self._file, self._pool = file, pool
        self._sha256, self._position = hashlib.sha256(), 0
        self._buffer = memoryview(bytearray(CHUNK))
        self._reading: Future[None] | None = None

    def follow(self, end: int) -> None:
        """All before `end` is in the file, and stays as it is. Does not wait."""
        if end - self._position >= CHUNK and (self._reading is None or self._reading.done()):
            self._settle()
            self._reading = self._pool.submit(self._read, end)

    def _read(self, end: int) -> None:
        while self._position < end:
            count = os.preadv(self._file, [self._buffer[: end - self._position]], self._position)
            if not count:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._sha256.update(self._buffer[:count])
            self._position += count

    def _settle(self) -> None:
        if self._reading is not None:
            self._reading.result()
            self._reading = None

    def until(self, end: int) -> Any:
        """A hash object of all before `end`."""
        self._settle()
        self._read(end)
        return self._sha256.copy()

    def go_back(self, position: int, sha256: Any) -> None:
        """To what `until` gave there."""
        self._settle()
        self._position, self._sha256 = position, sha256.copy()


class GrowingArchive:
    """A sink that counts and hashes what is written, and can go back to a checkpoint.

    Each attempt at an export has a file of its own: one that was given up by a worker that lives after all harms no
    other. What an earlier attempt had packed is copied, not packed again, if it still is what its checkpoint says.
    """

    def __init__(self, key: str, kind: str, checkpoint: Checkpoint | None = None) -> None:
        self._kind = kind
        self._name = ids.new_id()
        self._growing = GrowingFile(key, self._name)
        self._file: BinaryIO = self._growing.path.open("x+b")
        self._pool = ThreadPoolExecutor(1)
        self.position, self._digest = 0, FileDigest(self._file.fileno(), self._pool)
        self._sha256 = ""
        self._taken_over: GrowingFile | None = None
        if checkpoint is not None and not self._take_over(checkpoint):
            checkpoint = None
        self.resumed = checkpoint is not None
        self.archive: ArchiveWriter = archive_writer(self, kind, checkpoint and checkpoint["state"])

    def _take_over(self, checkpoint: Checkpoint) -> bool:
        old, left = GrowingFile(checkpoint["key"], checkpoint["name"]), checkpoint["position"]
        try:
            with old.open() as source:
                while left and (chunk := source.read(min(left, CHUNK))):
                    self.write(chunk)
                    left -= len(chunk)
        except FileNotFoundError:
            return False
        self._taken_over = old
        if left or self.sha256 != checkpoint["sha256"]:
            self._cut(0, hashlib.sha256())
            return False
        return True

    def write(self, data: Any) -> None:
        size = memoryview(data).nbytes
        self._file.write(data)
        self.position += size
        if size >= PORTION:
            self._file.flush()
            self._digest.follow(self.position)

    def _cut(self, position: int, sha256: Any) -> None:
        self._file.flush()
        self._digest.go_back(position, sha256)
        self._file.truncate(position)
        self._file.seek(position)
        self.position = position

    def read_at(self, place: int, size: int) -> bytes:
        self._file.flush()
        return os.pread(self._file.fileno(), size, place)

    def checkpoint(self) -> Checkpoint:
        """All that was added is in the file, where another process finds it."""
        state = self.archive.state()
        self._file.flush()
        return {
            "key": self._growing.key,
            "name": self._name,
            "position": self.position,
            "sha256": self.sha256,
            "state": state,
        }

    def let_go(self) -> None:
        """A checkpoint of this file was kept: what it was copied from is not needed any more."""
        if self._taken_over is not None:
            self._taken_over.discard()
            self._taken_over = None

    def mark(self) -> tuple[int, Any, Any]:
        state = self.archive.state()
        self._file.flush()
        return self.position, self._digest.until(self.position), state

    def go_back(self, mark: tuple[int, Any, Any]) -> None:
        """To where `mark` was taken."""
        position, sha256, state = mark
        self._cut(position, sha256)
        self.archive = archive_writer(self, self._kind, state)

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        if not self._sha256:
            self._file.flush()
            digest: str = self._digest.until(self.position).hexdigest()
            return digest
        return self._sha256

    def publish(self) -> None:
        """Completes the archive, which then is in the storage."""
        self.archive.finish()
        self._file.flush()
        self._digest.follow(self.position)
        self._growing.publish()
        self._sha256 = self.sha256
        self._file.close()
        self._pool.shutdown()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._file.close()
