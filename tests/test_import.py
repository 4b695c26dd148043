"""Importing DICOM into series: whole or not at all, and the same in any order."""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
import time
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connections
from pydicom.uid import RLELossless

from cases.models import Case, Series, SeriesFile, SeriesImage, StoredVolume
from cases.services.series import delete_series
from cases.services.series_import import ImportReport, import_dicom
from cases.services.sweeping import sweep_files
from casestore import clock
from casestore.accounts.models import Domain
from tests.dicom import SERIES_UID, image, write, write_series
from tests.world import DOMAIN, OTHER_DOMAIN, World, make_world


def run(*paths: Path, domain: str = DOMAIN, spool: Path | None = None) -> ImportReport:
    spool = spool or paths[0].parent / "spool"
    spool.mkdir(exist_ok=True)
    return import_dicom(paths, domain=Domain.objects.get(name=domain), spool=spool)


def state(uid: str = SERIES_UID) -> dict[str, Any]:
    """Everything that is known of a series, without keys and dates of rows."""
    series = Series.objects.get(series_uid=uid)
    skip = {"id", "created_at", "updated_at"}
    fields = {f.attname: getattr(series, f.attname) for f in Series._meta.concrete_fields if f.attname not in skip}
    images = list(series.image_set.order_by("number").values("number", "position", "sha256", "minimum", "maximum"))
    return {**fields, "image_set": images}


def test_a_series(world: World, tmp_path: Path) -> None:
    files = write_series(
        tmp_path / "in", range(3, 8), PatientAge="045Y", PatientSex="F", RescaleIntercept=-1000, RescaleSlope=1, KVP=120
    )
    report = run(tmp_path / "in")
    assert (report.imported, report.skipped, report.refused, report.series) == (5, 0, [], {SERIES_UID})
    got = world.client("everything").get(f"/api/series/{SERIES_UID}").json()
    assert got == {
        "seriesUid": SERIES_UID,
        "studyUid": "1.2.3",
        "width": 6,
        "height": 4,
        "images": "3-7",
        "seriesDate": None,
        "modality": "CT",
        "seriesDescription": "",
        "bodyPart": "",
        "stationName": "",
        "modelName": "",
        "manufacturer": "",
        "patientInfo": {"patientId": "P-4711", "patientName": "Secret^Patient", "age": 45, "sex": "F"},
        "parameters": got["parameters"],
        "domain": DOMAIN,
        "geometry": {
            "spacing": [0.5, 0.75, 2.0],
            "origin": [0.0, 0.0, 6.0],
            "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1],
            "pixelType": "int16",
            "warnings": [],
        },
        "createdAt": got["createdAt"],
        "updatedAt": got["updatedAt"],
    }
    assert got["parameters"]["kvp"] == 120
    assert "Secret" not in str(got["parameters"])
    assert world.client("everything").get("/api/series").json() == [got]
    paths = [Path(default_storage.path(row.storage_key)) for row in SeriesFile.objects.all()]
    kept = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert kept == {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert not any("Secret" in row.storage_key or SERIES_UID in row.storage_key for row in SeriesFile.objects.all())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_any_order_any_pieces_ends_the_same(world: World, tmp_path: Path, order: tuple[int, ...]) -> None:
    parts = [
        [write(image(n, SeriesDescription=f"from {n}"), tmp_path / f"{k}" / f"{n}.dcm") for n in numbers]
        for k, numbers in enumerate(([1, 4], [3], [2, 5, 6]))
    ]
    run(*[path for part in parts for path in part], spool=tmp_path)
    expected = state()
    Series.objects.all().delete()
    for k in order:
        assert run(tmp_path / f"{k}", spool=tmp_path).imported == len(parts[k])
    assert state() == expected
    again = run(*[tmp_path / f"{k}" for k in range(3)], spool=tmp_path)
    assert (again.imported, again.skipped) == (0, 6)
    assert state() == expected
    assert SeriesFile.objects.count() == 6


def stored_files() -> list[Path]:
    return [path for path in Path(default_storage.location).rglob("*") if path.is_file()]


@pytest.mark.django_db(transaction=True)
def test_several_importers_at_once(tmp_path: Path) -> None:
    make_world()
    write_series(tmp_path / "in", range(1, 25))
    parts = [tmp_path / f"part {k}" for k in range(4)]
    for k, part in enumerate(parts):
        write_series(part, range(1 + 4 * k, 13 + 4 * k))
    reports: list[ImportReport] = []
    start = threading.Barrier(4)

    def work(part: Path) -> None:
        start.wait()
        reports.append(run(part, spool=tmp_path / f"spool {part.name}"))
        connections.close_all()

    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.imported for report in reports) == 24
    assert sum(report.skipped for report in reports) == 24
    assert [report.refused for report in reports] == [[]] * 4
    assert Series.objects.get().images == "1-24"
    assert SeriesImage.objects.count() == SeriesFile.objects.count() == 24
    assert state()["geometry"]["warnings"] == []
    assert len(stored_files()) == 24 + 1, "the DICOM files, and one volume made of them"


