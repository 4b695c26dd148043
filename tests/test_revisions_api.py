"""Appending revisions through the API, and that they stay as they are."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from django.db import IntegrityError, connection, connections, transaction

from cases.models import Case, Label, Project, Revision, RevisionSeries
from tests.world import PROJECT, World, make_world, revision, voxel_label


def append(world: World, case: Case, body: dict[str, Any], by: str = "everything") -> Any:
    return world.client(by).post(f"/api/cases/{case.case_id}/revision", body)


def test_append_all_label_types_and_read_them_back(world: World) -> None:
    world.series()
    case = world.case()
    sha1 = world.blob(np.ones((2, 2, 3), bool), by="annotator")
    labels = [
        {
            "name": "Voxels",
            "type": "voxel",
            "data": {"voxels": sha1, "origin": [1, 0, 3], "size": [3, 2, 2], "alpha": 1, "color": "#ff0000"},
            "attributes": {"grade": 1.5, "nested": {"b": [1, None, True]}},
        },
        {"type": "voxel", "data": {"voxels": None, "origin": [0, 0, 0], "size": [0, 0, 0]}},
        {"type": "cuboid", "data": {"min": [0, 0.5, 0], "max": [1, 2, 3]}, "name": ""},
        {"type": "ellipsoid", "data": {"min": [0, 0, 0], "max": [1, 2, 3], "color": "#00FF00"}},
        {"type": "rectangle", "data": {"min": [0, 0], "max": [1, 2], "z": 3}},
        {"type": "ellipse", "data": {"min": [0, 0], "max": [1, 2], "z": 3, "alpha": 0}},
        {"type": "polyline", "data": {"points": [[0, 0], [1, 2], [-3.25, 4]], "z": 3}},
        {"type": "point", "data": {"location": [1, 2, 3]}},
        {
            "type": "ruler",
            "data": {
                "section": {"origin": [0, 0, 0], "xAxis": [1, 0, 0], "yAxis": [0, 1, 0]},
                "start": [0, 0, 0],
                "end": [1, 1, 1],
                "labelPosition": [2, 2, 2],
            },
        },
    ]
    body = revision(
        [
            {
                "seriesUid": "1.2.3",
                "partialVolumeDescriptor": {"start": 10, "end": 1, "delta": -1},
                "labels": labels,
            }
        ],
        description="Add something",
        attributes={"é": [1, 2.5, "x"]},
        status="for-review",
    )
    answer = append(world, case, body, by="annotator")
    assert answer.status_code == 201, answer.content
    assert answer.content == b""
    got = world.client("reader").get(f"/api/cases/{case.case_id}").json()["revisions"]
    assert len(got) == 2
    assert got[1]["series"] == body["series"]
    assert got[1]["attributes"] == body["attributes"]
    assert (got[1]["creator"], got[1]["status"]) == ("annotator@example.com", "for-review")
    (listed,) = world.client("reader").get("/api/cases").json()
    assert listed["latestRevision"] == got[1]
    assert listed["updatedAt"] > listed["createdAt"]


@pytest.mark.parametrize(
    ("label", "path"),
    [
        ({"type": "blob", "data": {}}, "type"),
        ({"type": "point"}, "data"),
        ({"type": "point", "data": {"location": [1, 2]}}, "data.location"),
        ({"type": "point", "data": {"location": [1, 2, "3"]}}, "data.location[2]"),
        ({"type": "point", "data": {"location": [1, 2, 3], "z": 1}}, "data.z"),
        ({"type": "point", "data": {"location": [1, 2, 3], "color": "red"}}, "data.color"),
        ({"type": "point", "data": {"location": [1, 2, 3], "alpha": 1.1}}, "data.alpha"),
        ({"type": "point", "data": {"location": [1, 2, 3]}, "attributes": []}, "attributes"),
        ({"type": "point", "data": {"location": [1, 2, 3]}, "name": 1}, "name"),
        ({"type": "point", "data": {"location": [1, 2, 3]}, "hidden": 1}, "hidden"),
        ({"type": "polyline", "data": {"points": [], "z": 1}}, "data.points"),
        (voxel_label("0" * 40, [0, 0, 0], [3, 2, 2]), "data.voxels"),
        (voxel_label("xyz", [0, 0, 0], [3, 2, 2]), "data.voxels"),
        (voxel_label("BLOB", [0, 0, 0], [3, 2]), "data.size"),
        (voxel_label("BLOB", [-1, 0, 0], [3, 2, 2]), "data.origin[0]"),
        (voxel_label("BLOB", [0.5, 0, 0], [3, 2, 2]), "data.origin[0]"),
        (voxel_label("BLOB", [0, 0, 0], [0, 2, 2]), "data.size"),
        (voxel_label("BLOB", [0, 0, 0], [3, 3, 2]), "data.voxels"),
        (voxel_label("BLOB", [6, 0, 0], [3, 2, 2]), "data.size"),
        (voxel_label("BLOB", [0, 5, 0], [3, 2, 2]), "data.size"),
        (voxel_label("BLOB", [0, 0, 9], [3, 2, 2]), "data.size"),
        (voxel_label("BLOB", [0, 0, 0], [2**31, 2**31, 2**31]), "data.size[0]"),
    ],
)
def test_wrong_labels(world: World, label: dict[str, Any], path: str) -> None:
    world.series()
    case = world.case()
    sha1 = world.blob(np.ones((2, 2, 3), bool))
    if label.get("data", {}).get("voxels") == "BLOB":
        label = {**label, "data": {**label["data"], "voxels": sha1}}
    answer = append(world, case, revision([{"seriesUid": "1.2.3", "labels": [label]}]))
    assert answer.status_code == 400, answer.content
    paths = [problem["path"] for problem in answer.json()["validationErrors"]]
    assert f"series[0].labels[0].{path}" in paths
    assert Revision.objects.count() == 1


@pytest.mark.parametrize("name", ["description", "attributes", "status", "series"])
def test_revisions_need_all_members(world: World, name: str) -> None:
    world.series()
    case = world.case()
    body = revision([])
    del body[name]
    assert append(world, case, body).status_code == 400


@pytest.mark.parametrize(("name", "value"), [("date", "2022-01-01T00:00:00Z"), ("creator", "x@example.com")])
def test_author_and_date_are_the_servers(world: World, name: str, value: str) -> None:
    world.series()
    case = world.case()
    answer = append(world, case, revision([], **{name: value}))
    assert answer.status_code == 400
    assert answer.json()["validationErrors"][0]["path"] == name


def test_an_entry_without_descriptor_keeps_that_of_the_latest_revision(world: World) -> None:
    world.series()
    world.series("4.5.6", images="3-4")
    descriptor = {"start": 9, "end": 3, "delta": -3}
    case = world.case(series=[{"seriesUid": "1.2.3", "partialVolumeDescriptor": descriptor}])
    assert append(world, case, revision([{"seriesUid": "4.5.6"}, {"seriesUid": "1.2.3"}])).status_code == 201
    latest = world.client("reader").get("/api/cases").json()[0]["latestRevision"]
    assert [entry["partialVolumeDescriptor"] for entry in latest["series"]] == [
        {"start": 3, "end": 4, "delta": 1},
        descriptor,
    ]
    assert append(world, case, revision([])).status_code == 201
    assert append(world, case, revision([{"seriesUid": "1.2.3"}])).status_code == 201
    latest = world.client("reader").get("/api/cases").json()[0]["latestRevision"]
    assert latest["series"][0]["partialVolumeDescriptor"] == {"start": 1, "end": 10, "delta": 1}


def test_project_schemas_are_enforced(world: World) -> None:
    world.series()
    case = world.case()
    Project.objects.filter(project_id=PROJECT).update(
        case_attributes_schema={
            "type": "object",
            "properties": {
                "grade": {"type": "integer"},
                "list": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["grade"],
        },
        label_attributes_schema={"type": "object", "properties": {"sure": {"type": "boolean"}}},
    )
    label = {"type": "point", "data": {"location": [0, 0, 0]}, "attributes": {"sure": "yes"}}
    body = revision([{"seriesUid": "1.2.3", "labels": [label]}], attributes={"grade": "x", "list": ["a", 1]})
    answer = append(world, case, body)
    assert answer.status_code == 400
    assert {problem["path"] for problem in answer.json()["validationErrors"]} == {
        "attributes.grade",
        "attributes.list[1]",
        "series[0].labels[0].attributes.sure",
    }
    label["attributes"]["sure"] = True
    body["attributes"] = {"grade": 1}
    assert append(world, case, body).status_code == 201


@pytest.mark.parametrize("model", [Revision, RevisionSeries, Label])
def test_the_database_keeps_revisions_as_they_are(world: World, model: Any) -> None:
    world.series()
    case = world.case()
    append(
        world,
        case,
        revision([{"seriesUid": "1.2.3", "labels": [{"type": "point", "data": {"location": [0, 0, 0]}}]}]),
    )
    assert model.objects.exists()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        model.objects.update(id=0)
    with (
        pytest.raises(IntegrityError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f'DELETE FROM "{model._meta.db_table}"')


@pytest.mark.django_db(transaction=True)
def test_simultaneous_writers_all_land() -> None:
    world = make_world()
    world.series()
    case = world.case()
    statuses: list[int] = []
    start = threading.Barrier(6)

    def write(number: int) -> None:
        start.wait()
        for k in range(3):
            answer = append(world, case, revision([{"seriesUid": "1.2.3"}], description=f"{number}.{k}"))
            statuses.append(answer.status_code)
        connections.close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 18
    rows = Revision.objects.filter(case=case).order_by("index")
    assert [row.index for row in rows] == list(range(19))
    assert {row.description for row in rows} == {"Created new case."} | {f"{n}.{k}" for n in range(6) for k in range(3)}
    case.refresh_from_db()
    assert (case.revision_count, case.latest_revision_id) == (19, rows[18].pk)
    assert json.loads(case.document.latest_revision)["description"] == rows[18].description
