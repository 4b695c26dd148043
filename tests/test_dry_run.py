"""Dry runs: what an export would hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from cases.models import Series, SeriesFile
from casestore.tasks.models import Task
from casestore.tasks.services import Progress, WorkFailed
from exports.packing import pack
from exports.serializers import DEFAULTS
from tests.dicom import SERIES_UID, image, write
from tests.formats import FORMATS, box_label, export, manifest_of, phantom_case
from tests.packing import forget_volume, make_task
from tests.test_export import make_case
from tests.test_import import run
from tests.world import World, make_world


def test_a_dry_run_says_what_the_export_holds(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    one = np.ones((1, 2, 2), bool)
    labels = [
        box_label(world, one, [0, 0, 0], "a"),
        box_label(world, one, [1, 1, 0], "b"),
        box_label(world, one, [8, 8, 8], "c"),
    ]
    labels.append({"type": "cuboid", "data": {"min": [0, 0, 0], "max": [4, 4, 3]}})
    case = phantom_case(world, tmp_path, labels)
    bodies = [
        {"format": "mhd"},
        {"format": "mhd", "labelPackType": "combined", "mhdLineEnding": "crlf"},
        {"format": "nrrd"},
        {"format": "nifti"},
        {"format": "nifti", "labelPackType": "isolated", "rasterizeShapes": True},
        {"format": "dicom-seg", "rasterizeShapes": True},
    ]
    for options in bodies:
        body = {"caseIds": [case], **options}
        before = Task.objects.count()
        dry = world.client("everything").post("/api/cases/export", {**body, "dryRun": True})
        assert dry.status_code == 200, dry.content
        assert Task.objects.count() == before
        folder, _ = export(world, tmp_path, body)
        (planned,) = dry.json()["cases"]
        (packed,) = manifest_of(folder)["cases"]
        assert planned["status"] == "packed"
        assert planned["folder"] == packed["folder"] == case
        planned_files = {file["name"]: file["size"] for file in planned["files"]}
        packed_files = {file["name"]: file["size"] for file in packed["files"]}
        assert planned_files.keys() == packed_files.keys()
        for name, size in packed_files.items():
            exact = not name.endswith("-label.dcm")
            assert planned_files[name] == (size if exact else pytest.approx(size, rel=0.1)), name
        assert planned["fileCount"] == len(planned_files)
        assert planned["size"] == dry.json()["size"] == sum(planned_files.values())
        (series,) = planned["series"]
        shapes = options.get("rasterizeShapes", False)
        assert series["labelCount"] == 3 + shapes
        expected = [{"label": 0, "by": 1, "voxelsShared": 1}]
        if shapes:
            expected = [expected[0], {"label": 0, "by": 3, "voxelsShared": 4}, {"label": 1, "by": 3, "voxelsShared": 1}]
        assert series["overlaps"] == expected


def outcomes(world: World, case: str, **options: Any) -> tuple[str, str]:
    """The reasons of a dry run and of the export, empty where the case is packed."""
    client = world.client("everything")
    answer = client.post("/api/cases/export", {"caseIds": [case], "dryRun": True, **options})
    (planned,) = answer.json()["cases"]
    options = {"format": "mhd"} | options
    task = make_task(world, [case], **DEFAULTS[options["format"]], **options)
    try:
        (packed,) = pack(task, Progress(task)).results
    except WorkFailed as failure:
        (packed,) = failure.results
    return planned.get("reason", ""), packed.get("reason", "")


def originals(uid: str) -> list[Path]:
    """By image number."""
    files = SeriesFile.objects.filter(series__series_uid=uid).order_by("image_set__number")
    return [Path(default_storage.path(file.storage_key)) for file in files]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-2])])
def test_a_dry_run_misses_the_files_that_an_export_would(
    world: World, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    one = np.ones((1, 2, 2), bool)
    whole = phantom_case(world, tmp_path, [box_label(world, one, [0, 0, 0], "a")])
    uid = Series.objects.get().series_uid
    part = make_case(world, uid, PartialVolume(8, 2, -2), [])
    for number in (3, 4, 6):
        damage(originals(uid)[number - 1])
    reason = f"The DICOM file of image {{}} of series {uid} is missing or damaged."
    # What is stored for exports has all images.
    assert outcomes(world, whole) == outcomes(world, part) == ("", "")
    dicom = outcomes(world, whole, format="dicom-seg"), outcomes(world, part, format="dicom-seg")
    assert dicom == ((reason.format(3),) * 2, (reason.format(6),) * 2)
    forget_volume(uid)
    # It would be made again from head to feet.
    assert outcomes(world, whole) == (reason.format(6),) * 2
    assert outcomes(world, part, format="nrrd") == (reason.format(6),) * 2
    rest = make_case(world, uid, PartialVolume(1, 9, 4), [])
    assert outcomes(world, rest, format="nifti") == ("", "")


AT = "ImagePositionPatient"
CT = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "FrameOfReferenceUID": "1.2.9"}
UNFIT: list[tuple[dict[str, Any], str]] = [
    ({AT: [1.0, 0.0, 2.0]}, "Two images lie in the same plane"),
    ({AT: None}, "An image has no position"),
    ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "The images have different orientations"),
    ({"PixelSpacing": [2, 2]}, "The images have different pixel spacings"),
    ({"PixelSpacing": None}, "An image has no pixel spacing"),
]


@pytest.mark.parametrize(("last", "reason"), UNFIT)
def test_a_dry_run_knows_images_that_carry_no_segmentation(
    world: World, tmp_path: Path, last: dict[str, Any], reason: str
) -> None:
    for number in range(1, 4):
        place = {AT: [0.0, 0.0, float(number)]} | (last if number == 3 else {})
        write(image(number, **CT, **place), tmp_path / "in" / f"{number}.dcm")
    run(tmp_path / "in", spool=tmp_path)
    label = box_label(world, np.ones((1, 2, 2), bool), [0, 0, 0], "a")
    case = make_case(world, SERIES_UID, PartialVolume(1, 3, 1), [label])
    planned, packed = outcomes(world, case, format="dicom-seg")
    assert planned == packed
    assert planned.startswith(reason)
    assert outcomes(world, case, format="nrrd") == ("", "")


def test_a_dry_run_knows_frames_of_one_file(world: World, tmp_path: Path) -> None:
    frames = np.zeros((3, 4, 6), np.int16)
    write(image(1, frames, NumberOfFrames=3, Rows=4, Columns=6, **CT), tmp_path / "in" / "1.dcm")
    run(tmp_path / "in", spool=tmp_path)
    label = box_label(world, np.ones((1, 2, 2), bool), [0, 0, 0], "a")
    for volume in (PartialVolume(1, 3, 1), PartialVolume(2, 2, 1)):
        planned, packed = outcomes(world, make_case(world, SERIES_UID, volume, [label]), format="dicom-seg")
        assert planned == packed
        assert "frames of a multi-frame file" in planned


def test_a_dry_run_knows_a_frame_among_single_images(world: World, tmp_path: Path) -> None:
    """Of its file the volume has one frame, which is not its first image."""
    frames = np.zeros((2, 4, 6), np.int16)
    write(image(1, frames, NumberOfFrames=2, Rows=4, Columns=6, **CT), tmp_path / "in" / "1.dcm")
    for number in (3, 4):
        write(image(number, **CT), tmp_path / "in" / f"{number}.dcm")
    run(tmp_path / "in", spool=tmp_path)
    label = box_label(world, np.ones((1, 2, 2), bool), [0, 0, 0], "a")
    for volume in (PartialVolume(4, 2, -1), PartialVolume(4, 1, -3)):
        planned, packed = outcomes(world, make_case(world, SERIES_UID, volume, [label]), format="dicom-seg")
        assert planned == packed
        assert "frames of a multi-frame file" in planned


def test_a_dry_run_asks_the_database_no_more_for_more_rows(world: World, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", size=(13, 11, 9))
    run(tmp_path / "in", spool=tmp_path)
    one = np.ones((1, 2, 2), bool)
    counts: dict[str, set[int]] = {name: set() for name in FORMATS}
    for images, labels in ((1, 1), (9, 12)):
        drawn = [box_label(world, one, [i % 5, i % 4, 0], f"{i}") for i in range(labels)]
        case = make_case(world, phantom.series_uid, PartialVolume(1, images, 1), drawn)
        for name in FORMATS:
            body = {"caseIds": [case], "format": name, "rasterizeShapes": True, "dryRun": True}
            with CaptureQueriesContext(connection) as asked:
                assert world.client("everything").post("/api/cases/export", body).json()["failed"] == 0
            counts[name].add(len(asked))
    assert {name: len(numbers) for name, numbers in counts.items()} == dict.fromkeys(FORMATS, 1), counts


def test_a_dry_run_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = np.ones((1, 2, 2), bool)
    labels = [box_label(world, one, [0, 0, 0], "a"), box_label(world, one, [1, 1, 0], "b")]
    cases = [phantom_case(world, tmp_path, labels) for _ in range(2)]
    client = world.client("everything")
    body = {"caseIds": cases, "format": "nrrd", "dryRun": True}
    monkeypatch.setattr("exports.planning.Budget.__init__", lambda self: setattr(self, "voxels", 8))
    first, second = client.post("/api/cases/export", body).json()["cases"]
    assert first["series"][0]["overlaps"] == [{"label": 0, "by": 1, "voxelsShared": 1}]
    assert second["series"][0]["overlaps"] is None
    assert second["status"] == "packed"
    monkeypatch.setattr("exports.planning.MAX_IMAGES", 17)
    answer = client.post("/api/cases/export", body)
    assert answer.status_code == 400
    assert "18 images" in answer.json()["error"]
    monkeypatch.setattr("exports.planning.MAX_IMAGES", 18)
    monkeypatch.setattr("exports.planning.MAX_LABELS", 3)
    assert "4 labels" in client.post("/api/cases/export", body).json()["error"]
    assert not Task.objects.exists()
