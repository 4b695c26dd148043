"""Searching over HTTP: whose patients, pages, cursors, streams, and what hostile input gets."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import yaml
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases.models import Case, ProjectRole
from casestore import clock
from casestore.settings import CASESTORE_SEARCH_SECONDS
from mylists.models import MyList, MyListItem
from tests.world import OTHER_PROJECT, PATIENT, World, revision


def get(world: World, role: str, path: str = "/api/cases", **parameters: Any) -> Any:
    words = {k: v if isinstance(v, str) else json.dumps(v) for k, v in parameters.items()}
    return world.client(role).get(f"{path}?{urlencode(words)}")


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [case["caseId"] for case in answer.json()]


@pytest.fixture
def patients(world: World) -> dict[str, str]:
    """Two cases with patients, one in each project, and one without."""
    world.series("1.1", **PATIENT)
    world.series("2.2", domain="sirius.example", **(PATIENT | {"patient_name": "Other^Patient", "patient_age": 20.0}))
    world.series("3.3")
    return {
        "here": world.case("1.1", tags=["a"]).case_id,
        "there": world.case("2.2", project=OTHER_PROJECT).case_id,
        "unknown": world.case("3.3", tags=["b", "a"]).case_id,
    }


PATIENT_FILTERS: list[dict[str, Any]] = [
    {"patientInfo.patientName": "Secret^Patient"},
    {"patientInfo.patientName": {"$regex": "^Sec"}},
    {"patientInfo.age": {"$gte": 40}},
    {"patientInfo.sex": {"$ne": "M"}},
    {"patientInfo.patientId": {"$in": [None]}},
    {"patientInfo.patientId": {"$exists": True}},
    {"$nor": [{"patientInfo.age": {"$lt": 40}}]},
    {"patientInfo.age": {"$not": {"$gte": 40}}},
]


@pytest.mark.parametrize("filter_", PATIENT_FILTERS)
def test_without_the_global_privilege_patients_cannot_be_searched(
    world: World, patients: dict[str, str], filter_: dict[str, Any]
) -> None:
    for nested in (filter_, {"$or": [{"tags": "a"}, {"$and": [filter_]}]}):
        answer = get(world, "reader", filter=nested)
        assert answer.status_code == 400
        assert "personalInfoView" in answer.json()["error"]
    assert get(world, "reader", sort={"tags": 1, "patientInfo.age": 1}).status_code == 400
    assert get(world, "reader", path="/api/series", filter=filter_).status_code == 400


@pytest.mark.parametrize("filter_", PATIENT_FILTERS)
def test_hidden_patients_are_missing_for_filters_and_orders(
    world: World, patients: dict[str, str], filter_: dict[str, Any]
) -> None:
    """The viewer holds the global privilege, but not the project's: all cases answer as those without a patient."""
    seen = set(ids(get(world, "viewer", filter=filter_)))
    assert seen in (set(), {patients["here"], patients["unknown"]})
    for direction in (1, -1):
        by_age = ids(get(world, "viewer", sort={"patientInfo.age": direction}))
        by_nothing = ids(get(world, "viewer", sort={"caseId": direction}))
        assert by_age == by_nothing


def test_patients_of_one_project_only(world: World, patients: dict[str, str]) -> None:
    """Whoever sees patients in one of two projects finds them there, and in the other nothing."""
    everything = world.user("everything")
    ProjectRole.objects.filter(
        group__user=everything, project__project_id=OTHER_PROJECT, role="viewPersonalInfo"
    ).delete()

    def found(filter_: Any) -> set[str]:
        return {name for name, i in patients.items() if i in ids(get(world, "everything", filter=filter_))}

    assert found({"patientInfo.age": {"$gt": 0}}) == {"here"}
    assert found({"patientInfo.age": 20}) == set()
    assert found({"patientInfo.age": {"$ne": 20}}) == {"here", "there", "unknown"}
    assert found({"patientInfo.age": {"$in": [None]}}) == {"there", "unknown"}
    assert found({"patientInfo.age": {"$nin": [None]}}) == {"here"}
    assert found({"patientInfo.patientName": {"$not": {"$regex": "Patient"}}}) == {"there", "unknown"}
    assert found({"patientInfo.patientName": {"$exists": False}}) == {"there", "unknown"}
    order = ids(get(world, "everything", sort={"patientInfo.age": -1, "caseId": 1}))
    assert order[0] == patients["here"]
    assert order[1:] == sorted(order[1:])


