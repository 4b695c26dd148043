"""Content while it is made: compressed pieces in a file, runs of zeros between them, and its SHA-256. No Django."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from cases.deflate import RUN, ZEROS, Deflated, crc32, deflate, joined, zeros

CHUNK = 2**20
# Less than so many bytes are not worth handing to another thread.
PORTION = 2**18
# So many portions may wait for their turn.
WAITING = 2


class Digest:
    """SHA-256, computed in a thread of its own. What it is given must not change any more."""

    def __init__(self) -> None:
        self._pool, self._sha256 = ThreadPoolExecutor(1), hashlib.sha256()
        self._small = bytearray()
        self._waiting: deque[Future[None]] = deque()

    def update(self, data: Any) -> None:
        if memoryview(data).nbytes < PORTION:
            self._small += data
            if len(self._small) >= PORTION:
                self._hand_over_small()
            return
        self._hand_over_small()
        self._submit(self._sha256.update, data)

    def update_zeros(self, count: int) -> None:
        if count < PORTION:
            self.update(ZEROS[:count])
            return
        self._hand_over_small()
        self._submit(self._hash_zeros, count)

    def _hash_zeros(self, count: int) -> None:
        for _ in range(count // RUN):
            self._sha256.update(ZEROS)
        self._sha256.update(ZEROS[: count % RUN])

    def _hand_over_small(self) -> None:
        if self._small:
            self._submit(self._sha256.update, self._small)
            self._small = bytearray()

    def _submit(self, work: Callable[[Any], None], argument: Any) -> None:
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(work, argument))

    def _settle(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        self._sha256.update(self._small)
        self._small = bytearray()

    def hexdigest(self) -> str:
        self._settle()
        return self._sha256.hexdigest()


class Pieces:
    """What is added goes to `file`, from its present position on; it must stay as it is until the content was read.

    `digest`, where there is one, is given the content itself.
    """

    def __init__(self, file: BinaryIO, digest: Digest | None = None) -> None:
        self._file, self._digest = file, digest
        self._pieces: list[Deflated] = []

    def add(self, data: Any) -> None:
        """Bytes or a C-contiguous array, which must not change any more."""
        view = memoryview(data).cast("B")
        start, length = self._file.tell(), self._file.write(deflate(view))
        self._pieces.append(Deflated(view.nbytes, crc32(view), length, lambda: self._read(start, length)))
        if self._digest is not None:
            self._digest.update(view)

    def add_zeros(self, count: int) -> None:
        self._pieces.append(zeros(count))
        if self._digest is not None:
            self._digest.update_zeros(count)

    def _read(self, start: int, length: int) -> Iterator[bytes]:
        self._file.seek(start)
        while length:
            chunk = self._file.read(min(length, CHUNK))
            length -= len(chunk)
            yield chunk

    @property
    def content(self) -> Deflated:
        """All that was added. The file must be open while it is read."""
        return joined(self._pieces)
