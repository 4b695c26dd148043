"""Archives, read back by Python's own readers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.deflate import Deflated, joined, piece_of, zeros
from exports.archives import archive_writer
from exports.growing import FileDigest

WHEN = datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=UTC)
MEMBERS: list[tuple[str, list[object]]] = [
    ("case/data.json", [b"{", b"", b"}"]),
    ("case/vol000.raw", [np.arange(1000, dtype="<i2").reshape(10, 100), memoryview(b"xyz")]),
    ("case/empty", []),
    ("größe/" + "n" * 300, [bytes(range(256)) * 100]),
]


def content(chunks: list[object]) -> bytes:
    return b"".join(bytes(memoryview(chunk)) for chunk in chunks)  # type: ignore[arg-type]


class Sink(io.BytesIO):
    @property
    def position(self) -> int:
        return self.tell()

    def read_at(self, place: int, size: int) -> bytes:
        return bytes(self.getbuffer()[place : place + size])


def of(chunks: list[object]) -> Deflated:
    return joined([piece_of(chunk) for chunk in chunks])


def write(kind: str, stops: Sequence[int] = ()) -> bytes:
    """All members; after each of `stops` members another writer goes on from the state of the one before."""
    sink = Sink()
    archive = archive_writer(sink, kind)
    for number, (name, chunks) in enumerate(MEMBERS, 1):
        archive.add(name, WHEN, of(chunks))
        if number in stops:
            archive = archive_writer(sink, kind, json.loads(json.dumps(archive.state())))
    archive.finish()
    return sink.getvalue()


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
def test_another_writer_can_go_on(kind: str) -> None:
    """The members are whole; a tar may be compressed in other portions, but is so in the same way each time."""
    interrupted = write(kind, stops=[1, 3])
    assert interrupted == write(kind, stops=[1, 3])
    if kind == "zip":
        assert interrupted == write(kind)
        return
    assert gzip.decompress(interrupted) == gzip.decompress(write(kind))


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_a_wrong_length_is_an_error(kind: str) -> None:
    piece = piece_of(b"abc")
    with pytest.raises(ValueError, match="compressed bytes gave"):
        archive_writer(Sink(), kind).add("a", WHEN, replace(piece, read=lambda: [b"x"]))


def test_times_that_zip_cannot_say() -> None:
    sink = Sink()
    archive = archive_writer(sink, "zip")
    archive.add("old", datetime(1970, 1, 1, tzinfo=UTC), of([]))
    archive.add("new", datetime(3000, 1, 1, tzinfo=UTC), of([]))
    archive.finish()
    assert [i.date_time[0] for i in zipfile.ZipFile(sink).infolist()] == [1980, 2107]


class FileSink:
    """Writes behind a hole of so many bytes."""

    def __init__(self, path: Path, hole: int) -> None:
        self.file, self.position = path.open("w+b"), hole
        self.file.seek(hole)

    def write(self, data: bytes) -> None:
        self.position += self.file.write(data)

    def read_at(self, place: int, size: int) -> bytes:
        self.file.flush()
        return os.pread(self.file.fileno(), size, place)


@pytest.mark.parametrize("hole", [0, 5 * 2**30])
def test_zip_beyond_4_gib(tmp_path: Path, hole: int) -> None:
    """Sizes and offsets of more than 32 bits: a large member, and one that lies behind a hole of 5 GiB."""
    size = 4 * 2**30 + 5
    sink = FileSink(tmp_path / "large.zip", hole)
    archive = archive_writer(sink, "zip")
    archive.add("large", WHEN, zeros(size))
    archive.add("small", WHEN, of([b"abc"]))
    archive.finish()
    with sink.file, zipfile.ZipFile(sink.file) as found:
        large, small = found.infolist()
        assert (large.file_size, large.header_offset) == (size, hole)
        assert found.read(small) == b"abc"
        with found.open(large) as member:
            assert member.read(10) == bytes(10)


TOOLS = {
    "tgz": [["tar", "-tzvf"], ["bsdtar", "-tvf"], ["gzip", "-t"], ["7z", "t"]],
    "zip": [["unzip", "-t"], ["bsdtar", "-tvf"], ["7z", "t"]],
}


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_other_programs_read_them(tmp_path: Path, kind: str) -> None:
    """Those of them that are here; tar is everywhere."""
    path = tmp_path / f"archive.{kind}"
    path.write_bytes(write(kind))
    here = [words for words in TOOLS[kind] if shutil.which(words[0])]
    for words in here:
        done = subprocess.run([*words, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    if not here:
        pytest.skip(f"none of {TOOLS[kind]} is here")


@given(st.lists(st.integers(0, 3 * 2**20), min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 2**32))
def test_a_growing_file_is_hashed_behind_its_writer(sizes: list[int], back: int, seed: int) -> None:
    """Whatever is written at once, and after going back to a mark."""
    random = np.random.default_rng(seed)
    with TemporaryFile(buffering=0) as file, ThreadPoolExecutor(1) as pool:
        digest, written = FileDigest(file.fileno(), pool), b""
        mark: tuple[bytes, Any] = (b"", hashlib.sha256())
        for index, size in enumerate(sizes):
            written += random.bytes(size)
            os.pwrite(file.fileno(), written[len(written) - size :], len(written) - size)
            digest.follow(len(written))
            if index == back:
                mark = (written, digest.until(len(written)))
        assert digest.until(len(written)).hexdigest() == hashlib.sha256(written).hexdigest()
        digest.go_back(len(mark[0]), mark[1])
        file.truncate(len(mark[0]))
        other = mark[0] + random.bytes(2**21)
        os.pwrite(file.fileno(), other[len(mark[0]) :], len(mark[0]))
        digest.follow(len(other))
        assert digest.until(len(other)).hexdigest() == hashlib.sha256(other).hexdigest()
