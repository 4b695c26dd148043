"""Values, shapes and formats that a request asks for, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicerio
from django.core.files.storage import default_storage

from cases.image_numbers import PartialVolume
from cases.models import Project, SeriesFile
from cases.provisioning import provision
from casestore.errors import InvalidBody
from casestore.tasks.models import Task
from tests.dicom import SERIES_UID, write_series
from tests.formats import FORMATS, READERS, box_label, export, manifest_of, names, phantom_case
from tests.test_export import make_case
from tests.test_import import run, wait
from tests.world import PROJECT, World, make_world


def test_project_values(worker: Path, tmp_path: Path) -> None:
    """A structure has the same value in every case, whatever its place; labels that share one are one segment."""
    world = make_world()
    Project.objects.filter(project_id=PROJECT).update(label_values={"liver": 300, "spleen": 7, " Milz": 7})
    one = np.ones((1, 2, 2), bool)
    first = phantom_case(
        world, tmp_path, [box_label(world, one, [0, 0, 0], "liver"), box_label(world, one, [5, 5, 3], "spleen")]
    )
    second = phantom_case(
        world,
        tmp_path,
        [
            box_label(world, one, [0, 0, 0], " Milz"),
            box_label(world, one, [8, 8, 8], "liver"),
            box_label(world, one, [1, 1, 0], "spleen"),
        ],
    )
    expected = {first: {300: 4, 7: 4}, second: {7: 7, 300: 4}}
    for name in FORMATS:
        body = {"caseIds": [first, second], "format": name, "labelValues": "project", "labelPackType": "combined"}
        folder, _ = export(world, tmp_path, body)
        for case, counts in expected.items():
            for placed in READERS[name](folder / case):
                assert {value: int(mask.sum()) for value, mask in placed.masks.items()} == counts, placed.reader
        labels = manifest_of(folder)["cases"][1]["series"][0]["labels"]
        assert [(label["index"], label["name"]) for label in labels] == [(0, " Milz"), (1, "liver"), (2, "spleen")]
        if name in {"nifti", "dicom-seg"}:
            rows = json.loads((folder / second / "vol000-label.json").read_bytes())["values"]
            assert [(row["value"], row["name"], row["labels"]) for row in rows] == [
                (7, " Milz", [0, 2]),
                (300, "liver", [1]),
            ]
    # A mask by itself has that value too.
    body = {"caseIds": [first], "format": "mhd", "labelValues": "project"}
    folder, _ = export(world, tmp_path, body)
    values = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / first / f"vol000-label00{i}.mhd"))).max() for i in (0, 1)
    ]
    assert values == [300, 7]


def test_a_segmentation_with_other_values_is_another_instance(worker: Path, tmp_path: Path) -> None:
    """Who has both must be able to tell them apart."""
    world = make_world()
    case = phantom_case(world, tmp_path, [box_label(world, np.ones((1, 2, 2), bool), [0, 0, 0], "liver")])
    body = {"caseIds": [case], "format": "dicom-seg", "labelValues": "project"}
    identities = []
    for value in (5, 5, 6):
        Project.objects.filter(project_id=PROJECT).update(label_values={"liver": value})
        folder, _ = export(world, tmp_path, body)
        made = pydicom.dcmread(folder / case / "vol000-label.dcm")
        identities.append((made.SOPInstanceUID, made.SeriesInstanceUID))
    assert identities[0] == identities[1]
    assert not set(identities[0]) & set(identities[2])


def test_a_label_without_a_value_fails_its_case(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    Project.objects.filter(project_id=PROJECT).update(label_values={"liver": 1})
    one = np.ones((1, 1, 1), bool)
    good = phantom_case(world, tmp_path, [box_label(world, one, [0, 0, 0], "liver")])
    bad = phantom_case(world, tmp_path, [box_label(world, one, [0, 0, 0], "Liver")])
    body = {"caseIds": [bad, good], "format": "nrrd", "labelValues": "project"}
    dry = world.client("everything").post("/api/cases/export", {**body, "dryRun": True}).json()
    folder, task = export(world, tmp_path, body)
    assert names(folder) >= {f"{good}/vol000-label.seg.nrrd"}
    assert not [name for name in names(folder) if name.startswith(bad)]
    reason = manifest_of(folder)["cases"][0]["reason"]
    assert 'no value for the label "Liver"' in reason
    assert reason in task["finishedMessage"]
    assert [case.get("reason") for case in dry["cases"]] == [reason, None]
    assert dry["failed"] == 1


def test_shapes_become_masks(worker: Path, tmp_path: Path) -> None:
    """Of voxels of 2 x 2 x 3 mm, from the corner of the first one."""
    world = make_world()
    labels = [
        {"type": "cuboid", "name": "box", "data": {"min": [2, 4, 6], "max": [8, 10, 12], "color": "#00ff00"}},
        {"type": "rectangle", "name": "flat", "data": {"min": [10, 0], "max": [16, 4], "z": 7}},
        {"type": "polyline", "name": "triangle", "data": {"points": [[0, 0], [26, 0], [0, 22]], "z": 25.5}},
        {"type": "ellipsoid", "name": "ball", "data": {"min": [100, 0, 0], "max": [126, 22, 27]}},
        {
            "type": "ruler",
            "name": "ruler",
            "data": {
                "section": {"origin": [0, 0, 0], "xAxis": [1, 0, 0], "yAxis": [0, 1, 0]},
                "start": [0, 0, 0],
                "end": [1, 1, 1],
            },
        },
        box_label(world, np.ones((2, 3, 3), bool), [1, 2, 2], "voxels"),
    ]
    case = phantom_case(world, tmp_path, labels)
    for name in FORMATS:
        body = {"caseIds": [case], "format": name, "rasterizeShapes": True, "labelPackType": "combined"}
        folder, _ = export(world, tmp_path, body)
        for placed in READERS[name](folder / case):
            # The cuboid holds exactly the voxels of the voxel label.
            assert set(map(tuple, np.argwhere(placed.masks[6]))) == {
                (k, j, i) for k in (2, 3) for j in (2, 3, 4) for i in (1, 2, 3)
            }
            if "nrrd" in placed.reader or "dicom" in placed.reader:
                assert np.array_equal(placed.masks[1], placed.masks[6])
            assert set(map(tuple, np.argwhere(placed.masks[2]))) == {(2, j, i) for j in (0, 1) for i in (5, 6, 7)}
            assert np.argwhere(placed.masks[3])[:, 0].tolist() == [8] * int(placed.masks[3].sum())
            assert placed.masks[3][8, 0, 0]
            assert not placed.masks[3][8, 10, 12]
        (series,) = manifest_of(folder)["cases"][0]["series"]
        assert [label["name"] for label in series["labels"]] == ["box", "flat", "triangle", "ball", "voxels"]
        assert [label["voxels"] for label in series["labels"]][:2] == [18, 6]
        assert series["labels"][3]["voxels"] == 0
    folder, _ = export(world, tmp_path, {"caseIds": [case], "format": "nrrd"})
    assert set(slicerio.read_segmentation(str(folder / case / "vol000-label.seg.nrrd"))["segments"][0]["name"]) == set(
        "voxels"
    )


def test_formats_that_cannot_hold_a_case(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", range(1, 3))
    run(tmp_path / "in", spool=tmp_path)
    one = np.ones((1, 1, 1), bool)
    labels = [box_label(world, one, [0, 0, 0], f"{i}") for i in range(65)]
    unplaced = make_case(world, SERIES_UID, PartialVolume(1, 2, 1), labels[:1])
    crowded = make_case(world, SERIES_UID, PartialVolume(1, 2, 1), labels)
    client = world.client("everything")
    for name, case, says in (
        ("dicom-seg", unplaced, "no FrameOfReferenceUID"),
        ("nrrd", crowded, "more than 64 layers"),
    ):
        body = {"caseIds": [case], "format": name}
        (planned,) = client.post("/api/cases/export", {**body, "dryRun": True}).json()["cases"]
        assert planned["status"] == "failed"
        assert says in planned["reason"]
        task = wait(client, client.post("/api/cases/export", body).json()["taskId"])
        assert task["status"] == "error"
        assert planned["reason"] in task["errorMessage"]
        assert "Secret" not in str(task)


def test_a_damaged_dicom_file_is_not_passed_on(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    case = phantom_case(world, tmp_path, [])
    file = SeriesFile.objects.first()
    assert file is not None
    path = Path(default_storage.path(file.storage_key))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    client = world.client("everything")
    answer = client.post("/api/cases/export", {"caseIds": [case], "format": "dicom-seg"})
    task = wait(client, answer.json()["taskId"])
    assert task["status"] == "error"
    assert "missing or damaged" in task["errorMessage"]


def test_large_shapes_are_kept_in_files_and_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shape = {"type": "cuboid", "data": {"min": [0, 0, 0], "max": [26, 22, 27]}}
    case = phantom_case(world, tmp_path, [shape, shape])
    body = {"caseIds": [case], "format": "nrrd", "rasterizeShapes": True, "dryRun": True}
    client = world.client("everything")
    overlaps = [{"label": 0, "by": 1, "voxelsShared": 13 * 11 * 9}]
    for in_memory in (1, 2**20):
        monkeypatch.setattr("exports.contents.IN_MEMORY", in_memory)
        (planned,) = client.post("/api/cases/export", body).json()["cases"]
        assert planned["series"][0]["overlaps"] == overlaps
    # 1,287 voxels take 161 bytes.
    monkeypatch.setattr("exports.contents.MAX_SHAPES", 321)
    (planned,) = client.post("/api/cases/export", body).json()["cases"]
    assert "too large to be painted" in planned["reason"]
    monkeypatch.setattr("exports.contents.MAX_SHAPES", 322)
    assert client.post("/api/cases/export", body).json()["failed"] == 0


def test_what_means_nothing_to_a_format_changes_nothing(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    case = phantom_case(world, tmp_path, [box_label(world, np.ones((1, 2, 2), bool), [0, 0, 0], "liver")])
    for name, options in (
        ("nrrd", {"labelPackType": "isolated", "mhdLineEnding": "crlf"}),
        ("nrrd", {"labelPackType": "combined"}),
        ("dicom-seg", {"labelPackType": "isolated"}),
        ("nifti", {"mhdLineEnding": "crlf"}),
    ):
        _, plain = export(world, tmp_path, {"caseIds": [case], "format": name})
        _, told = export(world, tmp_path, {"caseIds": [case], "format": name, **options})
        assert plain["sha256"] == told["sha256"], (name, options)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"format": "nifti-2"}, "format"),
        ({"format": "nrrd", "labelPackType": "layers"}, "labelPackType"),
        ({"format": "nifti", "mhdLineEnding": "cr"}, "mhdLineEnding"),
        ({"labelValues": "names"}, "labelValues"),
        ({"rasterizeShapes": "yes"}, "rasterizeShapes"),
        ({"dryRun": 1}, "dryRun"),
        ({"extra": 1}, "extra"),
        ({"caseIds": []}, "caseIds"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_is_refused_makes_no_task(world: World, change: dict[str, Any], path: str, dry: bool) -> None:
    world.series()
    body = {"caseIds": [world.case().case_id], "dryRun": dry} | change
    answer = world.client("everything").post("/api/cases/export", body)
    assert answer.status_code == 400, answer.content
    assert answer.json()["validationErrors"][0]["path"].startswith(path)
    assert not Task.objects.exists()


@pytest.mark.parametrize("dry", [False, True])
def test_original_files_need_what_patient_information_needs(world: World, dry: bool) -> None:
    world.series()
    case = world.case()
    body = {"caseIds": [case.case_id], "format": "dicom-seg", "dryRun": dry}
    done = 200 if dry else 201
    annotator = world.user("annotator")
    assert world.client("annotator").post("/api/cases/export", body).status_code == done
    annotator.preferences = {"personalInfoView": False}
    annotator.save()
    refused = world.client("annotator").post("/api/cases/export", body)
    assert (refused.status_code, refused.json()["code"]) == (401, "insufficient_privilege")
    assert world.client("annotator").post("/api/cases/export", {**body, "format": "nrrd"}).status_code == done
    annotator.preferences = {}
    annotator.save()
    annotator.groups.get().project_roles.filter(role="viewPersonalInfo").delete()
    refused = world.client("annotator").post("/api/cases/export", body)
    assert refused.status_code == 401
    assert "viewPersonalInfo" in refused.json()["error"]
    # Without the right to download nothing is told either.
    assert world.client("reader").post("/api/cases/export", {**body, "format": "mhd"}).status_code == 401


def test_a_repeated_request_makes_one_task(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    case = phantom_case(world, tmp_path, [])
    client = world.client("everything")
    body = {"caseIds": [case], "format": "nrrd"}
    answers = [client.post("/api/cases/export", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert Task.objects.count() == 1
    other = client.post("/api/cases/export", {**body, "format": "nifti"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422
    wait(client, answers[0].json()["taskId"])


def test_label_values_of_a_project(world: World) -> None:
    declared = {
        "projects": [{"projectId": PROJECT, "projectName": "Lungs", "labelValues": {"liver": 5, "größe": 65535}}]
    }
    provision(declared)
    shown = world.client("reader").get(f"/api/projects/{PROJECT}").json()
    assert shown["labelValues"] == {"liver": 5, "größe": 65535}
    assert Project.objects.get(project_id=PROJECT).tags == [{"caption": "happy", "color": "#ff0000"}]
    for wrong in ({"a": 0}, {"a": 65536}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"": 1}, {"x" * 256: 1}, [1], None):
        with pytest.raises(InvalidBody) as caught:
            provision({"projects": [{"projectId": PROJECT, "projectName": "Lungs", "labelValues": wrong}]})
        assert "labelValues" in caught.value.sentence
    assert Project.objects.get(project_id=PROJECT).label_values == {"liver": 5, "größe": 65535}


def test_the_admin_checks_label_values(world: World, client: Any) -> None:
    admin = world.user("everything")
    admin.is_staff = admin.is_superuser = True
    admin.save()
    client.force_login(admin)
    project = Project.objects.get(project_id=PROJECT)
    address = f"/admin/cases/project/{project.pk}/change/"
    page = client.get(address)
    assert b"label_values" in page.content
    form = page.context["adminform"].form
    data = {
        name: "" if (value := form.get_initial_for_field(field, name)) is None else value
        for name, field in form.fields.items()
    }
    data |= {
        name: json.dumps(data[name])
        for name in ("window_presets", "tags", "case_attributes_schema", "label_attributes_schema")
    }
    inlines = {"roles-TOTAL_FORMS": "0", "roles-INITIAL_FORMS": "0"}
    for values, status in (({"liver": 0}, 200), ({"liver": 9}, 302)):
        answer = client.post(address, data | inlines | {"label_values": json.dumps(values)})
        assert answer.status_code == status, answer.content
    assert Project.objects.get(project_id=PROJECT).label_values == {"liver": 9}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"caseIds": []}, 400),
        ({"caseIds": ["x"] * 101}, 400),
        ({"caseIds": "CASE"}, 400),
        ({"caseIds": [7]}, 400),
        ({"caseIds": [{"caseId": "CASE", "revisionIndex": 1}]}, 400),
        ({"caseIds": [{"caseId": "CASE", "revisionIndex": -2}]}, 400),
        ({"caseIds": [{"caseId": "CASE", "revisionIndex": 0.5}]}, 400),
        ({"caseIds": [{"caseId": "CASE", "revisionIndex": True}]}, 400),
        ({"caseIds": [{"caseId": "CASE", "index": 0}]}, 400),
        ({"caseIds": ["unknown"]}, 404),
        ({"caseIds": ["CASE", "HIDDEN"]}, 401),
        ({"labelPackType": "both"}, 400),
        ({"mhdLineEnding": "cr"}, 400),
        ({"compressionFormat": "rar"}, 400),
        ({"extra": 1}, 400),
    ],
)
def test_what_is_refused_of_the_published_body_makes_no_task(world: World, change: dict[str, Any], status: int) -> None:
    world.series()
    world.series("9.9", domain="sirius.example")
    case, hidden = world.case(), world.case("9.9", project="01other0project00000000000")
    text = json.dumps({"caseIds": ["CASE"]} | change)
    body = json.loads(text.replace("CASE", case.case_id).replace("HIDDEN", hidden.case_id))
    answer = world.client("annotator").post("/api/cases/export-mhd", body)
    assert answer.status_code == status, answer.content
    assert answer.json()["error"]
    assert not Task.objects.exists()
