"""Finding DICOM files: in folders, in zip and tar archives."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from cases.dicom.errors import DicomRefused
from cases.dicom.reader import read_series_uid

MAX_UNPACKED = 256 * 2**30
CHUNK = 2**20

OnRefused = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read, and the name by which a person knows it: `archive.zip: folder/image.dcm`."""

    name: str
    path: Path


def iter_dicom_files(
    paths: Iterable[Path], spool: Path, on_refused: OnRefused, *, name_members: bool = True
) -> Iterator[SourceFile]:
    """The files under `paths`, sorted, those in archives unpacked into `spool`; whether they are DICOM is not asked.

    With `name_members` false a file of an archive is known by its place in it: names of files often hold the patient's.
    """
    unpacker = Unpacker(spool, on_refused, name_members)
    for path in paths:
        for file in _files(path):
            name = str(file)
            try:
                kind = archive_kind(file)
                if kind is None:
                    yield SourceFile(name, file)
                else:
                    yield from unpacker.unpack(name, file, kind)
            except OSError as error:
                on_refused(name, f"It cannot be read: {error.strerror or type(error).__name__}.")


def group_by_series(files: Iterable[SourceFile], on_refused: OnRefused) -> dict[str, list[SourceFile]]:
    """The files of each Series Instance UID; what is no DICOM file is refused."""
    groups: dict[str, list[SourceFile]] = {}
    for source in files:
        try:
            with source.path.open("rb") as file:
                groups.setdefault(read_series_uid(file), []).append(source)
        except DicomRefused as refusal:
            on_refused(source.name, refusal.sentence)
        except OSError as error:
            on_refused(source.name, f"It cannot be read: {error.strerror or type(error).__name__}.")
    return groups


def archive_kind(path: Path) -> str | None:
    """`zip`, `tar` or None; a DICOM file is none, whatever its preamble or its end look like."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return None
    if start[:4] in {b"PK\x03\x04", b"PK\x05\x06"} and zipfile.is_zipfile(path):
        return "zip"
    return "tar" if tarfile.is_tarfile(path) else None


def _files(path: Path) -> Iterator[Path]:
    """Regular files only: a pipe or a device would never end."""
    if not path.is_dir():
        if stat.S_ISREG(path.stat().st_mode):
            yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():
                yield file


class Unpacker:
    """Unpacks archives under names of its own, so that no name in an archive can lead out of the folder."""

    def __init__(self, spool: Path, on_refused: OnRefused, name_members: bool) -> None:
        self.spool, self.on_refused, self.name_members = spool, on_refused, name_members
        self.count = 0
        self.left = MAX_UNPACKED

    def unpack(self, name: str, path: Path, kind: str) -> Iterator[SourceFile]:
        members = _zip_members(path) if kind == "zip" else _tar_members(path)
        position = 0
        try:
            for member, open_member in members:
                position += 1
                known_as = f"{name}: {member if self.name_members else f'file {position}'}"
                try:
                    target = self._copy(open_member)
                    if archive_kind(target) is None:
                        yield SourceFile(known_as, target)
                    else:
                        self.on_refused(known_as, "It is an archive within an archive; unpack it first.")
                except BAD_MEMBER as error:
                    self.on_refused(known_as, f"It cannot be unpacked ({type(error).__name__}).")
        except (*BAD_MEMBER, tarfile.TarError) as error:
            self.on_refused(name, f"The archive is damaged or truncated ({type(error).__name__}).")

    def _copy(self, open_member: Callable[[], IO[bytes]]) -> Path:
        self.count += 1
        target = self.spool / f"{self.count}"
        with open_member() as file, target.open("wb") as copy:
            while chunk := file.read(CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise DicomRefused("too_large", "The archives hold more than 256 GiB.")
                copy.write(chunk)
        return target


BAD_MEMBER = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    DicomRefused,
    ValueError,
)


def _zip_members(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, partial(archive.open, info)


def _tar_members(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isreg():
                yield info.name, partial(_member, archive, info)


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None  # a regular file has content
    return file
