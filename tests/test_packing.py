"""What exports promise beyond their files: manifests, cases left out, going on after a crash, the cache of volumes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection, connections
from ulid import ULID

from cases.image_numbers import PartialVolume
from cases.models import Blob, Series, SeriesFile, StoredVolume
from cases.services.sweeping import sweep_files
from casestore import ids
from casestore.embedded.places import ROOT
from casestore.tasks.models import Task
from casestore.tasks.services import Progress, Superseded, claim, run_task
from casestore.tasks.watching import MOST_ATTEMPTS
from exports.models import ContentDigest, PackedCase
from exports.packing import pack
from exports.services import Wanted, find_cases, request_export, resolve
from exports.tasks import forget_packed_cases
from exports.verify import verify
from tests.dicom import SERIES_UID, image, write_series
from tests.test_export import export, make_case
from tests.test_import import run, wait
from tests.world import World, make_world, voxel_label

ALL = PartialVolume(1, 4, 1)
OPTIONS = {"labelPackType": "isolated", "compressionFormat": "tgz", "mhdLineEnding": "lf", "strict": False}


@pytest.fixture
def cases(world: World, tmp_path: Path) -> list[str]:
    """Three cases on series of their own, the first with labels that overlap."""
    made = []
    for number in range(3):
        uid = f"{SERIES_UID}.{number}"
        write_series(tmp_path / uid, range(1, 5), SeriesInstanceUID=uid, pixels=noise(number))
        run(tmp_path / uid, spool=tmp_path)
        made.append(make_case(world, uid, PartialVolume(4, 1, -1), labels(world) if number == 0 else []))
    return made


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, (4, 6)).astype(np.int16)


def labels(world: World) -> list[dict[str, Any]]:
    box = np.ones((2, 2, 3), bool)
    sha1 = world.blob(box)
    return [
        voxel_label(sha1, [0, 0, 0], [3, 2, 2], name="under"),
        {"type": "point", "data": {"location": [1, 1, 1]}},
        voxel_label(sha1, [2, 1, 1], [3, 2, 2], name="over"),
        voxel_label(None, [0, 0, 0], [1, 1, 1]),
    ]


class Stop(Progress):
    """Progress that is cut off when so many cases are done, as by a crash."""

    def __init__(self, task: Task, after: int) -> None:
        super().__init__(task)
        self.after = after

    def report(self, finished: int, message: str, **options: Any) -> None:
        if finished >= self.after:
            raise Superseded
        super().report(finished, message, **options)


def packed(world: World, cases: list[str], **options: Any) -> tuple[Any, bytes]:
    """The result of packing, in this process, and the archive."""
    task = make_task(world, cases, **options)
    result = pack(task, Progress(task))
    return result, content(result)


def make_task(world: World, cases: list[str], **options: Any) -> Task:
    wanted = [Wanted(case) for case in cases]
    return request_export(user=world.user("everything"), wanted=wanted, options=OPTIONS | options)


def content(result: Any) -> bytes:
    with default_storage.open(result.key) as file:
        data: bytes = file.read()
    assert (result.size, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


def files(data: bytes) -> dict[str, bytes]:
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def manifest(data: bytes) -> Any:
    return json.loads(files(data)["manifest.json"])


@pytest.mark.parametrize("kind", ["tgz", "zip"])
@pytest.mark.parametrize("pack_type", ["isolated", "combined"])
def test_the_manifest_says_what_is_there(world: World, cases: list[str], kind: str, pack_type: str) -> None:
    _, data = packed(world, cases, compressionFormat=kind, labelPackType=pack_type)
    found, told = files(data), manifest(data)
    assert list(found)[-1] == "manifest.json"
    assert told["options"] == {"labelPackType": pack_type, "mhdLineEnding": "lf", "compressionFormat": kind}
    assert [case["caseId"] for case in told["cases"]] == cases
    promised = {file["name"]: file for case in told["cases"] for file in case["files"]}
    assert set(promised) == set(found) - {"manifest.json"}
    for name, file in promised.items():
        assert file["size"] == len(found[name])
        assert file["sha256"] == hashlib.sha256(found[name]).hexdigest()
    (series,) = told["cases"][0]["series"]
    assert series["partialVolumeDescriptor"] == {"start": 4, "end": 1, "delta": -1}
    shown = [(entry["index"], entry["name"], entry["voxels"], entry["voxelsInFile"]) for entry in series["labels"]]
    if pack_type == "isolated":
        assert shown == [(0, "under", 12, 12), (2, "over", 12, 12), (3, None, 0, 0)]
        assert "overlaps" not in series
    else:
        assert shown == [(0, "under", 12, 11), (2, "over", 12, 12), (3, None, 0, 0)]
        assert series["overlaps"] == [{"label": 0, "by": 2, "voxelsPaintedOver": 1}]
        assert [entry["value"] for entry in series["labels"]] == [1, 3, 4]


def test_digests_are_remembered(world: World, cases: list[str]) -> None:
    _, first = packed(world, cases[:1])
    assert ContentDigest.objects.count() == 4
    # What is remembered is what is told: a forged digest shows that nothing was computed again.
    ContentDigest.objects.update(sha256="0" * 64)
    _, second = packed(world, cases[:1])
    digests = [file["sha256"] for file in manifest(second)["cases"][0]["files"]]
    assert digests.count("0" * 64) == 4
    assert {name: data for name, data in files(first).items() if name != "manifest.json"} == {
        name: data for name, data in files(second).items() if name != "manifest.json"
    }


def test_later_changes_of_the_case_do_not_change_an_export(world: World, cases: list[str]) -> None:
    _, before = packed(world, cases)
    client = world.client("everything")
    assert client.put(f"/api/cases/{cases[0]}/tags", ["new"]).status_code == 204
    StoredVolume.objects.all().delete()
    ContentDigest.objects.all().delete()
    _, after = packed(world, cases)
    assert after == before


def break_dicom(uid: str) -> None:
    key = SeriesFile.objects.filter(series__series_uid=uid).order_by("pk")[1].storage_key
    path = Path(default_storage.path(key))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    forget_volume(uid)


def remove_dicom(uid: str) -> None:
    key = SeriesFile.objects.filter(series__series_uid=uid).order_by("pk")[1].storage_key
    Path(default_storage.path(key)).unlink()
    forget_volume(uid)


def test_damage_elsewhere_in_a_series_harms_no_case(world: World, tmp_path: Path) -> None:
    write_series(tmp_path / "in", range(1, 5))
    run(tmp_path / "in", spool=tmp_path)
    rest, all_of_it = (make_case(world, SERIES_UID, volume, []) for volume in (PartialVolume(4, 3, -1), ALL))
    _, whole = packed(world, [rest])
    remove_dicom(SERIES_UID)
    assert packed(world, [rest])[1] == whole
    result, _ = packed(world, [all_of_it, rest])
    assert [row["status"] for row in result.results] == ["failed", "packed"]
    assert "The DICOM file of image 2 of series" in result.message


def forget_volume(uid: str) -> None:
    for row in StoredVolume.objects.filter(series__series_uid=uid):
        Path(default_storage.path(row.storage_key)).unlink()


@pytest.mark.parametrize("damage", [break_dicom, remove_dicom])
@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_a_case_that_fails_is_left_out_whole(
    world: World, cases: list[str], damage: Callable[[str], None], kind: str, tmp_path: Path
) -> None:
    damage(f"{SERIES_UID}.1")
    result, data = packed(world, cases, compressionFormat=kind)
    found, told = files(data), manifest(data)
    assert {name.split("/")[0] for name in found} == {cases[0], cases[2], "manifest.json"}
    reason = f"The DICOM file of image 2 of series {SERIES_UID}.1 is missing or damaged."
    assert [case["status"] for case in told["cases"]] == ["packed", "failed", "packed"]
    assert told["cases"][1]["reason"] == reason
    assert [row["status"] for row in result.results] == ["packed", "failed", "packed"]
    assert result.results[1]["reason"] == reason
    assert reason in result.message
    (tmp_path / "archive").write_bytes(data)
    assert verify(tmp_path / "archive") == []
    # The others are what they are without the failed one between them.
    _, alone = packed(world, [cases[0], cases[2]], compressionFormat=kind)
    assert {n: d for n, d in files(alone).items() if "/" in n} == {n: d for n, d in found.items() if "/" in n}


def test_strict_exports_fail_with_the_first_case(world: World, cases: list[str]) -> None:
    remove_dicom(f"{SERIES_UID}.1")
    message = ended(make_task(world, cases, strict=True)).error_message
    assert message.startswith(f"{cases[1]}: The DICOM file of image 2")
    assert archives() == []


def ended(task: Task) -> Task:
    """As a worker does it, in this process."""
    assert run_task(task.task_id, pack)
    task.refresh_from_db()
    return task


def test_when_every_case_fails_so_does_the_export(world: World, cases: list[str]) -> None:
    remove_dicom(f"{SERIES_UID}.1")
    message = ended(make_task(world, cases[1:2])).error_message
    assert message.startswith("No case could be exported. ")
    assert archives() == []


def archives() -> list[Path]:
    folder = Path(default_storage.path("exports"))
    return [path for path in folder.rglob("*") if path.is_file()]


def test_strict_through_the_api(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", [1])
    run(tmp_path / "in", spool=tmp_path)
    world.series()
    good, bad = world.case(SERIES_UID).case_id, world.case().case_id
    client = world.client("everything")
    told = {}
    for strict in ("0", "1"):
        answer = client.post(f"/api/cases/export-mhd?strict={strict}", {"caseIds": [good, bad]})
        told[strict] = wait(client, answer.json()["taskId"])
    assert told["0"]["status"] == "finished"
    assert "1 left out" in told["0"]["finishedMessage"]
    assert told["1"]["status"] == "error"
    assert told["1"]["errorMessage"] == f"{bad}: Image 1 of series 1.2.3 is not stored here."
    assert client.post("/api/cases/export-mhd?strict=yes", {"caseIds": [good]}).status_code == 400


def test_damaged_label_voxels_are_noticed(world: World, cases: list[str]) -> None:
    path = Path(default_storage.path(Blob.objects.get().storage_key))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    result, _ = packed(world, cases)
    assert "are damaged" in result.results[0]["reason"]
    path.unlink()
    result, _ = packed(world, cases)
    assert "not stored any more" in result.results[0]["reason"]


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "row gone"])
def test_a_damaged_cache_is_made_again(world: World, cases: list[str], how: str) -> None:
    _, before = packed(world, cases)
    row = StoredVolume.objects.get(series__series_uid=f"{SERIES_UID}.1")
    path = Path(default_storage.path(row.storage_key))
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[-40] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-40])
    elif how == "gone":
        path.unlink()
    else:
        row.delete()
    _, after = packed(world, cases)
    assert after == before


def test_a_volume_is_made_again_with_or_without_places_of_pixels(world: World, cases: list[str]) -> None:
    """Files that were imported before the places of their pixels were kept have none."""
    _, before = packed(world, cases)
    for places in ({}, {"pixels_start": None, "bits_stored": None}):
        StoredVolume.objects.all().delete()
        SeriesFile.objects.update(**places) if places else None
        _, after = packed(world, cases)
        assert after == before
    SeriesFile.objects.filter(series__series_uid=f"{SERIES_UID}.1").update(pixels_start=10**6, bits_stored=16)
    StoredVolume.objects.all().delete()
    result, _ = packed(world, cases)
    assert "is missing or damaged" in result.results[1]["reason"]


def test_stored_volumes_stand_as_cases_take_them(world: World, cases: list[str]) -> None:
    """From head to feet, as "auto" has it, though the series is numbered from the feet: so its digest is the export's."""
    StoredVolume.objects.all().delete()
    ContentDigest.objects.all().delete()
    _, data = packed(world, cases[:1])
    row = StoredVolume.objects.get()
    voxels = {file["name"]: file["sha256"] for file in manifest(data)["cases"][0]["files"]}[f"{cases[0]}/vol000.raw"]
    assert row.sha256 == voxels
    exported = SimpleITK.GetImageFromArray(np.frombuffer(files(data)[f"{cases[0]}/vol000.raw"], "<i2").reshape(4, 4, 6))
    stored = SimpleITK.ReadImage(default_storage.path(row.storage_key))
    assert np.array_equal(SimpleITK.GetArrayFromImage(stored), SimpleITK.GetArrayFromImage(exported))
    assert stored.GetOrigin() == (0, 0, 8)
    assert stored.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, -1)