def test_who_switched_patients_off_finds_none(world: World, patients: dict[str, str]) -> None:
    user = world.user("everything")
    user.preferences = {"personalInfoView": False}
    user.save()
    assert ids(get(world, "everything", filter={"patientInfo.age": {"$gt": 0}})) == []
    assert len(ids(get(world, "everything", filter={"patientInfo.age": {"$ne": 45}}))) == 3
    assert get(world, "everything", path="/api/series", filter={"patientInfo.age": 45}).json() == []
    assert len(get(world, "everything", path="/api/series", filter={"patientInfo.age": {"$ne": 45}}).json()) == 3


def labelled(world: World) -> dict[str, str]:
    """Cases whose labels and attributes differ."""

    def point(name: str | None = None, **attributes: Any) -> dict[str, Any]:
        label = {"type": "point", "data": {"location": [1, 1, 1]}, "attributes": attributes}
        return label if name is None else {"name": name, **label}

    world.series("1.1", modality="CT")
    world.series("1.2", modality="MR")
    made = {}
    contents: dict[str, Any] = {
        "nodule": ({"stage": 2, "n": {"deep": ["x", "y"]}}, "1.1", [point("nodule", size=5), point("cyst", size=20)]),
        "cyst": ({"stage": "2", "done": True}, "1.2", [point("cyst", size=5), point(size=1)]),
        "empty": ({"stage": None, "list": []}, "1.1", []),
    }
    for name, (attributes, uid, labels) in contents.items():
        case = world.case(uid)
        body = revision([{"seriesUid": uid, "labels": labels}], attributes=attributes, status=name, description=name)
        assert world.client("everything").post(f"/api/cases/{case.case_id}/revision", body).status_code == 201
        made[name] = case.case_id
    return made


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"latestRevision.status": "nodule"}, {"nodule"}),
        ({"latestRevision.description": {"$regex": "^C", "$options": "i"}}, {"cyst"}),
        ({"latestRevision.creator": "everything@example.com"}, {"nodule", "cyst", "empty"}),
        ({"latestRevision.date": {"$lt": {"$date": "2000-01-01"}}}, set()),
        ({"revisionCount": 2}, {"nodule", "cyst", "empty"}),
        ({"latestRevision.series.modality": "CT"}, {"nodule", "empty"}),
        ({"latestRevision.series.seriesUid": {"$ne": "1.1"}}, {"cyst"}),
        ({"latestRevision.labels.name": "cyst"}, {"nodule", "cyst"}),
        ({"latestRevision.labels.name": {"$ne": "nodule"}}, {"cyst", "empty"}),
        ({"latestRevision.labels.name": {"$all": ["cyst", "nodule"]}}, {"nodule"}),
        ({"latestRevision.labels.name": {"$in": [None]}}, {"cyst"}),
        ({"latestRevision.labels.type": "point"}, {"nodule", "cyst"}),
        ({"latestRevision.labels": {"$exists": False}}, {"empty"}),
        ({"latestRevision.labels": {"$elemMatch": {"name": "cyst", "attributes.size": {"$lt": 10}}}}, {"cyst"}),
        ({"latestRevision.labels.name": "cyst", "latestRevision.labels.attributes.size": 5}, {"nodule", "cyst"}),
        ({"latestRevision.labels": {"$not": {"$elemMatch": {"attributes.size": 20}}}}, {"cyst", "empty"}),
        ({"latestRevision.attributes.stage": 2}, {"nodule"}),
        ({"latestRevision.attributes.stage": "2"}, {"cyst"}),
        ({"latestRevision.attributes.stage": {"$gte": 1.5}}, {"nodule"}),
        ({"latestRevision.attributes.stage": {"$in": [None]}}, {"empty"}),
        ({"latestRevision.attributes.stage": {"$exists": True}}, {"nodule", "cyst", "empty"}),
        ({"latestRevision.attributes.done": True}, {"cyst"}),
        ({"latestRevision.attributes.done": {"$exists": False}}, {"nodule", "empty"}),
        ({"latestRevision.attributes.n.deep": "y"}, {"nodule"}),
        ({"latestRevision.attributes.n.deep": {"$all": ["x", "y"]}}, {"nodule"}),
        ({"latestRevision.attributes.n.deep": {"$in": [["x", "y"]]}}, {"nodule"}),
        ({"latestRevision.attributes.n.deep": {"$elemMatch": {"$gt": "x", "$lt": "z"}}}, {"nodule"}),
        ({"latestRevision.attributes.list": {"$in": [[]]}}, {"empty"}),
    ],
)
def test_beyond_the_published_keys(world: World, filter_: dict[str, Any], expected: set[str]) -> None:
    made = labelled(world)
    found = set(ids(get(world, "everything", filter=filter_)))
    assert {name for name, case_id in made.items() if case_id in found} == expected
    # The negation finds the others, always.
    others = set(ids(get(world, "everything", filter={"$nor": [filter_]})))
    assert others == set(made.values()) - found


