"""Verifying archives: what is wrong is told, whatever is in the file."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cases.image_numbers import PartialVolume
from cases.models import Series
from casestore.embedded.places import ROOT
from casestore.tasks.models import Task
from exports.verify import verify
from tests.altering import exported, write
from tests.dicom import SERIES_UID, buffer, image, write_series
from tests.packing import files, labels, packed
from tests.test_export import export, make_case
from tests.test_import import run
from tests.world import World, make_world, voxel_label

TAMPERED: list[tuple[str, Callable[[dict[str, bytes]], None]]] = [
    ("has another SHA-256", lambda f: f.update({first(f, "vol000.raw"): bytes(192)})),
    ("is missing", lambda f: f.pop(first(f, "vol000.raw")) and None),
    ("bytes instead of", lambda f: f.update({first(f, "data.json"): b"{}"})),
    ("is not in the manifest", lambda f: f.update({"more": b""})),
    ("no manifest", lambda f: f.pop("manifest.json") and None),
    ("is not that of an export", lambda f: f.update({"manifest.json": b"[]"})),
    ("voxels instead of", lambda f: edit(f, '"voxelsInFile": 12', '"voxelsInFile": 13')),
    ("is of another case", lambda f: edit(f, '"revisionDate": "2', '"revisionDate": "1')),
    ("was left out, but", lambda f: edit(f, '"packed"', '"failed"')),
]


def first(found: dict[str, bytes], name: str) -> str:
    return next(path for path in found if path.endswith(name))


def edit(found: dict[str, bytes], old: str, new: str) -> None:
    text = found["manifest.json"].decode()
    assert old in text
    found["manifest.json"] = text.replace(old, new).encode()


@pytest.mark.parametrize(("says", "tamper"), TAMPERED)
def test_what_is_wrong_with_an_archive_is_told(
    world: World, cases: list[str], tmp_path: Path, says: str, tamper: Callable[[dict[str, bytes]], None]
) -> None:
    _, data = packed(world, cases, compressionFormat="zip")
    path = tmp_path / "archive.zip"
    path.write_bytes(data)
    assert verify(path) == []
    found = files(data)
    tamper(found)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in found.items():
            archive.writestr(name, member)
    assert any(says in problem for problem in verify(path)), verify(path)


def nested(depth: int = 200_000) -> bytes:
    return b"[" * depth


def encrypted(data: bytearray) -> None:
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1


def of_unknown_method(data: bytearray) -> None:
    data[8] = data[data.find(b"PK\x01\x02") + 10] = 99


SEGMENTATION = b"NRRD0004\ntype: uint16\ndimension: 4\nsizes: %d 1 1 1\n\nab"


HOSTILE: list[tuple[str, dict[str, bytes], Callable[[bytearray], None]]] = [
    ("is not that of an export", {"manifest.json": nested()}, lambda data: None),
    ("data.json is of another case", {"a/data.json": nested()}, lambda data: None),
    ("claims 0 layers", {"a/vol000-label.seg.nrrd": SEGMENTATION % 0}, lambda data: None),
    ("claims 1000000000 layers", {"a/vol000-label.seg.nrrd": SEGMENTATION % 10**9}, lambda data: None),
    ("cannot be read", {}, encrypted),
    ("cannot be read", {}, of_unknown_method),
]


@pytest.mark.parametrize(("says", "more", "change"), HOSTILE)
def test_files_made_to_break_a_reader_are_told(
    tmp_path: Path, says: str, more: dict[str, bytes], change: Callable[[bytearray], None]
) -> None:
    case = {"status": "packed", "folder": "a", "caseId": "a", "files": [], "series": [], "revisionIndex": 0}
    case |= {"revisionDate": "2024-01-01T00:00:00.000Z"}
    options = {"labelPackType": "isolated", "mhdLineEnding": "lf", "compressionFormat": "zip"}
    manifest = {"version": 1, "options": options, "cases": [case]}
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in ({"manifest.json": json.dumps(manifest).encode()} | more).items():
            archive.writestr(name, member)
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    assert any(says in problem for problem in verify(path)), verify(path)


def test_verifying_takes_no_more_memory_for_more_files(tmp_path: Path) -> None:
    peaks = []
    for count in (10, 200):
        path = tmp_path / f"{count}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(count):
                archive.writestr(f"a/vol000-label{number:03d}.raw", bytes(64))
                archive.writestr(f"{number}/data.json", bytes(2**18))
            archive.writestr("manifest.json", b'{"cases": []}')
        tracemalloc.start()
        verify(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2**22


def test_verifying_from_the_command_line(world: World, cases: list[str], tmp_path: Path, capsys: Any) -> None:
    good, bad = tmp_path / "good.tar.gz", tmp_path / "bad.tar.gz"
    _, data = packed(world, cases)
    good.write_bytes(data)
    bad.write_bytes(data[:-20])
    call_command("verify_export", str(good))
    with pytest.raises(CommandError, match="1 of 2"):
        call_command("verify_export", str(good), str(bad))
    words = [sys.executable, "-m", "exports.verify"]
    done = subprocess.run([*words, str(good)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{good}: as promised\n")
    assert subprocess.run([*words, str(bad)], cwd=ROOT, capture_output=True, check=False).returncode == 1
    code = "import exports.verify, sys; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_exported_archives_verify(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", range(1, 5))
    run(tmp_path / "in", spool=tmp_path)
    case = make_case(world, SERIES_UID, PartialVolume(1, 4, 1), labels(world))
    for options in ({"labelPackType": "combined", "compressionFormat": "zip"}, {}):
        done = export(world, tmp_path, [case], **options)
        key = Task.objects.get(task_id=done.task["taskId"]).result_key
        assert verify(Path(default_storage.path(key))) == []
    assert Series.objects.get().stored_volume.element_type == "int16"
    assert image(1).pixel_array.shape == (4, 6)


def tar_with(data: bytes, change: Callable[[tarfile.TarInfo], object], end: bytes = b"") -> bytes:
    """The archive again, each member changed; `end` behind it."""
    made = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as target,
        tarfile.open(fileobj=io.BytesIO(data)) as source,
    ):
        for info in source:
            content = source.extractfile(info)
            change(info)
            target.addfile(info, content)
    return made.getvalue() + end


CONTAINERS: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("another owner, mode or time", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "mode", 0o4755))),
    ("another owner, mode or time", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "uname", "mallory"))),
    ("not the time of its revision", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "mtime", 5))),
    ("not the time of the newest", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "mtime", 5))),
    ("stays inside", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "name", f"../{info.name}"))),
    ("stays inside", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "name", f"a\\{info.name}"))),
    ("between its files, or behind", "tgz", lambda data: tar_with(data, lambda info: None)),
    ("is no regular file", "tgz", lambda data: tar_with(data, lambda info: setattr(info, "type", tarfile.SYMTYPE))),
    ("behind the end", "tgz", lambda data: data + gzip.compress(b"more")),
    ("behind the end", "tgz", lambda data: data + b"\0"),
    ("gzip header", "tgz", lambda data: data[:4] + b"\1" + data[5:]),
    ("cannot be read", "tgz", lambda data: data[:-1]),
    ("cannot be read", "tgz", lambda data: data[:-8] + bytes(4) + data[-4:]),
    ("cannot be read", "zip", lambda data: b"more" + data),
    ("something beside", "zip", lambda data: data[:-2] + b"\4\0more"),
    ("mode or compression", "zip", lambda data: data.replace(b"\0\0\xa4\x81", b"\0\0\xff\x81")),
    ("something beside", "zip", lambda data: data[:10] + b"\1\1" + data[12:]),
]


@pytest.mark.parametrize(("says", "kind", "change"), CONTAINERS)
def test_what_is_odd_about_a_container_is_told(
    world: World, cases: list[str], tmp_path: Path, says: str, kind: str, change: Callable[[bytes], bytes]
) -> None:
    _, data = packed(world, cases, compressionFormat=kind)
    path = tmp_path / "archive"
    path.write_bytes(change(data))
    assert any(says in problem for problem in verify(path)), verify(path)


def test_what_verifies_needs_no_database() -> None:
    code = "import exports.verify, sys; sys.exit('django' in sys.modules or 'highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["without preamble", "deflated", "with a long header"])
def test_originals_of_every_kind_verify(world: World, tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        dataset = image(number, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", FrameOfReferenceUID="1.2.9")
        if kind == "deflated":
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        if kind == "with a long header":
            # Sorts before the UIDs of its series.
            dataset.add_new(0x00090010, "LO", "casestore")
            dataset.add_new(0x00091001, "OB", bytes(10**5))
        whole = buffer(dataset).read()
        (tmp_path / "in" / f"{number}.dcm").write_bytes(whole[132:] if kind == "without preamble" else whole)
    run(tmp_path / "in", spool=tmp_path)
    box = world.blob(np.ones((2, 2, 2), bool))
    case = make_case(world, SERIES_UID, PartialVolume(2, 1, -1), [voxel_label(box, [1, 1, 0], [2, 2, 2])])
    data = exported(world, [case], format="dicom-seg")
    assert f"{case}/vol000-label.dcm" in files(data)
    assert verify(write(tmp_path / "archive", data)) == []
