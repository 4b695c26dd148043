"""An archive while it grows: what it has so far, and going on after a crash."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from casestore import ids
from casestore.storage import GrowingFile
from exports.archives import ArchiveWriter, archive_writer
from exports.pieces import Digest

CHUNK = 2**20
Checkpoint = dict[str, Any]


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
        self.position, self._digest = 0, Digest(self._pool)
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
        if left or self._digest.hexdigest() != checkpoint["sha256"]:
            self._file.truncate(0)
            self._file.seek(0)
            self.position, self._digest = 0, Digest(self._pool)
            return False
        return True

    def write(self, data: Any) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.position += memoryview(data).nbytes

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
        return self.position, self._digest.copy(), state

    def go_back(self, mark: tuple[int, Any, Any]) -> None:
        """To where `mark` was taken."""
        self.position, self._digest, state = mark[0], mark[1].copy(), mark[2]
        self._file.flush()
        self._file.truncate(self.position)
        self._file.seek(self.position)
        self.archive = archive_writer(self, self._kind, state)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def publish(self) -> None:
        """Completes the archive, which then is in the storage."""
        self.archive.finish()
        self._file.close()
        self._growing.publish()
        self._digest.hexdigest()
        self._pool.shutdown()

    def close(self) -> None:
        self._file.close()
        self._pool.shutdown(cancel_futures=True)