def test_a_condition_on_several_labels_does_not_repeat_a_case(world: World) -> None:
    made = labelled(world)
    answer = get(world, "everything", filter={"latestRevision.labels.type": "point"})
    assert sorted(ids(answer)) == sorted([made["nodule"], made["cyst"]])
    assert answer["X-Total-Count"] == "2"


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ({"latestRevision.status": 1}, ["cyst", "empty", "nodule"]),
        ({"latestRevision.attributes.stage": 1}, ["empty", "nodule", "cyst"]),
        ({"latestRevision.attributes.stage": -1}, ["cyst", "nodule", "empty"]),
        ({"latestRevision.labels.name": -1}, ["nodule", "cyst", "empty"]),
        ({"latestRevision.labels.attributes.size": 1}, ["empty", "cyst", "nodule"]),
        ({"latestRevision.labels.attributes.size": -1}, ["nodule", "cyst", "empty"]),
        ({"latestRevision.series.modality": -1, "latestRevision.status": 1}, ["cyst", "empty", "nodule"]),
    ],
)
def test_orders_beyond_the_published_keys(world: World, sort: dict[str, int], expected: list[str]) -> None:
    made = labelled(world)
    in_order = [made[name] for name in expected]
    assert ids(get(world, "everything", sort=sort)) == in_order
    assert walk(world, "everything", sort=sort, limit=1) == in_order


def following(answer: Any) -> str | None:
    links = re.findall(r'<([^>]*)>; rel="(\w+)"', answer.get("Link", ""))
    return next((address for address, relation in links if relation == "next"), None)


def walk(world: World, role: str, path: str = "/api/cases", **parameters: Any) -> list[str]:
    """All ids behind a cursor, page by page."""
    answer = get(world, role, path, cursor="", **parameters)
    found = ids(answer)
    while (address := following(answer)) is not None:
        parts = urlsplit(address)
        answer = world.client(role).get(f"{parts.path}?{parts.query}")
        found += ids(answer)
    return found


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


