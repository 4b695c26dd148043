"""The cache of decoded volumes: made again, bounded, swept; and the copies of DICOM files that it is made of."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from django.core.files.storage import default_storage
from ulid import ULID

from cases.image_numbers import PartialVolume
from cases.models import Series, SeriesFile, StoredVolume
from cases.services.sweeping import sweep_files
from casestore import ids
from exports.models import ContentDigest
from tests.dicom import SERIES_UID, write_series
from tests.packing import files, manifest, packed
from tests.test_export import make_case
from tests.test_import import run
from tests.world import World


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
