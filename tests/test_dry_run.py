"""Dry runs: what an export would hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from casestore.tasks.models import Task
from tests.formats import FORMATS, box_label, export, manifest_of, phantom_case
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
        # Of a DICOM SEG a dry run knows the pixels alone, and that there is a table beside it.
        estimated = {
            name
            for name in packed_files
            if name.endswith(("-label.dcm", "-label.json")) and "dicom" in options["format"]
        }
        for name in packed_files.keys() - estimated:
            assert planned_files[name] == packed_files[name], name
        assert planned_files.keys() >= packed_files.keys() - {f"{case}/vol000-label.json"}
        assert planned["fileCount"] == len(planned_files)
        assert planned["size"] == dry.json()["size"] == sum(planned_files.values())
        (series,) = planned["series"]
        shapes = options.get("rasterizeShapes", False)
        assert series["labelCount"] == 3 + shapes
        expected = [{"label": 0, "by": 1, "voxelsShared": 1}]
        if shapes:
            expected = [expected[0], {"label": 0, "by": 3, "voxelsShared": 4}, {"label": 1, "by": 3, "voxelsShared": 1}]
        assert series["overlaps"] == expected


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
