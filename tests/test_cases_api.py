"""Cases and revisions through the API."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cases.models import Case, RevisionSeries, SeriesFile, SeriesImage
from tests.test_revisions_api import append
from tests.world import OTHER_PROJECT, PATIENT, PROJECT, World, revision

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


def test_a_case_stays_in_its_domain(world: World) -> None:
    world.series()
    world.series("9.9", domain="sirius.example")
    case = world.case()
    assert append(world, case, revision([{"seriesUid": "9.9"}])).status_code == 400


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


def test_other_projects_stay_other(world: World) -> None:
    world.series()
    world.case(project=OTHER_PROJECT)
    assert world.client("reader").get("/api/cases").json() == []
