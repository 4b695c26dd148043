"""The pages, cursors and streams of searches over HTTP."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases.models import Case
from casestore import clock
from tests.searching import following, get, ids, walk
from tests.world import PATIENT, World


@pytest.fixture
def many(world: World) -> list[str]:
    """Cases with all kinds of ties and gaps."""
    for i in range(5):
        age = None if i == 4 else float(i // 2)
        world.series(f"1.{i}", patient_age=age, patient_name=None if i == 3 else "N" * 9 * (i % 3), patient_id="x")
    return [world.case(f"1.{i % 5}", tags=[["b", "a"], [], ["c"]][i % 3]).case_id for i in range(23)]


@pytest.mark.parametrize(
    "sort",
    [
        {},
        {"createdAt": 1},
        {"updatedAt": -1},
        {"caseId": -1},
        {"tags": 1},
        {"tags": -1, "patientInfo.age": 1},
        {"patientInfo.age": -1},
        {"patientInfo.patientName": 1, "patientInfo.age": -1, "createdAt": 1},
        {"projectId": 1, "revisionCount": -1, "latestRevision.date": 1},
    ],
)
def test_every_walk_finds_each_case_once_in_one_order(world: World, many: list[str], sort: dict[str, int]) -> None:
    whole = ids(get(world, "everything", sort=sort, limit=200))
    assert sorted(whole) == sorted(many)
    pages: list[str] = []
    for page in range(1, 5):
        pages += ids(get(world, "everything", sort=sort, limit=7, page=page))
    assert pages == whole
    assert walk(world, "everything", sort=sort, limit=7) == whole
    stream = world.client("everything").get(
        "/api/cases?" + urlencode({"sort": json.dumps(sort)}), headers={"Accept": "application/x-ndjson"}
    )
    assert stream["Content-Type"] == "application/x-ndjson"
    lines = b"".join(stream.streaming_content).splitlines()
    assert [json.loads(line)["caseId"] for line in lines] == whole


def test_a_walk_is_steady_while_others_write(world: World, many: list[str]) -> None:
    answer = get(world, "everything", cursor="", limit=10)
    found = ids(answer)
    newer = [world.case("1.0").case_id for _ in range(3)]
    Case.objects.filter(case_id=found[0]).update(deleted_at=clock.now())
    while (address := following(answer)) is not None:
        parts = urlsplit(address)
        answer = world.client("everything").get(f"{parts.path}?{parts.query}")
        found += ids(answer)
    assert sorted(found) == sorted(many)
    assert not set(newer) & set(found)


def test_a_stream_in_several_batches(world: World, many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("casestore.search.views.BATCH", 5)
    stream = world.client("everything").get("/api/cases", headers={"Accept": "application/x-ndjson"})
    lines = b"".join(stream.streaming_content).splitlines()
    assert [json.loads(line)["caseId"] for line in lines] == ids(get(world, "everything", limit=200))
    for role, count in (("nobody", 0), ("reader", len(many))):
        stream = world.client(role).get("/api/cases", headers={"Accept": "application/x-ndjson"})
        lines = b"".join(stream.streaming_content).splitlines()
        assert len(lines) == count
        assert not any(b"patientInfo" in line for line in lines)


def test_cursors_hold_nothing_readable_and_serve_one_search(world: World, many: list[str]) -> None:
    answer = get(world, "everything", cursor="", limit=2, sort={"patientInfo.patientName": -1})
    address = following(answer)
    assert address is not None
    cursor = parse_qs(urlsplit(address).query)["cursor"][0]
    # What it would hold if it were only packed, at any alignment of base64.
    hidden = [name for i in range(3) for name in (base64.b64encode(b"x" * i + b"N" * 9).decode()[4:12], "N" * 9)]
    readable = cursor + base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("latin-1")
    assert not any(name in readable for name in hidden)
    for changed in (
        {"sort": {"patientInfo.patientName": 1}},
        {"filter": {"tags": "a"}},
        {"sort": {"patientInfo.patientName": -1}, "cursor": cursor[:-3]},
        {"cursor": "x" * 200},
    ):
        answer = get(world, "everything", limit=2, **({"cursor": cursor} | changed))
        assert answer.status_code == 400, answer.content
    # A cursor that somebody else was given.
    answer = get(world, "outsider", limit=2, sort={"patientInfo.patientName": -1}, cursor=cursor)
    assert answer.status_code == 400
    assert get(world, "everything", cursor="", page=2).status_code == 400


def test_sparse_results(world: World, many: list[str]) -> None:
    answer = get(world, "everything", fields="caseId,tags", limit=3)
    assert all(list(case) == ["caseId", "tags"] for case in answer.json())
    answer = get(world, "everything", path="/api/series", fields="seriesUid")
    assert all(list(series) == ["seriesUid"] for series in answer.json())
    assert get(world, "everything", fields="caseId,nothing").status_code == 400
    # Nobody sees more by asking for it.
    assert all("patientInfo" not in case for case in get(world, "viewer", fields="patientInfo,caseId").json())


def test_envelope(world: World, many: list[str], settings: Any) -> None:
    body = get(world, "everything", envelope="1", limit=2, page=3).json()
    assert (len(body["items"]), body["totalItems"], body["page"]) == (2, len(many), 3)
    assert get(world, "everything", envelope="2").status_code == 400
    settings.CASESTORE_ENVELOPE = True
    assert get(world, "everything").json()["totalItems"] == len(many)
    assert isinstance(get(world, "everything", envelope="0").json(), list)
    assert get(world, "everything", path="/api/tasks").json() == {"items": [], "totalItems": 0, "page": 1}


@pytest.mark.parametrize(
    ("length", "relations"),
    [(9_000, ["first", "prev", "next", "last"]), (25_000, ["prev", "next"]), (40_000, ["next"]), (61_000, [])],
)
def test_links_fit_into_a_header(world: World, many: list[str], length: int, relations: list[str]) -> None:
    """Each repeats the filter, and clients read no lines of a header of more than 64 kB."""
    wanted = {"filter": {"tags": {"$in": ["a", "x" * length]}}, "limit": 1}
    answer = get(world, "everything", **wanted, page=2)
    assert re.findall(r'rel="(\w+)"', answer.get("Link", "")) == relations
    assert len(answer.get("Link", "")) <= 60_000
    # A cursor is nowhere but in the link.
    walked = get(world, "everything", **wanted, cursor="")
    assert walked.status_code == (200 if relations else 400)


def test_search_in_a_body(world: World, many: list[str]) -> None:
    client = world.client("everything")
    filter_ = {"tags": {"$in": ["a", *(f"filler {i}" for i in range(5000))]}}
    body = {"filter": filter_, "sort": {"createdAt": 1}, "limit": 3, "page": 2}
    answer = client.post("/api/cases/search", body)
    expected = ids(get(world, "everything", filter={"tags": "a"}, sort={"createdAt": 1}, limit=3, page=2))
    assert ids(answer) == expected
    # What Link says leads to other pages of the same body.
    address = urlsplit(following(answer) or "")
    answer = client.post(f"{address.path}?{address.query}", body)
    assert ids(answer) == ids(get(world, "everything", filter={"tags": "a"}, sort={"createdAt": 1}, limit=3, page=3))
    assert ids(client.post("/api/cases/search", {})) == ids(get(world, "everything"))
    assert ids(client.post("/api/cases/search", {"filter": '{"tags":"a"}', "fields": ["caseId"]}))
    for wrong in (
        [],
        {"filters": {}},
        {"filter": []},
        {"limit": "x"},
        {"limit": True},
        {"limit": 2.5},
        {"sort": []},
        {"fields": [1]},
        {"cursor": 5},
    ):
        assert client.post("/api/cases/search", wrong).status_code == 400, wrong


@pytest.mark.parametrize("count", [1, 100])
def test_a_list_takes_at_most_six_queries(world: World, count: int) -> None:
    world.series(**PATIENT)
    for _ in range(count):
        world.case()
    for parameters in ({}, {"filter": {"patientInfo.age": {"$gt": 1}, "tags": {"$ne": "x"}}, "page": 1}):
        client = world.client("everything")
        address = "/api/cases?" + urlencode({k: json.dumps(v) for k, v in parameters.items()})
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert ids(client.get(address))
        assert len(queries) == 6, [q["sql"][:100] for q in queries]
