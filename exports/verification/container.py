"""The members of an archive, and whether it is one that `exports.archives` wrote: nothing beside them, nothing between.

What an archive could say otherwise than it does (who owns a file, a comment, data behind its end) is told.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from exports.archives import (
    DEFLATED,
    GZIP_HEADER,
    MODE,
    ZipMember,
    archive_end,
    central_header,
    local_header,
    read_member,
    tar_header,
    zip_time,
)

CHUNK = 2**20
Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Written:
    """When a member was written, as its container says it: seconds since 1970, or a zip archive's time and date."""

    seconds: int | None = None
    zip_time: tuple[int, int] | None = None

    def is_at(self, moment: datetime) -> bool:
        if self.zip_time is not None:
            return self.zip_time == zip_time(moment)
        return self.seconds == int(moment.timestamp())


Member = tuple[str, Written, IO[bytes]]


def kind_of(path: Path) -> str:
    """`zip`, or `tgz` for whatever is none."""
    return "zip" if zipfile.is_zipfile(path) else "tgz"


def members(path: Path, tell: Tell) -> Iterator[Member]:
    """Each is read before the next one is asked for. `tell` is given sentences; raises nearly anything."""
    with path.open("rb") as file:
        for name, written, content in _in_zip(file, tell) if kind_of(path) == "zip" else _in_tar(file, tell):
            if _leads_out(name):
                tell(f"{name!r} is no name that stays inside a folder.")
            yield name, written, content


def _leads_out(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not parts or name.startswith("/") or "\\" in name or ".." in parts or str(PurePosixPath(name)) != name


class _Gunzipped:
    """One gzip member, read to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(wbits=31)
        self.size = 0

    def read(self, count: int) -> bytes:
        data = b""
        while not data and not self._inflater.eof:
            more = self._inflater.unconsumed_tail or self._file.read(CHUNK)
            if not more:
                raise EOFError("it is cut off")
            data = self._inflater.decompress(more, count)
        self.size += len(data)
        return data

    def has_more(self) -> bool:
        return bool(self._inflater.unused_data or self._file.read(1))


def _in_tar(file: BinaryIO, tell: Tell) -> Iterator[Member]:
    if file.read(len(GZIP_HEADER)) != GZIP_HEADER:
        tell("The gzip header is not that of an export.")
    file.seek(0)
    unzipped = _Gunzipped(file)
    expected = 0
    with tarfile.open(fileobj=unzipped, mode="r|") as archive:  # type: ignore[call-overload]  # all that it needs
        for info in archive:
            content = archive.extractfile(info) if info.isreg() else None
            if content is None:
                raise tarfile.TarError(f"{info.name} is no regular file")
            header = tar_header(info.name, info.size, int(info.mtime))
            if info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") != header:
                tell(f"{info.name} has another owner, mode or time than files of an export have.")
            expected += len(header) + info.size + -info.size % tarfile.BLOCKSIZE
            yield info.name, Written(seconds=int(info.mtime)), content
    while unzipped.read(CHUNK):
        pass
    if unzipped.size != expected + 2 * tarfile.BLOCKSIZE:
        tell("The tar archive has something between its files, or behind them.")
    if unzipped.has_more():
        tell("There is something behind the end of the archive.")


class _Readable:
    """A file as `exports.archives` reads what it wrote."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def read_at(self, place: int, size: int) -> bytes:
        self._file.seek(place)
        return self._file.read(size)


def _in_zip(file: BinaryIO, tell: Tell) -> Iterator[Member]:
    raw = _Readable(file)
    place, count, directory = 0, 0, bytearray()
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if mode != stat.S_IFREG | MODE or info.compress_type != DEFLATED:
                tell(f"{info.filename} has another mode or compression than files of an export have.")
            member, after = read_member(raw, place)
            if raw.read_at(place, len(local_header(member))) != local_header(member) or not _agree(member, info):
                tell(f"{info.filename} has two headers that differ, or another than files of an export have.")
            directory += central_header(member)
            with archive.open(info) as content:
                yield info.filename, Written(zip_time=(member.time, member.date)), content
            place, count = after, count + 1
    directory += archive_end(count, place, len(directory))
    if raw.size != place + len(directory) or raw.read_at(place, len(directory)) != directory:
        tell("The directory of the zip archive is not that of an export, or there is something beside it.")


def _agree(member: ZipMember, info: zipfile.ZipInfo) -> bool:
    here = (member.name, member.offset, member.size, member.compressed, member.crc)
    return here == (info.filename, info.header_offset, info.file_size, info.compress_size, info.CRC)