def test_the_cache_is_bounded(
    world: World, cases: list[str], settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    _, before = packed(world, cases)
    settings.CASESTORE_VOLUME_CACHE = 0
    StoredVolume.objects.filter(series__series_uid=f"{SERIES_UID}.2").delete()
    (gone,) = Path(default_storage.path("volumes")).glob(f"{Series.objects.get(series_uid=f'{SERIES_UID}.2').pk}/*")
    gone.unlink()
    with django_capture_on_commit_callbacks(execute=True):
        _, after = packed(world, cases)
    assert after == before
    # The newest stays until another is made.
    assert StoredVolume.objects.count() == 1
    assert len(list(Path(default_storage.path("volumes")).rglob("*.nrrd"))) == 1


def test_volumes_without_a_row_are_swept(world: World, cases: list[str]) -> None:
    folder = Path(default_storage.path("volumes")) / "7"
    folder.mkdir(parents=True)
    old, young = folder / "old.nrrd", folder / ".young.new.part"
    for path in (old, young):
        path.write_bytes(b"x")
    a_while_ago = time.time() - 2 * 86400
    os.utime(old, (a_while_ago, a_while_ago))
    for row in StoredVolume.objects.all():
        os.utime(default_storage.path(row.storage_key), (a_while_ago, a_while_ago))
    assert sweep_files() == 1
    assert not old.exists()
    assert young.exists()
    assert all(default_storage.exists(row.storage_key) for row in StoredVolume.objects.all())


def test_copies_without_a_row_are_swept(world: World, cases: list[str]) -> None:
    """What a killed import leaves: its own files, or one beside those that have rows."""
    long_ago = datetime.now(UTC) - timedelta(days=2)
    used = Path(default_storage.path(SeriesFile.objects.first().storage_key))  # type: ignore[union-attr]
    # As if it had come then.
    folder = used.parent.rename(used.parent.with_name(str(ULID.from_datetime(long_ago)).lower()))
    for row in SeriesFile.objects.filter(storage_key__startswith=f"dicom/{used.parent.name}/"):
        SeriesFile.objects.filter(pk=row.pk).update(storage_key=f"dicom/{folder.name}/{Path(row.storage_key).name}")
    before = set(folder.iterdir())
    old, young = folder / "old.dcm", folder / ".young.part"
    fresh = folder.with_name(ids.new_id())
    fresh.mkdir()
    for path in (old, young, fresh / "coming.dcm"):
        path.write_bytes(b"x")
    for path in (*before, old, fresh / "coming.dcm"):
        os.utime(path, (long_ago.timestamp(), long_ago.timestamp()))
    assert sweep_files() == 1
    forgotten = folder.with_name(str(ULID.from_datetime(long_ago - timedelta(days=30))).lower())
    forgotten.mkdir()
    (forgotten / "old.dcm").write_bytes(b"x")
    os.utime(forgotten / "old.dcm", (long_ago.timestamp(), long_ago.timestamp()))
    assert [sweep_files(), sweep_files(ever=True)] == [0, 1]
    assert set(folder.iterdir()) == {*before, young}
    assert (fresh / "coming.dcm").exists()


def test_a_part_of_another_type_than_its_series(world: World, tmp_path: Path) -> None:
    """The series needs int32, two of its images fit int16."""
    for number, value in ((1, 1), (2, 2), (3, 70000)):
        write_series(tmp_path / "in", [number], pixels=np.full((4, 6), value, np.int32))
    run(tmp_path / "in", spool=tmp_path)
    StoredVolume.objects.all().delete()
    case = make_case(world, SERIES_UID, PartialVolume(2, 1, -1), [])
    _, data = packed(world, [case])
    assert not StoredVolume.objects.exists(), "a volume of the whole series would be of no use"
    found = files(data)
    assert b"MET_SHORT" in found[f"{case}/vol000.mhd"]
    voxels = np.frombuffer(found[f"{case}/vol000.raw"], "<i2").reshape(2, 4, 6)
    assert [int(plane[0, 0]) for plane in voxels] == [2, 1]


@pytest.mark.parametrize("kind", ["tgz", "zip"])
@pytest.mark.parametrize("after", [1, 2])
def test_a_crash_costs_no_case_that_was_packed(world: World, cases: list[str], kind: str, after: int) -> None:
    _, whole = packed(world, cases, compressionFormat=kind)
    task = make_task(world, cases, compressionFormat=kind)
    with pytest.raises(Superseded):
        pack(task, Stop(task, after))
    task.refresh_from_db()
    assert len(task.checkpoint["ledger"]) == after
    # The cases that were packed cannot be packed any more: they must come from what there is.
    for number in range(after):
        remove_dicom(f"{SERIES_UID}.{number}")
    result = pack(task, Progress(task))
    assert content(result) == whole
    assert [path.name for path in archives() if path.name.endswith(".part")] == []


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_what_a_crash_damaged_is_packed_again(world: World, cases: list[str], how: str) -> None:
    _, whole = packed(world, cases)
    task = make_task(world, cases)
    with pytest.raises(Superseded):
        pack(task, Stop(task, 2))
    task.refresh_from_db()
    (partial,) = [path for path in archives() if path.name.endswith(".part")]
    data = bytearray(partial.read_bytes())
    data[100] ^= 1
    if how == "gone":
        partial.unlink()
    else:
        partial.write_bytes(data[:50] if how == "cut" else data)
    assert content(pack(task, Progress(task))) == whole


class Cancelling(Progress):
    """Whether the task could have been cancelled at each step of its work: whether its row is not locked."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.seen: list[tuple[bool, bool]] = []

    def report(self, finished: int, message: str, **options: Any) -> None:
        self._written = 0.0
        super().report(finished, message, **options)
        self.look()

    def check(self) -> None:
        super().check()
        self.look()

    def look(self) -> None:
        connected = connections.create_connection("default")
        with connected.cursor() as other:
            other.execute("SELECT 1 FROM tasks_task WHERE id = %s FOR UPDATE SKIP LOCKED", [self._task.pk])
            self.seen.append((connection.in_atomic_block, other.fetchone() is not None))
        connected.close()


@pytest.mark.django_db(transaction=True)
def test_a_task_can_be_cancelled_while_its_volume_is_made(tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", range(1, 5))
    run(tmp_path / "in", spool=tmp_path)
    user, wanted = world.user("everything"), [Wanted(make_case(world, SERIES_UID, PartialVolume(1, 4, 1), []))]
    parameters = {"entries": resolve(find_cases(user, wanted, OPTIONS), wanted), **OPTIONS}
    # Claimed from the beginning: no worker that other tests started may take it.
    task = Task.objects.create(owner=user, name="Export", total=1, parameters=parameters, claimed_by="us")
    forget_volume(SERIES_UID)
    progress = Cancelling(task)
    pack(task, progress)
    assert progress.seen.count((True, True)) >= 4
    assert {is_free for _, is_free in progress.seen} == {True}


def test_a_case_that_kills_its_worker_ends_the_task(world: World, cases: list[str]) -> None:
    """Those before it are packed once, not again by every second worker; and the deaths are counted."""
    task = make_task(world, cases)
    attempts = []
    for _ in range(MOST_ATTEMPTS):
        claimed = claim(task.task_id)
        assert claimed is not None
        with pytest.raises(Superseded):
            pack(claimed, Stop(claimed, 2))
        task.refresh_from_db()
        attempts.append(task.attempts)
        assert len(task.checkpoint["ledger"]) == 2
        Task.objects.update(claimed_by="")
        if not attempts[1:]:
            # Whoever goes on has nothing but the archive.
            remove_dicom(f"{SERIES_UID}.0")
    assert attempts == [1, 2, 3]


def test_what_a_manifest_needs_is_written_once_and_forgotten(world: World, cases: list[str]) -> None:
    """A checkpoint does not grow with the number of files, nor does a zip's."""
    task = make_task(world, cases, compressionFormat="zip")
    with pytest.raises(Superseded):
        pack(task, Stop(task, 2))
    task.refresh_from_db()
    assert [row.position for row in PackedCase.objects.order_by("position")] == [0, 1]
    assert "vol000" not in json.dumps(task.checkpoint)
    whole = content(pack(task, Progress(task)))
    assert [case["caseId"] for case in manifest(whole)["cases"]] == cases
    Task.objects.update(claimed_by="us")
    assert run_task(make_task(world, cases).task_id, pack)
    forget_packed_cases()
    assert {row.task_id for row in PackedCase.objects.all()} == {task.pk}


def test_a_crash_before_the_end_is_told_costs_no_case(world: World, cases: list[str]) -> None:
    """The archive has its final name already, and nothing names it."""
    task = make_task(world, cases)
    claimed = claim(task.task_id)
    assert claimed is not None
    whole = content(pack(claimed, Progress(claimed)))
    Task.objects.update(claimed_by="")
    remove_dicom(f"{SERIES_UID}.0")
    assert run_task(task.task_id, pack)
    task.refresh_from_db()
    assert [path.read_bytes() for path in archives()] == [whole]
    assert task.result_key.endswith(archives()[0].name)


def test_beginning_anew_is_not_getting_on(world: World, cases: list[str]) -> None:
    """As on another host, which has no part of what grew here."""
    task = make_task(world, cases)
    attempts = []
    for _ in range(MOST_ATTEMPTS):
        claimed = claim(task.task_id)
        assert claimed is not None
        with pytest.raises(Superseded):
            pack(claimed, Stop(claimed, 2))
        for path in archives():
            path.unlink()
        Task.objects.update(claimed_by="")
        attempts.append(Task.objects.get(pk=task.pk).attempts)
    assert attempts == [1, 2, 3]


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
    ("has 0 layers", {"a/vol000-label.seg.nrrd": SEGMENTATION % 0}, lambda data: None),
    ("has 1000000000 layers", {"a/vol000-label.seg.nrrd": SEGMENTATION % 10**9}, lambda data: None),
    ("cannot be read", {}, encrypted),
    ("cannot be read", {}, of_unknown_method),
]


@pytest.mark.parametrize(("says", "more", "change"), HOSTILE)
def test_files_made_to_break_a_reader_are_told(
    tmp_path: Path, says: str, more: dict[str, bytes], change: Callable[[bytearray], None]
) -> None:
    case = {"status": "packed", "folder": "a", "caseId": "a", "revisionDate": "", "files": [], "series": []}
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in ({"manifest.json": json.dumps({"cases": [case]}).encode()} | more).items():
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
        exported = export(world, tmp_path, [case], **options)
        key = Task.objects.get(task_id=exported.task["taskId"]).result_key
        assert verify(Path(default_storage.path(key))) == []
    assert Series.objects.get().stored_volume.element_type == "int16"
    assert image(1).pixel_array.shape == (4, 6)