def test_lists_are_searched(world: World, patients: dict[str, str]) -> None:
    everything, reader = world.user("everything"), world.user("reader")
    mine = MyList.objects.create(owner=everything, name="mine", resource_type="clinicalCases")
    for name in ("unknown", "there", "here"):
        MyListItem.objects.create(my_list=mine, case=Case.objects.get(case_id=patients[name]))
    address = f"/api/cases/list/{mine.list_id}"
    order = [patients[name] for name in ("here", "there", "unknown")]
    assert set(ids(get(world, "everything", address))) == set(order)
    MyListItem.objects.filter(case__case_id=patients["there"]).update(added_at="2000-01-01T00:00:00Z")
    assert ids(get(world, "everything", address))[-1] == patients["there"]
    assert ids(get(world, "everything", address, sort={"addedToListAt": 1}))[0] == patients["there"]
    assert ids(get(world, "everything", address, filter={"tags": "b"})) == [patients["unknown"]]
    assert ids(get(world, "everything", address, limit=1, page=3)) == [patients["there"]]
    assert walk(world, "everything", address, limit=1)[-1] == patients["there"]
    assert get(world, "everything", sort={"addedToListAt": 1}).status_code == 400
    assert get(world, "everything", address, filter={"addedToListAt": 1}).status_code == 400

    for role in ("reader", "outsider", "nobody"):
        assert get(world, role, address).status_code == 404
    assert get(world, "everything", "/api/cases/list/nothing").status_code == 404
    assert get(world, "everything", f"/api/series/list/{mine.list_id}").status_code == 400
    # Of a public list each sees what they may read.
    MyList.objects.update(public=True)
    assert set(ids(get(world, "reader", address))) == {patients["here"], patients["unknown"]}
    assert ids(get(world, "outsider", address)) == [patients["there"]]
    MyList.objects.update(public=False)
    mine.editors.create(user=reader)
    assert set(ids(get(world, "reader", address))) == {patients["here"], patients["unknown"]}

    series = MyList.objects.create(owner=everything, name="s", resource_type="series")
    from cases.models import Series

    MyListItem.objects.create(my_list=series, series=Series.objects.get(series_uid="2.2"))
    answer = get(world, "everything", f"/api/series/list/{series.list_id}")
    assert [row["seriesUid"] for row in answer.json()] == ["2.2"]
    assert get(world, "everything", f"/api/cases/list/{series.list_id}").status_code == 400


def test_series_and_tasks_are_searched(world: World, patients: dict[str, str]) -> None:
    found = get(world, "everything", "/api/series", filter={"patientInfo.age": {"$lt": 30}}, sort={"seriesUid": 1})
    assert [row["seriesUid"] for row in found.json()] == ["2.2"]
    assert get(world, "everything", "/api/series", filter={"tags": "a"}).status_code == 400
    from casestore.tasks.models import Task

    task = Task.objects.create(owner=world.user("everything"), name="t")
    for filter_, count in (({"taskId": task.task_id}, 1), ({"dismissed": True}, 0), ({"dismissed": {"$ne": True}}, 1)):
        assert len(get(world, "everything", "/api/tasks", filter=filter_).json()) == count
    assert get(world, "reader", "/api/tasks", filter={"taskId": task.task_id}).json() == []


DEEP = 10_000


def listed(format_: str, count: int) -> str:
    return ",".join(format_ % i for i in range(count))