def test_the_same_image_in_another_transfer_syntax_is_the_same(world: World, tmp_path: Path) -> None:
    run(write(image(1), tmp_path / "a.dcm"))
    other = image(1, SOPInstanceUID="9.9.9")
    other.compress(RLELossless)
    report = run(write(other, tmp_path / "b.dcm"))
    assert (report.imported, report.skipped) == (0, 1)


OTHER_PIXELS = np.full((4, 6), 7, np.int16)


@pytest.mark.parametrize(
    ("changes", "pixels", "says"),
    [
        ({}, OTHER_PIXELS, "have the number 2 but differ"),
        ({"ImagePositionPatient": [0, 0, 9]}, None, "have the number 2 but differ"),
        ({"RescaleSlope": 2, "RescaleIntercept": 0}, None, "have the number 2 but differ"),
        ({"InstanceNumber": 9}, np.zeros((5, 6), np.int16), "6 x 4 int16"),
        ({"InstanceNumber": 9}, np.zeros((4, 6), np.uint16), "6 x 4 uint16"),
        ({"InstanceNumber": 9}, np.zeros((4, 6, 3), np.uint8), "6 x 4 colour"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_collisions_change_nothing(
    world: World, tmp_path: Path, changes: dict[str, Any], pixels: Any, says: str, together: bool
) -> None:
    first = write_series(tmp_path / "first", [1, 2])
    wrong = write(image(2, pixels, **changes), tmp_path / "second" / "wrong.dcm")
    fine = write(image(3), tmp_path / "second" / "fine.dcm")
    if not together:
        run(*first, spool=tmp_path)
        before = state()
        report = run(wrong, fine, spool=tmp_path)
        assert state() == before
        assert SeriesFile.objects.count() == 2
    else:
        report = run(*first, wrong, fine, spool=tmp_path)
        assert not Series.objects.exists()
    assert report.imported == 0
    assert all(says in reason for _, reason in report.refused)
    assert len(report.refused) == (4 if together else 2)
    assert len(stored_files()) == SeriesFile.objects.count() + StoredVolume.objects.count()


def test_copies_that_the_series_did_not_take_are_removed(world: World, tmp_path: Path) -> None:
    """Of files whose images it had, of the same file twice, and of a whole import that it refused."""
    write_series(tmp_path / "in", range(1, 4))
    run(tmp_path / "in")
    assert run(tmp_path / "in").skipped == 3
    assert len(copies()) == 3
    write(image(4), tmp_path / "twice" / "a.dcm")
    write(image(4), tmp_path / "twice" / "b.dcm")
    report = run(tmp_path / "twice")
    assert (report.imported, report.skipped) == (1, 1)
    write(image(5), tmp_path / "refused" / "a.dcm")
    write(image(1, np.zeros((4, 6), np.int16)), tmp_path / "refused" / "b.dcm")
    assert len(run(tmp_path / "refused").refused) == 2
    assert len(copies()) == SeriesFile.objects.count() == 4
    for row in SeriesFile.objects.all():
        data = Path(default_storage.path(row.storage_key)).read_bytes()
        assert (row.size, row.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def copies() -> list[Path]:
    return [path for path in stored_files() if path.suffix == ".dcm"]


def test_a_series_that_went_while_its_files_were_read_comes_anew(world: World, tmp_path: Path) -> None:
    write_series(tmp_path / "in", range(1, 4))
    run(tmp_path / "in")
    known = state()

    def forget(done: int, total: int) -> None:
        if done == total:
            delete_series(series=Series.objects.get(series_uid=SERIES_UID))

    domain = Domain.objects.get(name=DOMAIN)
    report = import_dicom([tmp_path / "in"], domain=domain, spool=tmp_path / "spool", on_progress=forget)
    assert report.imported == 3
    assert state() == known
    assert all(default_storage.exists(key) for key in SeriesFile.objects.values_list("storage_key", flat=True))


def test_copies_that_cannot_be_removed_change_no_outcome(world: World, tmp_path: Path) -> None:
    run(*write_series(tmp_path / "here", [1]), spool=tmp_path)
    write(image(1, np.zeros((4, 6), np.int16)), tmp_path / "in" / "other.dcm")

    def obstruct(done: int, total: int) -> None:
        for path in copies():
            if path.parent != here:
                path.unlink()
                (path / "in the way").mkdir(parents=True)

    here = copies()[0].parent
    (tmp_path / "spool").mkdir()
    domain = Domain.objects.get(name=DOMAIN)
    report = import_dicom([tmp_path / "in"], domain=domain, spool=tmp_path / "spool", on_progress=obstruct)
    assert [reason for _, reason in report.refused] == ["Two images of the series have the number 1 but differ."]


def test_an_import_that_outlives_its_copies_makes_them_anew(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine that slept, or a lock that was long held: a row whose file was swept would be a loss."""
    write_series(tmp_path / "in", range(1, 4))
    later = clock.now() + timedelta(days=2)

    def sleep(done: int, total: int) -> None:
        if done == total:
            monkeypatch.setattr(clock, "now", lambda: later)
            assert sweep_files() == 3

    (tmp_path / "spool").mkdir()
    domain = Domain.objects.get(name=DOMAIN)
    assert import_dicom([tmp_path / "in"], domain=domain, spool=tmp_path / "spool", on_progress=sleep).imported == 3
    assert len(copies()) == 3
    assert all(default_storage.exists(key) for key in SeriesFile.objects.values_list("storage_key", flat=True))


def test_a_file_that_went_meanwhile_refuses_only_itself(world: World, tmp_path: Path) -> None:
    write_series(tmp_path / "a", range(1, 30), SeriesInstanceUID=f"{SERIES_UID}.1")
    write_series(tmp_path / "b", range(1, 3), SeriesInstanceUID=f"{SERIES_UID}.2")
    (tmp_path / "spool").mkdir()

    def remove(done: int, total: int) -> None:
        (tmp_path / "b" / "1.dcm").unlink(missing_ok=True)

    domain = Domain.objects.get(name=DOMAIN)
    report = import_dicom([tmp_path / "a", tmp_path / "b"], domain=domain, spool=tmp_path / "spool", on_progress=remove)
    assert (report.imported, len(report.refused)) == (30, 1)
    assert "cannot be read" in report.refused[0][1]


def test_another_domain(world: World, tmp_path: Path) -> None:
    run(*write_series(tmp_path / "in", [1]), spool=tmp_path)
    report = run(*write_series(tmp_path / "in", [2]), domain=OTHER_DOMAIN, spool=tmp_path)
    assert report.refused[0][1] == "The series belongs to another domain."
    assert Series.objects.get().images == "1"


def test_one_bad_file_refuses_only_itself(world: World, tmp_path: Path) -> None:
    write_series(tmp_path / "in", [1, 2, 3])
    cut = (tmp_path / "in" / "2.dcm").read_bytes()[:-10]
    (tmp_path / "in" / "2.dcm").write_bytes(cut)
    (tmp_path / "in" / "x.txt").write_text("hello")
    report = run(tmp_path / "in")
    assert report.imported == 2
    assert {Path(name).name for name, _ in report.refused} == {"2.dcm", "x.txt"}
    series = Series.objects.get()
    assert series.images == "1,3"
    assert any("missing" in warning for warning in series.geometry["warnings"])


def test_warnings_of_real_series(world: World, tmp_path: Path, dicom_folder: Path) -> None:
    expected = {
        "ct-philips-axial12": [],
        "ct-philips-tilt10": ["tilted", "sheared"],
        "ct-philips-missing-slice4": ["missing", "unevenly"],
        "ct-scout-anisotropic2": ["mixed orientations"],
        "mr-ge-coronal-4d16": ["missing", "Several images are at one position", "unevenly"],
        "mr-ge-axial-4d30": ["Several images are at one position", "unevenly"],
        "mr-siemens-sagittal10": [],
        "cr-monochrome1-tiny": ["no pixel spacing", "No image has a position"],
    }
    for name, words in expected.items():
        report = run(dicom_folder / name, spool=tmp_path)
        assert not report.refused, name
        (uid,) = report.series
        warnings = Series.objects.get(series_uid=uid).geometry["warnings"]
        assert len(warnings) == len(words), (name, warnings)
        for word in words:
            assert any(word in warning for warning in warnings), (name, word, warnings)


def test_auto_runs_from_head_to_feet(world: World, tmp_path: Path) -> None:
    for name, z, expected in (("up", 1, (6, 1, -1)), ("down", -1, (1, 6, 1)), ("none", None, (1, 6, 1))):
        uid = f"{SERIES_UID}.{name.encode().hex()}"
        for n in (*range(1, 7), 9):
            place = None if z is None else [0, 0, z * n]
            write(image(n, SeriesInstanceUID=uid, ImagePositionPatient=place), tmp_path / name / f"{n}.dcm")
        run(tmp_path / name, spool=tmp_path)
        case = world.case(uid)
        (entry,) = world.client("everything").get(f"/api/cases/{case.case_id}").json()["revisions"][0]["series"]
        start, end, delta = expected
        assert entry["partialVolumeDescriptor"] == {"start": start, "end": end, "delta": delta}


def test_patient_reaches_cases_that_were_there_first(world: World, tmp_path: Path) -> None:
    """The header comes from the lowest image, which may come last."""
    run(*write_series(tmp_path / "a", [2], PatientName="Later^Image"), spool=tmp_path)
    case = world.case(SERIES_UID)
    run(*write_series(tmp_path / "b", [1], PatientName="First^Image"), spool=tmp_path)
    got = world.client("everything").get(f"/api/cases/{case.case_id}").json()
    assert got["patientInfo"]["patientName"] == "First^Image"
    assert Case.objects.get().patient_name == "First^Image"


def test_command(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in", [1, 2])
    (tmp_path / "in" / "readme").write_text("no")
    call_command("import_dicom", "--domain", DOMAIN, str(tmp_path / "in"))
    printed = capsys.readouterr().out
    assert f"imported {SERIES_UID}" in printed
    assert "readme: It is not a DICOM file." in printed
    assert "2 files imported into 1 series, 0 skipped as already here, 1 refused." in printed
    with pytest.raises(CommandError, match="no domain"):
        call_command("import_dicom", "--domain", "nowhere", str(tmp_path))
    with pytest.raises(CommandError, match="no such file"):
        call_command("import_dicom", "--domain", DOMAIN, str(tmp_path / "nothing"))
    with pytest.raises(CommandError, match="Nothing could be imported"):
        call_command("import_dicom", "--domain", DOMAIN, str(tmp_path / "in" / "readme"))


def wait(client: Any, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (task := client.get(f"/api/tasks/{task_id}").json())["status"] == "processing":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found: dict[str, Any] = task
    return found


def test_upload(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    client = world.client("annotator")
    files = write_series(tmp_path / "in", range(1, 6))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in files[1:]:
            zipped.write(path, f"Secret^Patient/{path.name}")
        zipped.writestr("Secret^Patient/notes", "no image")
    archive.seek(0)
    archive.name = "Secret^Patient.zip"
    with files[0].open("rb") as single:
        answer = client.post(f"/api/series/domain/{DOMAIN}", {"a": single, "b": archive}, format="multipart")
    assert answer.status_code == 201, answer.content
    task = wait(client, answer.json()["taskId"])
    assert task["status"] == "finished", task
    assert task["finishedMessage"].startswith("5 files imported into 1 series")
    assert "It is not a DICOM file." in task["finishedMessage"]
    assert "Secret" not in str(task)
    assert "/" not in task["finishedMessage"]
    assert Series.objects.get().images == "1-5"
    assert b"Secret" not in worker.read_bytes()
    assert not default_storage.exists("uploads") or not [
        path for path in Path(default_storage.path("uploads")).rglob("*") if path.is_file()
    ]
    garbage = io.BytesIO(b"garbage")
    answer = client.post(f"/api/series/domain/{DOMAIN}", {"a": garbage}, format="multipart")
    task = wait(client, answer.json()["taskId"])
    assert (task["status"], "not a DICOM file" in task["errorMessage"]) == ("error", True)


def test_wrong_uploads(world: World) -> None:
    client = world.client("annotator")
    assert client.post(f"/api/series/domain/{DOMAIN}", {}, format="multipart").status_code == 400
    assert client.post(f"/api/series/domain/{DOMAIN}", {"a": 1}).status_code in {400, 415}
    assert client.post("/api/series/domain/nowhere", {}, format="multipart").status_code == 404
