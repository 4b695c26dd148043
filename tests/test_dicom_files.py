"""Finding DICOM files in folders and archives."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from pydicom import dcmread

from cases.dicom.files import archive_kind, group_by_series, iter_dicom_files
from cases.dicom.reader import read_instance
from tests.dicom import SERIES_UID, buffer, image, write, write_series


def collect(paths: list[Path], spool: Path, **options: Any) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    spool.mkdir(exist_ok=True)

    def note(name: str, reason: str) -> None:
        problems.append((name, reason))

    groups = group_by_series(iter_dicom_files(paths, spool, note, **options), note)
    return {uid: [source.name for source in sources] for uid, sources in groups.items()}, problems


def test_folders_and_archives(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in" / "deep", range(1, 4))
    (tmp_path / "in" / "notes.txt").write_text("not DICOM")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(files[0], "../../escape/Secret^Patient.dcm")
        archive.writestr("inner.zip", b"PK\x05\x06" + bytes(18))
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "in", "in")
        link = tarfile.TarInfo("passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    paths = [tmp_path / "in", tmp_path / "a.zip", tmp_path / "b.tar.gz"]
    groups, problems = collect(paths, tmp_path / "spool")
    assert len(groups[SERIES_UID]) == 3 + 1 + 3
    assert f"{tmp_path / 'a.zip'}: ../../escape/Secret^Patient.dcm" in groups[SERIES_UID]
    assert len(problems) == 3
    assert {reason for _, reason in problems} == {
        "It is not a DICOM file.",
        "It is an archive within an archive; unpack it first.",
    }
    assert all(path.parent == tmp_path / "spool" for path in (tmp_path / "spool").iterdir())
    groups, _ = collect(paths, tmp_path / "spool2", name_members=False)
    assert "Secret" not in str(groups)


def test_damaged_archives(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", range(1, 30))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[200:220] = bytes(20)
    (tmp_path / "a.zip").write_bytes(data)
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as tar:
        tar.add(tmp_path / "in", "in")
    cut = (tmp_path / "b.tgz").read_bytes()
    (tmp_path / "b.tgz").write_bytes(cut[: len(cut) // 2])
    groups, problems = collect([tmp_path / "a.zip", tmp_path / "b.tgz"], tmp_path / "spool")
    assert len(groups[SERIES_UID]) >= 28
    assert len(problems) >= 2


def test_a_dicom_file_is_no_archive(tmp_path: Path) -> None:
    """Its preamble may be anything, and its end may look like a zip's."""
    file = tmp_path / "polyglot.dcm"
    data = buffer(image()).read()
    file.write_bytes(b"PK\x03\x04" + data[4:] + b"PK\x05\x06" + bytes(18))
    assert archive_kind(file) is None
    (tmp_path / "lone.gz").write_bytes(gzip.compress(data))
    _, problems = collect([tmp_path / "lone.gz"], tmp_path / "spool")
    assert problems == [(str(tmp_path / "lone.gz"), "It is not a DICOM file.")]


def test_files_are_only_read(tmp_path: Path) -> None:
    path = write(image(), tmp_path / "a.dcm")
    path.chmod(0o400)
    before = path.read_bytes()
    with path.open("rb") as file:
        read_instance(file)
    assert path.read_bytes() == before
    assert dcmread(path).PatientName == "Secret^Patient"