HOSTILE: list[str] = [
    '{"$and":[' * DEEP + "{}" + "]}" * DEEP,
    '{"$and":[' * 101 + "{}" + "]}" * 101,
    '{"tags":{"$not":' * DEEP + "{}" + "}}" * DEEP,
    '{"tags":' + '{"$not":' * 101 + '"a"' + "}" * 102,
    "[" * DEEP,
    "[" * 1_000_000,
    '{"a":' * 300_000,
    '{"tags":{"$in":' + "[" * DEEP + "]" * DEEP + "}}",
    '{"latestRevision.attributes.a":{"$in":[' + '{"a":' * 101 + "1" + "}" * 101 + "]}}",
    '{"latestRevision.attributes.a":{"$in":[[' + "1," * 5000 + "1]]}}",
    '{"$or":[' + listed('{"tags":{"$regex":"a|b%d"}}', 2000) + "]}",
    '{"$or":[' + listed('{"tags":"%d"}', 2000) + "]}",
    '{"$and":[' + listed('{"revisionCount":{"$gt":%d}}', 10_000) + "]}",
    '{"$and":[' + listed('{"latestRevision.labels.name":"%d"}', 60) + "]}",
    "{" + listed('"latestRevision.attributes.a%d":1', 3000) + "}",
    '{"$and":[' + ",".join(["{}"] * 100_000) + "]}",
    '{"tags":{"$in":[' + listed('"%d"', 30_000) + "]}}",
    '{"tags":{"$in":[' + listed('["%d"]', 5000) + "]}}",
    '{"tags":{"$all":[' + listed('"%d"', 5000) + "]}}",
    '{"tags":{"$in":[' + ",".join(['"x"'] * 200_000) + "]}}",
    '{"tags":"' + "x" * 1_000_000 + '"}',
    '{"tags":"' + "x" * 2_000_000 + '"',
    '{"tags":{"$regex":"' + "x" * 30_000 + '"}}',
    '{"tags":{"$in":[' + listed('{"$regex":"' + "x" * 2000 + '%d"}', 10) + "]}}",
    '{"tags":{"$regex":"' + "(" * 5000 + '"}}',
    '{"tags":{"$regex":"' + "(" * DEEP + ")" * DEEP + '"}}',
    '{"tags":{"$regex":"' + "(a{1,250}){1,250}" + '"}}',
    '{"tags":{"$regex":"' + "((a{1,30}){1,30}){1,30}" + '"}}',
    '{"tags":{"$regex":"' + "a?" * 1000 + "a" * 1000 + '"}}',
    '{"tags":{"$regex":"a\\u0000b"}}',
    '{"tags":{"$regex":"\\ud800"}}',
    '{"tags":{"$regex":["a"]}}',
    '{"tags":{"$regex":"a","$options":["i"]}}',
    '{"patientInfo.age":' + "9" * 1_000_000 + "x}",
    '{"patientInfo.age":{"$numberLong":"' + "9" * 100_000 + '"}}',
    '{"createdAt":{"$date":' + "9" * 1000 + "}}",
    '{"createdAt":{"$date":1e400}}',
    '{"createdAt":{"$date":["2022-01-01"]}}',
    '{"patientInfo.age":NaN}',
    '{"patientInfo.age":-Infinity}',
    '{"tags":["a"]}',
    '{"tags":{"$gt":["a"]}}',
    '{"caseId":{"a":1}}',
    '{"caseId":null}',
    '{"$where":"1"}',
    '{"caseId":{"$where":"1"}}',
    '{"createdAt":{"$gt":{"$date":"yesterday"}}}',
    '{"latestRevision.attributes.":1}',
    '{"latestRevision.attributes.' + "x" * 1_000 + '":1}',
    '{"latestRevision.attributes' + ".x" * 50 + '":1}',
    '{"latestRevision.attributes.a\\u0000b":1}',
    '{"latestRevision.attributes.$x":1}',
    '{"' + "x" * 100_000 + '":1}',
    '{"tags":"\\ud800"}',
    '{"tags":{"$in":[["\\ud800"]]}}',
    '{"\\ud800":1}',
    "\x00",
    "{",
    "5",
    '"x"',
    "[]",
    "{}{}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:30]))
def test_hostile_filters_are_refused(
    world: World, text: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    world.series(**PATIENT)
    world.case()
    client = world.client("everything")
    secret = ',"patientInfo.patientName":"Secret^Patient"}'
    text = text.removesuffix("}") + secret if text.endswith("}") else text
    refused = [
        client.post("/api/cases/search", {"filter": text}),
        client.post("/api/cases/search", b'{"filter":' + text.encode() + b"}", content_type="application/json"),
    ]
    if len(text) < 20_000:
        refused.append(client.get("/api/cases?filter=" + quote(text)))
    for answer in refused:
        assert answer.status_code == 400, answer.content
        assert len(answer.json()["error"]) < 1000
        assert "Secret" not in answer.content.decode()
    said = caplog.text + "".join(capfd.readouterr())
    assert "Secret" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":' * 5000,
        '{"caseId":1,"caseId":1',
        "[" * 100_000,
        '{"caseId":' + "9" * 100_000 + "}",
        '{"caseId":true}',
        '{"caseId":"1"}',
        '{"caseId":[1]}',
        '{"caseId":{"$numberInt":"1"}}',
        '{"caseId":NaN}',
        '{"\\u0000":1}',
        "{" + listed('"caseId%d":1', 6) + "}",
        "[]",
        "1",
    ],
    ids=lambda text: text[:30],
)
def test_hostile_orders_are_refused(world: World, text: str) -> None:
    client = world.client("everything")
    for answer in (
        client.get("/api/cases?sort=" + quote(text[:20_000])),
        client.post("/api/cases/search", {"sort": text}),
        client.post("/api/cases/search", b'{"sort":' + text.encode() + b"}", content_type="application/json"),
    ):
        assert answer.status_code == 400, answer.content


