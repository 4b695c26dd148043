"""Writing archives: gzip'd tar (PAX, POSIX.1-2001) and zip (APPNOTE 6.3.10, with Zip64), of compressed pieces.

Whoever adds a member says its size, CRC and compressed length at once, so that an archive is only ever appended to: a
writer's `state`, taken between two members, is all that another one needs to go on behind them.

The same members give the same bytes. No Django.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from cases.deflate import END, Deflated, combine_crc, crc32, deflate

MODE = 0o644
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

ZIP64_VERSION, DEFLATE_VERSION = 45, 20
UNIX = 3
DEFLATED = 8
UTF8 = 0x800
LIMIT32, LIMIT16 = 0xFFFFFFFF, 0xFFFF
# What the ZIP format can say of a time.
EARLIEST, LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)

LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")
ZIP64_SIZES = struct.Struct("<HHQQ")

State = dict[str, Any]


class Readable(Protocol):
    """An archive, or what there is of it."""

    def read_at(self, place: int, size: int) -> bytes:
        """Fewer bytes where it ends."""
        ...


class Sink(Readable, Protocol):
    """Where an archive is written to. `position` counts its bytes."""

    position: int

    def write(self, data: Any) -> object: ...


class ArchiveWriter(Protocol):
    """Members stand in the archive in the order in which they are added."""

    def add(self, name: str, modified: datetime, content: Deflated) -> None: ...

    def state(self) -> State:
        """JSON; all that was added is in the sink."""
        ...

    def finish(self) -> None:
        """The archive is complete. Nothing may be added any more."""
        ...


def archive_writer(sink: Sink, kind: str, state: State | None = None) -> ArchiveWriter:
    """A writer of a `tgz` or `zip`, which goes on where another one had this state."""
    return (ZipWriter if kind == "zip" else TarGzipWriter)(sink, state)


def _copy(content: Deflated, sink: Sink) -> None:
    """Raises ValueError where the content has another length than it says."""
    start = sink.position
    for chunk in content.read():
        sink.write(chunk)
    if sink.position - start != content.length:
        raise ValueError(f"Content of {content.length} compressed bytes gave {sink.position - start}.")


class TarGzipWriter:
    """One gzip member (RFC 1952), without name and time."""

    def __init__(self, sink: Sink, state: State | None = None) -> None:
        self._sink = sink
        # Headers and padding, compressed together as soon as ready-made pieces follow.
        self._raw = bytearray()
        self._crc = self._size = 0
        if state is None:
            sink.write(GZIP_HEADER)
        else:
            self._crc, self._size = state["crc"], state["size"]

    def add(self, name: str, modified: datetime, content: Deflated) -> None:
        self._raw += tar_header(name, content.size, int(modified.timestamp()))
        self._flush()
        self._count(content.crc, content.size)
        _copy(content, self._sink)
        self._raw += bytes(-content.size % tarfile.BLOCKSIZE)

    def _count(self, crc: int, size: int) -> None:
        self._crc = combine_crc(self._crc, crc, size)
        self._size += size

    def _flush(self) -> None:
        if self._raw:
            self._count(crc32(self._raw), len(self._raw))
            self._sink.write(deflate(self._raw))
            self._raw = bytearray()

    def state(self) -> State:
        self._flush()
        return {"crc": self._crc, "size": self._size}

    def finish(self) -> None:
        self._raw += bytes(2 * tarfile.BLOCKSIZE)
        self._flush()
        self._sink.write(END + struct.pack("<LL", self._crc, self._size & LIMIT32))


def tar_header(name: str, size: int, seconds: int) -> bytes:
    """What stands before a member; `seconds` since 1970."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, seconds, MODE
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def zip_time(moment: datetime) -> tuple[int, int]:
    """Time and date, as far as the ZIP format can say them (APPNOTE 4.4.6)."""
    near = min(max(moment.astimezone(UTC), EARLIEST), LATEST)
    return near.hour << 11 | near.minute << 5 | near.second // 2, (near.year - 1980) << 9 | near.month << 5 | near.day


