"""The files of one series on their way in: read, decoded, compressed and copied, several at once.

A copy lies in the storage before its row does. It stays only if the series took it; what a crash leaves is swept.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from django.core.files import File
from django.core.files.storage import default_storage

from cases.dicom.errors import DicomRefused
from cases.dicom.files import SourceFile
from cases.dicom.instance import Frame, Instance
from cases.dicom.reader import read_instance
from cases.dicom.source import buffered
from cases.services.volumes import THREADS
from casestore import clock, ids
from casestore.several import several

logger = logging.getLogger(__name__)

FOLDER = "dicom"
# A copy without a row for so long will not get one, and is swept.
ORPHANED = timedelta(days=1)
# Some of them wait for the disk.
AT_ONCE = 2 * THREADS


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was read. `key` is where its copy lies, of so many bytes; empty where the series had its images."""

    source: SourceFile
    instance: Instance
    key: str
    size: int
    sha256: str


class Intake(AbstractContextManager["Intake"]):
    """Removes, at its end, the copies that were not kept."""

    def __init__(self, known: Mapping[int, str], on_image: Callable[[Frame, np.ndarray], None]) -> None:
        """`known`: the fingerprints of images that the series has, by number; `on_image` is called in any thread."""
        self._known, self._on_image = known, on_image
        self._folder = f"{FOLDER}/{ids.new_id()}"
        self._copies: set[str] = set()

    def read(self, sources: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, Received | DicomRefused]]:
        """What became of each, in their order."""
        with closing(several(self._receive, sources, threads=AT_ONCE)) as outcomes:
            yield from zip(sources, outcomes, strict=True)

    def _receive(self, source: SourceFile) -> Received | DicomRefused:
        try:
            with _opened(source.path) as file:
                content = buffered(file, os.fstat(file.fileno()).st_size)
                instance = read_instance(content, self._on_image)
                if all(self._known.get(frame.number) == frame.sha256 for frame in instance.frames):
                    return Received(source, instance, "", 0, "")
                return self._copied(source, instance, content)
        except DicomRefused as refusal:
            return refusal

    def _copied(self, source: SourceFile, instance: Instance, content: BinaryIO) -> Received:
        content.seek(0)
        sha256 = hashlib.file_digest(cast(io.BytesIO, content), "sha256").hexdigest()
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        key = f"{self._folder}/{ids.new_id()}.dcm"
        self._copies.add(key)
        default_storage.save(key, File(content))
        return Received(source, instance, key, size, sha256)

    def copied(self, received: Received) -> Received:
        """With a copy: anew where the series had its images when it was read, or where the copy may soon be swept."""
        made = ids.made_at(Path(received.key).stem)
        if made is not None and clock.now() - made < ORPHANED / 2:
            return received
        with received.source.path.open("rb") as file:
            return self._copied(received.source, received.instance, file)

    def keep(self, received: Iterable[Received]) -> None:
        self._copies.difference_update(one.key for one in received)

    def __exit__(self, *_: object) -> None:
        for key in self._copies:
            try:
                default_storage.delete(key)
            except Exception as error:  # Whatever a storage raises: it is swept later, and the import has its outcome.
                logger.warning("a copy could not be removed: %s", type(error).__name__)


def _opened(path: Path) -> BinaryIO:
    """Raises DicomRefused where the file went since it was found, or cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DicomRefused("unreadable", f"It cannot be read: {error.strerror or type(error).__name__}.") from None