def test_bodies_say_what_addresses_say(world: World) -> None:
    """Numbers beyond a double, NUL and duplicate keys are no errors in the one and none in the other."""
    world.series(**PATIENT)
    case = world.case(tags=["a"])
    client = world.client("everything")
    for text, count in (
        ('{"patientInfo.age":{"$lte":1e400}}', 1),
        ('{"patientInfo.age":{"$lt":' + "9" * 400 + "}}", 1),
        ('{"patientInfo.age":123456789012345678901234567890}', 0),
        ('{"tags":"a\\u0000"}', 0),
        ('{"tags":"b","tags":"a"}', 1),
        ('{"$nor":[' * 98 + '{"tags":"b"}' + "]}" * 98, 0),
        ('{"tags":"' + "[" * 1000 + '"}', 0),
        ('{"$and":[{}]}', 1),
        ("{}", 1),
    ):
        expected = [case.case_id] * count
        assert ids(client.get("/api/cases?filter=" + quote(text))) == expected, text[:50]
        assert ids(client.post("/api/cases/search", {"filter": text})) == expected, text[:50]
        raw = b'{"filter":' + text.encode() + b"}"
        assert ids(client.post("/api/cases/search", raw, content_type="application/json")) == expected, text[:50]
    for wrong in (b"\xff", b'{"filter":{}}x', b"{'filter':{}}", b'{"limit":NaN}', b" " * 3_000_000):
        assert client.post("/api/cases/search", wrong, content_type="application/json").status_code == 400


@pytest.mark.parametrize(
    "filter_",
    [
        {"tags": "\0"},
        {"tags": {"$in": ["\0", "a\0b"]}},
        {"caseId": {"$gt": "\0"}},
        {"patientInfo.age": 1e308},
        {"patientInfo.age": {"$numberDouble": "NaN"}},
        {"patientInfo.age": {"$gt": {"$numberDouble": "Infinity"}}},
        {"createdAt": {"$date": {"$numberLong": "9223372036854775807"}}},
        {"createdAt": {"$lt": {"$date": -9e15}}},
        {"latestRevision.attributes.a": {"$in": ["\0", {"\0": 1}, [1, "\0"]]}},
        {"tags": {"$in": [["\0"], [1], [None], {}]}},
        {"latestRevision.attributes.a": {"$lt": {"$numberDouble": "-Infinity"}}},
    ],
    ids=repr,
)
def test_strange_values_match_nothing(world: World, filter_: dict[str, Any]) -> None:
    world.series(**PATIENT)
    world.case(tags=["a"])
    assert ids(get(world, "everything", filter=filter_)) == []


@pytest.mark.django_db(transaction=True)
def test_a_search_that_takes_too_long_is_refused_with_advice(world: World, settings: Any) -> None:
    assert CASESTORE_SEARCH_SECONDS == 10
    world.series(**PATIENT)
    for _ in range(3):
        world.case(tags=["a" * 32])
    settings.CASESTORE_SEARCH_SECONDS = "0.001"
    slow = {"$or": [{"tags": {"$regex": f"(a|aa)+(b|bb)*{i}$"}} for i in range(300)]}
    answer = world.client("everything").post("/api/cases/search", {"filter": slow})
    assert answer.status_code == 400
    assert "longer than" in answer.json()["error"]
    # And nothing of it stays behind.
    settings.CASESTORE_SEARCH_SECONDS = 10
    assert len(ids(get(world, "everything"))) == 3