@dataclass(frozen=True, slots=True)
class ZipMember:
    name: str
    offset: int
    size: int
    compressed: int
    crc: int
    time: int
    date: int

    @property
    def raw_name(self) -> bytes:
        return self.name.encode()

    @property
    def flags(self) -> int:
        return 0 if self.name.isascii() else UTF8


class ZipWriter:
    """No data descriptors, which some readers refuse: sizes and CRC stand before the content.

    So the directory at the end is made of the members' own headers, and nothing is held of them meanwhile.
    """

    def __init__(self, sink: Sink, state: State | None = None) -> None:
        self._sink = sink
        self._start: int = sink.position if state is None else state["start"]
        self._count: int = 0 if state is None else state["count"]

    def add(self, name: str, modified: datetime, content: Deflated) -> None:
        time, date = zip_time(modified)
        member = ZipMember(
            name=name,
            offset=self._sink.position,
            size=content.size,
            compressed=content.length + len(END),
            crc=content.crc,
            time=time,
            date=date,
        )
        self._sink.write(local_header(member))
        _copy(content, self._sink)
        self._sink.write(END)
        self._count += 1

    def state(self) -> State:
        return {"start": self._start, "count": self._count}

    def _members(self) -> Iterator[ZipMember]:
        """As their headers in the sink have them."""
        place = self._start
        for _ in range(self._count):
            member, place = read_member(self._sink, place)
            yield member

    def finish(self) -> None:
        start, count = self._sink.position, self._count
        for member in self._members():
            self._sink.write(central_header(member))
        self._sink.write(archive_end(count, start, self._sink.position - start))


def archive_end(count: int, start: int, size: int) -> bytes:
    """What stands behind a directory of `size` bytes that begins at `start` (APPNOTE 4.3.14 to 4.3.16)."""
    end = b""
    if count >= LIMIT16 or start >= LIMIT32 or size >= LIMIT32:
        versions = (ZIP64_VERSION, ZIP64_VERSION)
        end += struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, *versions, 0, 0, count, count, size, start)
        end += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    ends = (min(count, LIMIT16), min(count, LIMIT16), min(size, LIMIT32), min(start, LIMIT32))
    return end + struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, *ends, 0)


def local_header(member: ZipMember) -> bytes:
    """APPNOTE 4.3.7."""
    zip64 = max(member.size, member.compressed) >= LIMIT32
    extra = ZIP64_SIZES.pack(1, 16, member.size, member.compressed) if zip64 else b""
    sizes = (LIMIT32, LIMIT32) if zip64 else (member.compressed, member.size)
    fixed = LOCAL_HEADER.pack(
        b"PK\x03\x04",
        ZIP64_VERSION if zip64 else DEFLATE_VERSION,
        member.flags,
        DEFLATED,
        member.time,
        member.date,
        member.crc,
        *sizes,
        len(member.raw_name),
        len(extra),
    )
    return fixed + member.raw_name + extra


def read_member(archive: Readable, place: int) -> tuple[ZipMember, int]:
    """The member whose local header is at `place`, and where it ends. Raises ValueError where there is none."""
    header = archive.read_at(place, LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise ValueError("What was written is no zip archive any more.")
    *_, time, date, crc, compressed, size, name_length, extra_length = LOCAL_HEADER.unpack(header)
    rest = archive.read_at(place + LOCAL_HEADER.size, name_length + extra_length)
    if extra_length:
        *_, size, compressed = ZIP64_SIZES.unpack(rest[name_length:])
    member = ZipMember(rest[:name_length].decode(), place, size, compressed, crc, time, date)
    return member, place + len(header) + len(rest) + compressed


def central_header(member: ZipMember) -> bytes:
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
        member.flags,
        DEFLATED,
        member.time,
        member.date,
        member.crc,
        compressed,
        size,
        len(member.raw_name),
        len(extra),
        0,
        0,
        0,
        (0o100000 | MODE) << 16,
        offset,
    )
    return fixed + member.raw_name + extra
