"""Writing archives: gzip'd tar (PAX, POSIX.1-2001) and zip (APPNOTE 6.3.10, with Zip64), a chunk at a time.

The same members give the same bytes: times come from the caller, compression is zlib-ng's, which is deterministic. No
Django.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol

from zlib_ng import zlib_ng

LEVEL = 3
GZIP, RAW = 31, -15
MODE = 0o644

ZIP64_VERSION, DEFLATE_VERSION = 45, 20
UNIX = 3
DEFLATED = 8
UTF8 = 0x800
LIMIT32, LIMIT16 = 0xFFFFFFFF, 0xFFFF
# What the ZIP format can say of a time.
EARLIEST, LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)


class ArchiveWriter(Protocol):
    """Members are written in the order in which they are added."""

    def add(self, name: str, size: int, modified: datetime, chunks: Iterable[Any]) -> None:
        """Adds a file of exactly `size` bytes from `chunks`, objects with the buffer protocol, C-contiguous.

        Raises ValueError where the chunks have another length.
        """
        ...


@contextmanager
def open_archive(file: BinaryIO, kind: str) -> Iterator[ArchiveWriter]:
    """A writer of a `tgz` or `zip` archive into a seekable file; it is complete when the block ends without error."""
    writer = ZipWriter(file) if kind == "zip" else TarGzipWriter(file)
    yield writer
    writer.finish()


def _exactly(size: int, chunks: Iterable[Any]) -> Iterator[memoryview]:
    """The chunks as bytes; checks their length."""
    seen = 0
    for chunk in chunks:
        view = memoryview(chunk)
        seen += view.nbytes
        if view.nbytes:
            yield view.cast("B")
    if seen != size:
        raise ValueError(f"A member of {size} bytes was given {seen}.")


class TarGzipWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # wbits 31: a gzip header (RFC 1952) without name and time.
        self._deflate = zlib_ng.compressobj(LEVEL, zlib_ng.DEFLATED, GZIP)

    def add(self, name: str, size: int, modified: datetime, chunks: Iterable[Any]) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, int(modified.timestamp()), MODE
        self._write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        for chunk in _exactly(size, chunks):
            self._write(chunk)
        self._write(bytes(-size % tarfile.BLOCKSIZE))

    def _write(self, data: Any) -> None:
        if compressed := self._deflate.compress(data):
            self._file.write(compressed)

    def finish(self) -> None:
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.write(self._deflate.flush())


@dataclass(frozen=True, slots=True)
class _Member:
    name: bytes
    offset: int
    size: int
    compressed: int
    crc: int
    time: int
    date: int


class ZipWriter:
    """Sizes and CRC are written into a member's header once they are known: no data descriptors, which some refuse."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._members: list[_Member] = []
        self._position = file.tell()

    def add(self, name: str, size: int, modified: datetime, chunks: Iterable[Any]) -> None:
        moment = min(max(modified.astimezone(UTC), EARLIEST), LATEST)
        member = _Member(
            name=name.encode("utf-8"),
            offset=self._position,
            size=size,
            compressed=0,
            crc=0,
            time=moment.hour << 11 | moment.minute << 5 | moment.second // 2,
            date=(moment.year - 1980) << 9 | moment.month << 5 | moment.day,
        )
        # Deflate adds at most 5 bytes to each 16 kB that it cannot compress.
        zip64 = size + size // 1000 + 1000 > LIMIT32
        header = self._local_header(member, zip64)
        self._file.write(header)
        start = member.offset + len(header)
        crc, compressed = self._deflate(_exactly(size, chunks))
        member = _Member(member.name, member.offset, size, compressed, crc, member.time, member.date)
        self._position = start + compressed
        self._file.seek(member.offset)
        self._file.write(self._local_header(member, zip64))
        self._file.seek(self._position)
        self._members.append(member)

    def _deflate(self, chunks: Iterable[memoryview]) -> tuple[int, int]:
        """CRC-32 of the chunks, and the number of compressed bytes that were written."""
        deflate = zlib_ng.compressobj(LEVEL, zlib_ng.DEFLATED, RAW)
        crc = written = 0
        for chunk in chunks:
            crc = zlib_ng.crc32(chunk, crc)
            written += self._file.write(deflate.compress(chunk))
        written += self._file.write(deflate.flush())
        return crc, written

    @staticmethod
    def _flags(member: _Member) -> int:
        return 0 if member.name.isascii() else UTF8

    def _local_header(self, member: _Member, zip64: bool) -> bytes:
        """APPNOTE 4.3.7."""
        extra = struct.pack("<HHQQ", 1, 16, member.size, member.compressed) if zip64 else b""
        sizes = (LIMIT32, LIMIT32) if zip64 else (member.compressed, member.size)
        fixed = struct.pack(
            "<4sHHHHHLLLHH",
            b"PK\x03\x04",
            ZIP64_VERSION if zip64 else DEFLATE_VERSION,
            self._flags(member),
            DEFLATED,
            member.time,
            member.date,
            member.crc,
            *sizes,
            len(member.name),
            len(extra),
        )
        return fixed + member.name + extra

    def _central_header(self, member: _Member) -> bytes:
        """APPNOTE 4.3.12; what does not fit 32 bits is in the Zip64 extra field, in this order (4.5.3)."""
        values = (member.size, member.compressed, member.offset)
        large = [value for value in values if value >= LIMIT32]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        size, compressed, offset = (min(value, LIMIT32) for value in values)
        version = ZIP64_VERSION if large else DEFLATE_VERSION
        fixed = struct.pack(
            "<4sHHHHHHLLLHHHHHLL",
            b"PK\x01\x02",
            UNIX << 8 | version,
            version,
            self._flags(member),
            DEFLATED,
            member.time,
            member.date,
            member.crc,
            compressed,
            size,
            len(member.name),
            len(extra),
            0,
            0,
            0,
            (0o100000 | MODE) << 16,
            offset,
        )
        return fixed + member.name + extra

    def finish(self) -> None:
        start, count = self._position, len(self._members)
        size = sum(self._file.write(self._central_header(member)) for member in self._members)
        if count >= LIMIT16 or start >= LIMIT32 or size >= LIMIT32:
            record = struct.pack(
                "<4sQHHLLQQQQ",
                b"PK\x06\x06",
                44,
                ZIP64_VERSION,
                ZIP64_VERSION,
                0,
                0,
                count,
                count,
                size,
                start,
            )
            locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
            self._file.write(record + locator)
        ends = (min(count, LIMIT16), min(count, LIMIT16), min(size, LIMIT32), min(start, LIMIT32))
        self._file.write(struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, *ends, 0))
