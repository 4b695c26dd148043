"""Searching over HTTP: whose patients, keys and orders beyond the published ones, other lists, what explains it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases.models import Case, ProjectRole
from mylists.models import MyList, MyListItem
from tests.searching import get, ids, walk
from tests.world import OTHER_PROJECT, PATIENT, World, revision


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
