"""Cases and revisions through the API."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import numpy as np
import pytest
from django.db import IntegrityError, connection, connections, transaction

from cases.models import Case, Label, Project, Revision, RevisionSeries, SeriesFile, SeriesImage
from tests.world import OTHER_PROJECT, PATIENT, PROJECT, World, make_world, revision, voxel_label

DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_create_and_read(world: World) -> None:
    world.series()
    body = {
        "projectId": PROJECT,
        "series": [{"seriesUid": "1.2.3", "partialVolumeDescriptor": {"start": 2, "end": 8, "delta": 3}}],
        "tags": ["b", "a", "b"],
    }
    answer = world.client("annotator").post("/api/cases", body)
    assert answer.status_code == 201
    case_id = answer.json()["caseId"]
    assert len(case_id) == 26
    assert case_id == case_id.lower()
    case = world.client("reader").get(f"/api/cases/{case_id}").json()
    assert list(case) == ["caseId", "projectId", "revisions", "tags", "domains", "createdAt", "updatedAt"]
    assert case["tags"] == ["b", "a"]
    assert case["domains"] == ["vega.example"]
    (first,) = case["revisions"]
    assert first == {
        "creator": "annotator@example.com",
        "date": first["date"],
        "description": "Created new case.",
        "attributes": {},
        "status": "draft",
        "series": [
            {
                "seriesUid": "1.2.3",
                "partialVolumeDescriptor": {"start": 2, "end": 8, "delta": 3},
                "labels": [],
            }
        ],
    }
    for date in (first["date"], case["createdAt"], case["updatedAt"]):
        assert re.fullmatch(DATE, date)
    (listed,) = world.client("reader").get("/api/cases").json()
    assert listed["latestRevision"] == first
    assert "revisions" not in listed


def image(series: Any, number: int, position: list[float] | None) -> None:
    file = SeriesFile.objects.create(series=series, storage_key=f"{series.pk}/{number}", size=1, sha256="")
    SeriesImage.objects.create(
        series=series,
        file=file,
        number=number,
        frame=0,
        position=position,
        minimum=0,
        maximum=1,
        integral=True,
    )


@pytest.mark.parametrize(
    ("images", "positions", "expected"),
    [
        ("1-5", {1: 100.0, 5: 20.0}, (1, 5, 1)),
        ("1-5", {1: 20.0, 5: 100.0}, (5, 1, -1)),
        ("1-5", {1: 20.0, 5: 20.0}, (1, 5, 1)),
        ("1-5", {1: None, 5: 30.0}, (1, 5, 1)),
        ("1-5", {1: 3.0, 5: None}, (1, 5, 1)),
        ("1-5", {}, (1, 5, 1)),
        ("4-6,9-30", {4: 1.0, 6: 2.0}, (6, 4, -1)),
        ("7", {7: 1.0}, (7, 7, 1)),
        ("0-3", {1: 9.0, 3: 1.0}, (1, 3, 1)),
    ],
)
def test_auto(world: World, images: str, positions: dict[int, float | None], expected: tuple[int, int, int]) -> None:
    """The first contiguous run, from head to feet; ascending without positions."""
    series = world.series(images=images)
    for number, z in positions.items():
        image(series, number, None if z is None else [0.0, 0.0, z])
    case = world.case(series=[{"seriesUid": "1.2.3", "partialVolumeDescriptor": "auto"}])
    row = RevisionSeries.objects.get(revision=case.latest_revision)
    assert (row.start, row.end, row.delta) == expected


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"projectId": 5}, "projectId"),
        ({"projectId": None}, "projectId"),
        ({"series": []}, "series"),
        ({"series": {}}, "series"),
        ({"series": [{}]}, "series[0].seriesUid"),
        ({"series": [{"seriesUid": "0.0"}]}, "series[0].seriesUid"),
        ({"series": [{"seriesUid": 123}]}, "series[0].seriesUid"),
        ({"series": [{"seriesUid": "1.2.3", "labels": []}]}, "series[0].labels"),
        ({"tags": ["x" * 33]}, "tags[0]"),
        ({"tags": [""]}, "tags[0]"),
        ({"tags": [7]}, "tags[0]"),
        ({"tags": "x"}, "tags"),
        ({"tag": ["x"]}, "tag"),
        ({"series": [{"seriesUid": "1.2.3"}, {"seriesUid": "9.9"}]}, "series"),
    ],
)
def test_wrong_cases(world: World, change: dict[str, Any], where: str) -> None:
    world.series()
    world.series("9.9", domain="sirius.example")
    body = {"projectId": PROJECT, "series": [{"seriesUid": "1.2.3"}]} | change
    answer = world.client("everything").post("/api/cases", body)
    assert answer.status_code == 400, answer.content
    assert where in [problem["path"] for problem in answer.json()["validationErrors"]]
    assert not Case.objects.exists()


@pytest.mark.parametrize(
    "descriptor",
    [
        {"start": 0, "end": 5},
        {"start": 1, "end": 11},
        {"start": 1, "end": 10, "delta": 0},
        {"start": 1, "end": 10, "delta": 2},
        {"start": 1, "end": 10, "delta": -1},
        {"start": 10, "end": 1, "delta": 1},
        {"start": 1.5, "end": 3},
        {"start": "1", "end": 3},
        {"start": True, "end": 3},
        {"start": 1, "end": 2**40},
        {"start": 1},
        {"start": 1, "end": 3, "step": 1},
        "AUTO",
        None,
        7,
        [1, 2, 1],
    ],
)
def test_wrong_partial_volumes(world: World, descriptor: Any) -> None:
    world.series(images="1-10")
    body = {"projectId": PROJECT, "series": [{"seriesUid": "1.2.3", "partialVolumeDescriptor": descriptor}]}
    answer = world.client("everything").post("/api/cases", body)
    assert answer.status_code == 400, answer.content
    assert "partialVolumeDescriptor" in answer.json()["error"]


def test_a_range_with_a_gap_is_refused(world: World) -> None:
    world.series(images="1-4,6-10")
    answer = world.client("everything").post(
        "/api/cases",
        {
            "projectId": PROJECT,
            "series": [{"seriesUid": "1.2.3", "partialVolumeDescriptor": {"start": 1, "end": 10}}],
        },
    )
    assert answer.status_code == 400
    assert "no image 5" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b"", 400, "invalid_body"),
        (b"[]", 400, "invalid_body"),
        (b"null", 400, "invalid_body"),
        (b'"\xff"', 400, "bad_request"),
        (b'{"projectId": NaN}', 400, "bad_request"),
        (b'{"projectId": "a\\u0000b"}', 400, "bad_request"),
        (b'{"projectId": "\\ud800"}', 400, "bad_request"),
        (b"[" * 5000 + b"]" * 5000, 400, "bad_request"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, 400, "bad_request"),
        (b"1e999", 400, "bad_request"),
    ],
)
def test_malformed_json(world: World, body: bytes, status: int, code: str) -> None:
    answer = world.client("everything").post("/api/cases", body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_bodies_over_the_limit(world: World, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = world.client("everything").post("/api/cases", {"projectId": "x" * 1001, "series": []})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_other_media_types_are_refused(world: World) -> None:
    answer = world.client("everything").post("/api/cases", "a=b", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 415


def test_unknown_and_unreadable(world: World) -> None:
    world.series()
    case = world.case()
    assert world.client("reader").get("/api/cases/unknown").status_code == 404
    answer = world.client("outsider").get(f"/api/cases/{case.case_id}")
    assert answer.status_code == 401
    assert answer.json() == {
        "error": 'You do not have "read" privilege of this project.',
        "code": "insufficient_privilege",
    }
    body = {"projectId": "unknown", "series": [{"seriesUid": "1.2.3"}]}
    assert world.client("everything").post("/api/cases", body).status_code == 404


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


def test_a_case_stays_in_its_domain(world: World) -> None:
    world.series()
    world.series("9.9", domain="sirius.example")
    case = world.case()
    assert append(world, case, revision([{"seriesUid": "9.9"}])).status_code == 400


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


def test_patient_is_that_of_the_first_series_that_has_one(world: World) -> None:
    world.series()
    world.series("4.5.6", **PATIENT)
    world.series("7.8.9", patient_id="other")
    case = world.case()
    client = world.client("annotator")
    assert "patientInfo" not in client.get(f"/api/cases/{case.case_id}").json()
    append(world, case, revision([{"seriesUid": "1.2.3"}, {"seriesUid": "4.5.6"}, {"seriesUid": "7.8.9"}]))
    assert client.get(f"/api/cases/{case.case_id}").json()["patientInfo"]["patientId"] == "P-4711"
    append(world, case, revision([{"seriesUid": "1.2.3"}]))
    assert client.get(f"/api/cases/{case.case_id}").json()["patientInfo"]["patientId"] == "P-4711"
    append(world, case, revision([{"seriesUid": "7.8.9"}]))
    assert client.get("/api/cases").json()[0]["patientInfo"] == {"patientId": "other"}


def test_pages(world: World) -> None:
    world.series()
    made = [world.case().case_id for _ in range(5)]
    client = world.client("reader")
    pages = [client.get("/api/cases", {"limit": 2, "page": page}) for page in (1, 2, 3, 4)]
    assert [[case["caseId"] for case in page.json()] for page in pages] == [
        made[:2:-1],
        made[2:0:-1],
        made[:1],
        [],
    ]
    assert {page["X-Total-Count"] for page in pages} == {"5"}
    assert pages[1]["Link"] == ", ".join(
        f'<http://testserver/api/cases?limit=2&page={number}>; rel="{name}"'
        for name, number in (("first", 1), ("prev", 1), ("next", 3), ("last", 3))
    )
    for wrong in ({"limit": 0}, {"limit": 201}, {"limit": "x"}, {"page": 0}, {"page": "1.5"}, {"page": "٣"}):
        answer = client.get("/api/cases", wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), wrong


@pytest.mark.parametrize("address", ["/api/cases", "/api/series", "/api/cases/{case}"])
def test_the_number_of_queries_does_not_grow(
    world: World, address: str, django_assert_max_num_queries: Any, django_assert_num_queries: Any
) -> None:
    def fill(number: int) -> Case:
        world.series(f"1.{number}", **PATIENT)
        case = world.case(f"1.{number}")
        for _ in range(number):
            labels = [{"type": "point", "data": {"location": [0, 0, 0]}}] * 3
            append(world, case, revision([{"seriesUid": f"1.{number}", "labels": labels}] * 2))
        return case

    client = world.client("annotator")
    case = fill(1)
    client.get("/api/")  # The first use of a token is written down.
    with django_assert_max_num_queries(10) as first:
        assert client.get(address.format(case=case.case_id)).status_code == 200
    queries = len(first)
    for number in range(2, 7):
        case = fill(number)
    with django_assert_num_queries(queries):
        assert client.get(address.format(case=case.case_id)).status_code == 200


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


def test_other_projects_stay_other(world: World) -> None:
    world.series()
    world.case(project=OTHER_PROJECT)
    assert world.client("reader").get("/api/cases").json() == []
