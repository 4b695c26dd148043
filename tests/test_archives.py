"""Archives, read back by Python's own readers."""

from __future__ import annotations

import io
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from exports.archives import open_archive

WHEN = datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=UTC)
MEMBERS: list[tuple[str, list[object]]] = [
    ("case/data.json", [b"{", b"", b"}"]),
    ("case/vol000.raw", [np.arange(1000, dtype="<i2").reshape(10, 100), memoryview(b"xyz")]),
    ("case/empty", []),
    ("größe/" + "n" * 300, [bytes(range(256)) * 100]),
]


def content(chunks: list[object]) -> bytes:
    return b"".join(bytes(memoryview(chunk)) for chunk in chunks)  # type: ignore[arg-type]


def write(kind: str) -> bytes:
    file = io.BytesIO()
    with open_archive(file, kind) as archive:
        for name, chunks in MEMBERS:
            archive.add(name, len(content(chunks)), WHEN, chunks)
    return file.getvalue()


def test_tar_gzip() -> None:
    data = write("tgz")
    assert data[4:8] == bytes(4), "the gzip header names no time"
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        found = [(m.name, archive.extractfile(m).read(), m.mtime, m.mode) for m in archive]  # type: ignore[union-attr]
    assert found == [(name, content(chunks), int(WHEN.timestamp()), 0o644) for name, chunks in MEMBERS]


def test_zip() -> None:
    with zipfile.ZipFile(io.BytesIO(write("zip"))) as archive:
        assert archive.testzip() is None
        found = [(i.filename, archive.read(i), i.date_time, i.external_attr >> 16) for i in archive.infolist()]
    expected = (2024, 2, 29, 12, 34, 56)
    assert found == [(name, content(chunks), expected, 0o100644) for name, chunks in MEMBERS]


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_the_same_members_give_the_same_bytes(kind: str) -> None:
    assert write(kind) == write(kind)


@pytest.mark.parametrize("kind", ["tgz", "zip"])
@pytest.mark.parametrize("size", [2, 4])
def test_a_wrong_size_is_an_error(kind: str, size: int) -> None:
    with pytest.raises(ValueError, match="was given 3"), open_archive(io.BytesIO(), kind) as archive:
        archive.add("a", size, WHEN, [b"abc"])


def test_times_that_zip_cannot_say() -> None:
    file = io.BytesIO()
    with open_archive(file, "zip") as archive:
        archive.add("old", 0, datetime(1970, 1, 1, tzinfo=UTC), [])
        archive.add("new", 0, datetime(3000, 1, 1, tzinfo=UTC), [])
    assert [i.date_time[0] for i in zipfile.ZipFile(file).infolist()] == [1980, 2107]


def test_zip_beyond_4_gib(tmp_path: Path) -> None:
    """Sizes and offsets of more than 32 bits: a large member, and one that lies behind a hole of 5 GiB."""
    zeros = bytes(2**24)
    size = 4 * 2**30 + 5
    with (tmp_path / "large.zip").open("w+b") as file:
        file.seek(5 * 2**30)
        with open_archive(file, "zip") as archive:
            archive.add("large", size, WHEN, [*[zeros] * (size // 2**24), bytes(5)])
            archive.add("small", 3, WHEN, [b"abc"])
        with zipfile.ZipFile(file) as archive:
            large, small = archive.infolist()
            assert (large.file_size, large.header_offset) == (size, 5 * 2**30)
            assert small.header_offset > 5 * 2**30
            assert archive.read(small) == b"abc"
            with archive.open(large) as member:
                assert member.read(10) == bytes(10)