@pytest.mark.django_db(transaction=True)
def test_a_regular_expression_that_tries_everything_is_stopped(world: World, settings: Any) -> None:
    world.series(**(PATIENT | {"patient_name": "a" * 63}))
    world.case()
    settings.CASESTORE_SEARCH_SECONDS = "0.2"
    groups = range(1, 8)
    tries = "^" + "(a+)" * len(groups) + "".join(f"\\{number}" for number in groups) + "$"
    answer = get(world, "everything", filter={"patientInfo.patientName": {"$regex": tries}})
    assert answer.status_code == 400
    assert "longer than" in answer.json()["error"]


def test_the_servers_own_log_does_not_repeat_statements(world: World) -> None:
    with connection.cursor() as cursor:
        for name, value in (("log_min_error_statement", "panic"), ("log_error_verbosity", "terse")):
            cursor.execute("SELECT current_setting(%s)", [name])
            assert cursor.fetchone() == (value,)


def test_prefixes_are_ranges_of_the_index(world: World) -> None:
    world.series(**PATIENT)
    project = world.case().project
    # So many that the planner has a reason to look for an index.
    Case.objects.bulk_create(Case(project=project, patient_name=f"Name^{number}") for number in range(3000))
    parameters = {
        "filter": {"patientInfo.patientName": {"$regex": "^Secret\\^"}},
        "sort": {"patientInfo.patientName": 1},
    }
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cases_case")
        with CaptureQueriesContext(connection) as queries:
            assert len(ids(get(world, "everything", **parameters))) == 1
        (statement,) = (sql for query in queries if "ORDER BY" in (sql := query["sql"]) and "Secret" in sql)
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "case_patient_name" in plan
    assert re.search(r"Index Cond: .*>= 'Secret\^'.*< 'Secret_'", plan), plan


@pytest.mark.parametrize("prefix", ["\ud7ff", "a\U0010ffff", "\U0010ffff", "%_", "\\\\"])
def test_prefixes_end_where_nothing_follows(world: World, prefix: str) -> None:
    world.series()
    text = prefix.replace("\\\\", "\\")
    inside = world.case(tags=[f"{text}\U0010ffff"])
    for other in ("\ue000", "b", "a", "x", "\U0010fffe", "]"):
        world.case(tags=[other])
    assert ids(get(world, "everything", filter={"tags": {"$regex": f"^{prefix}"}})) == [inside.case_id]


def test_errors_do_not_repeat_values(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for filter_ in (
        '{"patientInfo.patientName":{"$regex":"(Secret"}}',
        '{"patientInfo.patientName":{"$gt":["Secret"]}}',
        '{"patientInfo.patientName":{"$gt":{"$date":"Secret"}}}',
        '{"patientInfo.patientName":"Secret',
    ):
        answer = world.client("everything").get("/api/cases?filter=" + quote(filter_))
        assert answer.status_code == 400
        assert "Secret" not in answer.content.decode()
    assert "Secret" not in caplog.text


def test_the_description_explains_the_filter(world: World) -> None:
    described = yaml.safe_load(world.client("reader").get("/api/schema").content)
    (parameter,) = [p for p in described["paths"]["/api/cases"]["get"]["parameters"] if p["name"] == "filter"]
    assert parameter["schema"]["contentSchema"] == {"$ref": "#/components/schemas/Filter"}
    assert "latestRevision.labels.attributes.<key> (any)" in parameter["description"]
    schemas = described["components"]["schemas"]
    assert schemas["CaseQueryRequest"]["properties"]["filter"] == {"$ref": "#/components/schemas/Filter"}
    world.series(**PATIENT)
    world.case()
    for example in schemas["Filter"]["examples"]:
        ids(get(world, "everything", filter=example))
    for example in schemas["Sort"]["examples"]:
        ids(get(world, "everything", sort=example))


def test_the_browsable_pages_explain_the_filter(world: World) -> None:
    client = world.client("everything")
    page = client.get("/api/cases", headers={"Accept": "text/html"}).content.decode()
    for words in ("MongoDB-style filter", "latestRevision.labels", "projectId (string)"):
        assert words in page
