"""What exports promise beyond their files: manifests, digests, cases left out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.storage import default_storage

from cases.image_numbers import PartialVolume
from cases.models import Blob, Case, Revision, StoredVolume
from casestore import clock
from exports.models import ContentDigest
from exports.verify import verify
from tests.dicom import SERIES_UID, write_series
from tests.packing import ALL, archives, break_dicom, ended, files, make_task, manifest, packed, remove_dicom
from tests.test_export import make_case
from tests.test_import import run, wait
from tests.world import World, make_world


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
    of_failed = Revision.objects.get(case__case_id=cases[1], index=told["cases"][1]["revisionIndex"])
    assert told["cases"][1]["revisionDate"] == clock.iso(of_failed.date)
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
    task = ended(make_task(world, cases, strict=True))
    assert task.error_message.startswith(f"{cases[1]}: The DICOM file of image 2")
    assert [(row["caseId"], row["status"]) for row in task.results] == [(cases[0], "packed"), (cases[1], "failed")]
    assert task.error_message == f"{cases[1]}: {task.results[1]['reason']}"
    assert archives() == []


def test_when_every_case_fails_so_does_the_export(world: World, cases: list[str]) -> None:
    remove_dicom(f"{SERIES_UID}.1")
    task = ended(make_task(world, cases[1:2]))
    assert task.error_message == f"No case could be exported. {cases[1]}: {task.results[0]['reason']}"
    assert [(row["caseId"], row["status"]) for row in task.results] == [(cases[1], "failed")]
    assert archives() == []


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
    assert told["1"]["results"][1]["reason"] == "Image 1 of series 1.2.3 is not stored here."
    for address in ("export-mhd?strict=yes", "export-mhd?stict=1", "export?stict=1"):
        assert client.post(f"/api/cases/{address}", {"caseIds": [good]}).status_code == 400


def test_damaged_label_voxels_are_noticed(world: World, cases: list[str]) -> None:
    path = Path(default_storage.path(Blob.objects.get().storage_key))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    result, _ = packed(world, cases)
    assert "are damaged" in result.results[0]["reason"]
    path.unlink()
    result, _ = packed(world, cases)
    assert "not stored any more" in result.results[0]["reason"]


def test_folders_differ_on_every_disk(world: World, cases: list[str]) -> None:
    """Imported ids are any string; some disks do not tell small letters from capital ones."""
    for case_id, old in zip(("scan", "SCAN", "Scan_"), cases, strict=True):
        Case.objects.filter(case_id=old).update(case_id=case_id)
    _, data = packed(world, ["scan", "SCAN", "Scan_"])
    assert [case["folder"] for case in manifest(data)["cases"]] == ["scan", "SCAN_", "Scan__"]
