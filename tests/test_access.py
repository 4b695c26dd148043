"""Every address with every role. An address without a row here fails `test_every_address_has_a_row`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from cases.models import Case
from casestore.tasks.models import Task
from mylists.models import MyList
from tests.world import DOMAIN, OTHER_PROJECT, PATIENT, PROJECT, USERS, World

ROLES = [None, *USERS]

# address name -> (method, who may, what the others get). `None` is somebody without a token: always 401.
PUBLIC = {"health", "schema", "docs"}
EVERYBODY = set(USERS)
PROJECT_READERS = {"everything", "reader", "annotator", "viewer"}
PROJECT_WRITERS = {"everything", "annotator", "writer"}
DOMAIN_USERS = {"everything", "reader", "annotator", "viewer", "writer"}
TABLE: dict[tuple[str, str], tuple[set[str], int]] = {
    ("root", "get"): (EVERYBODY, 0),
    ("cases", "get"): (EVERYBODY, 0),
    ("cases", "post"): (PROJECT_WRITERS, 401),
    ("case-search", "post"): (EVERYBODY, 0),
    ("cases-of-list", "get"): ({"everything"}, 404),
    ("series-of-list", "get"): ({"everything"}, 404),
    ("case", "get"): (PROJECT_READERS, 401),
    ("revision", "post"): (PROJECT_WRITERS, 401),
    ("case-tags", "put"): (PROJECT_WRITERS, 401),
    ("tags", "patch"): (PROJECT_WRITERS, 401),
    ("deleted-cases", "get"): (EVERYBODY, 0),
    ("export-mhd", "post"): ({"everything", "annotator"}, 401),
    ("export", "post"): ({"everything", "annotator"}, 401),
    ("blob", "get"): (PROJECT_READERS, 404),
    ("blob", "put"): (EVERYBODY, 0),
    ("series", "get"): (EVERYBODY, 0),
    ("series-upload", "post"): (DOMAIN_USERS, 404),
    ("one-series", "get"): (DOMAIN_USERS, 404),
    ("projects", "get"): (EVERYBODY, 0),
    ("project", "get"): (PROJECT_READERS, 401),
    ("tasks", "get"): (EVERYBODY, 0),
    ("task", "get"): ({"everything"}, 401),
    ("task", "patch"): ({"everything"}, 401),
    ("task-download", "get"): ({"everything"}, 401),
    ("task-report", "get"): (EVERYBODY, 0),
    ("tokens", "get"): (EVERYBODY, 0),
    ("tokens", "post"): (EVERYBODY, 0),
    ("login-info", "get"): (EVERYBODY, 0),
    ("login-info-full", "get"): (EVERYBODY, 0),
    ("preferences", "get"): (EVERYBODY, 0),
    ("preferences", "patch"): (EVERYBODY, 0),
    ("mylists", "get"): (EVERYBODY, 0),
    ("mylists", "post"): (EVERYBODY, 0),
    ("mylist", "get"): ({"everything"}, 404),
    ("mylist", "patch"): ({"everything"}, 404),
    ("mylist-items", "patch"): ({"everything"}, 404),
}
# Tested by themselves below: they remove what the others need, or belong to one user alone.
APART = {("one-series", "delete"), ("token", "delete"), ("mylist", "delete")}
APART |= {("case", "delete"), ("restore", "post"), ("task", "delete")}


def api_addresses() -> Iterator[tuple[str, set[str]]]:
    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, URLPattern]]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, prefix + str(pattern.pattern))
            else:
                yield prefix + str(pattern.pattern), pattern

    for path, pattern in walk(get_resolver().url_patterns, ""):
        view = getattr(pattern.callback, "cls", None)
        if path.startswith("api/") and view is not None:
            methods = {m for m in ("get", "post", "put", "patch", "delete") if hasattr(view, m)}
            yield pattern.name or path, methods


def test_every_address_has_a_row() -> None:
    found = {(name, method) for name, methods in api_addresses() if name not in PUBLIC for method in methods}
    assert found == set(TABLE) | APART


@pytest.fixture
def stage(world: World) -> dict[str, Any]:
    import numpy as np

    world.series(**PATIENT)
    case = world.case()
    sha1 = world.blob(np.ones((1, 2, 3), bool))
    answer = world.client("everything").post(
        f"/api/cases/{case.case_id}/revision",
        {
            "description": "",
            "attributes": {},
            "status": "draft",
            "series": [
                {
                    "seriesUid": "1.2.3",
                    "labels": [{"type": "voxel", "data": {"voxels": sha1, "origin": [0, 0, 0], "size": [3, 2, 1]}}],
                }
            ],
        },
    )
    assert answer.status_code == 201, answer.content
    task = Task.objects.create(owner=world.user("everything"), name="t")
    my_list = MyList.objects.create(owner=world.user("everything"), name="l", resource_type="clinicalCases")
    series_list = MyList.objects.create(owner=world.user("everything"), name="s", resource_type="series")
    return {"case": case, "sha1": sha1, "task": task, "list": my_list, "series list": series_list}


def request_for(name: str, method: str, stage: dict[str, Any]) -> tuple[str, Any, dict[str, str]]:
    """Address, body and options of a request that is right in every other respect."""
    case: Case = stage["case"]
    addresses = {
        "root": "/api/",
        "case": f"/api/cases/{case.case_id}",
        "revision": f"/api/cases/{case.case_id}/revision",
        "case-tags": f"/api/cases/{case.case_id}/tags",
        "tags": "/api/cases/tags",
        "deleted-cases": "/api/cases/deleted",
        "export-mhd": "/api/cases/export-mhd",
        "export": "/api/cases/export",
        "blob": f"/api/blob/{stage['sha1']}",
        "series-upload": f"/api/series/domain/{DOMAIN}",
        "one-series": "/api/series/1.2.3",
        "project": f"/api/projects/{PROJECT}",
        "task": f"/api/tasks/{stage['task'].task_id}",
        "task-report": "/api/tasks/report",
        "task-download": f"/api/tasks/{stage['task'].task_id}/download",
        "login-info-full": "/api/login-info/full",
        "case-search": "/api/cases/search",
        "cases-of-list": f"/api/cases/list/{stage['list'].list_id}",
        "series-of-list": f"/api/series/list/{stage['series list'].list_id}",
        "mylist": f"/api/mylists/{stage['list'].list_id}",
        "mylist-items": f"/api/mylists/{stage['list'].list_id}/items",
    }
    series = [{"seriesUid": "1.2.3"}]
    bodies: dict[tuple[str, str], Any] = {
        ("cases", "post"): {"projectId": PROJECT, "series": series},
        ("revision", "post"): {"description": "", "attributes": {}, "status": "s", "series": series},
        ("case-search", "post"): {},
        ("case-tags", "put"): ["happy"],
        ("tags", "patch"): {"operation": "add", "tags": ["sad"], "caseIds": [case.case_id]},
        ("export-mhd", "post"): {"caseIds": [case.case_id]},
        ("export", "post"): {"caseIds": [case.case_id], "format": "dicom-seg"},
        ("task", "patch"): {"dismissed": True},
        ("tokens", "post"): {},
        ("preferences", "patch"): {"color": "dark"},
        ("mylists", "post"): {"name": "n", "resourceType": "series"},
        ("mylist", "patch"): {"name": "m"},
        ("mylist-items", "patch"): {"operation": "add", "resourceIds": [case.case_id]},
    }
    if (name, method) == ("blob", "put"):
        return addresses[name], b"\x00", {"content_type": "application/octet-stream"}
    if (name, method) == ("series-upload", "post"):
        from io import BytesIO

        return addresses[name], {"files": BytesIO(b"not DICOM")}, {"format": "multipart"}
    return addresses.get(name, f"/api/{name}"), bodies.get((name, method)), {}


@pytest.mark.parametrize(("name", "method"), sorted(TABLE))
def test_roles(world: World, stage: dict[str, Any], name: str, method: str) -> None:
    allowed, refusal = TABLE[name, method]
    for role in ROLES:
        address, body, options = request_for(name, method, stage)
        if (name, method) == ("blob", "put"):
            import hashlib

            address = f"/api/blob/{hashlib.sha1(body).hexdigest()}"
        for path in (address, address.rstrip("/") + "/"):
            answer = getattr(world.client(role), method)(path, body, **options)
            content = b"" if answer.streaming else answer.content
            where = f"{role} {method} {path}: {answer.status_code} {content[:200]!r}"
            if role is None:
                assert answer.status_code == 401, where
                assert answer.json()["code"] == "not_authenticated", where
            elif role in allowed:
                # A task that runs has nothing to download yet: the question of who may was passed.
                expected = {409} if name == "task-download" else {200, 201, 204}
                assert answer.status_code in expected, where
            else:
                assert answer.status_code == refusal, where
                assert answer.json()["code"] in {"insufficient_privilege", "not_found"}, where
            if role not in {"everything", "annotator"} and name not in {"one-series", "series"}:
                assert b"Secret" not in content, where
                assert b"P-4711" not in content, where


def test_patient_information_of_series_needs_the_global_privilege(world: World, stage: dict[str, Any]) -> None:
    for role in ("everything", "annotator", "viewer"):
        assert b"Secret" in world.client(role).get("/api/series/1.2.3").content
    for role in ("reader", "writer"):
        for address in ("/api/series", "/api/series/1.2.3"):
            answer = world.client(role).get(address)
            assert answer.status_code == 200
            assert b"Secret" not in answer.content
            assert b"P-4711" not in answer.content


def test_patient_information_of_cases(world: World, stage: dict[str, Any]) -> None:
    address = f"/api/cases/{stage['case'].case_id}"
    for role, seen in (("everything", True), ("annotator", True), ("viewer", False), ("reader", False)):
        single = world.client(role).get(address).json()
        (listed,) = world.client(role).get("/api/cases").json()
        assert ("patientInfo" in single, "patientInfo" in listed) == (seen, seen)
    assert world.client("annotator").get(address).json()["patientInfo"] == {
        "patientId": "P-4711",
        "patientName": "Secret^Patient",
        "birthDate": "1970-01-31",
        "age": 45,
        "sex": "F",
    }
    annotator = world.user("annotator")
    annotator.preferences = {"personalInfoView": False}
    annotator.save()
    assert "patientInfo" not in world.client("annotator").get(address).json()
    assert "patientInfo" not in world.client("annotator").get("/api/cases").json()[0]


def test_the_admin_neither_shows_nor_finds_patients(world: World, client: Any) -> None:
    series = world.series(**PATIENT)
    case = world.case()
    staff = world.user("nobody")
    staff.is_staff = staff.is_superuser = True
    staff.save()
    client.force_login(staff)
    for address, pk in (("/admin/cases/case/", case.pk), ("/admin/cases/series/", series.pk)):
        for page in (address, f"{address}{pk}/change/", f"{address}?q=Secret"):
            shown = client.get(page).content.decode()
            assert not [value for value in ("P-4711", "Secret^Patient", "1970-01-31") if value in shown], page
        for lookup in ("patient_name__startswith=S", "patient_age=45", "patient_id__isnull=0"):
            assert client.get(f"{address}?{lookup}").status_code == 400
    assert client.get("/admin/cases/series/?modality__exact=CT").status_code == 200


def test_lists_hold_only_what_one_may_see(world: World, stage: dict[str, Any]) -> None:
    world.series("9.9", domain="sirius.example")
    world.case("9.9", project=OTHER_PROJECT)
    expected = {
        "everything": (2, 2),
        "reader": (1, 1),
        "writer": (0, 1),
        "outsider": (1, 1),
        "nobody": (0, 0),
    }
    for role, (cases, series) in expected.items():
        listed = world.client(role).get("/api/cases")
        assert (len(listed.json()), listed["X-Total-Count"]) == (cases, str(cases))
        listed = world.client(role).get("/api/series")
        assert (len(listed.json()), listed["X-Total-Count"]) == (series, str(series))


@pytest.mark.parametrize("role", ["outsider", "nobody"])
def test_ids_of_others_in_bodies(world: World, stage: dict[str, Any], role: str) -> None:
    """A series that one may not see answers as one that does not exist."""
    client = world.client(role)
    project = OTHER_PROJECT if role == "outsider" else PROJECT
    answers = [
        client.post("/api/cases", {"projectId": project, "series": [{"seriesUid": uid}]}) for uid in ("1.2.3", "0.0")
    ]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json() == answers[1].json()


def test_blob_of_somebody_else_cannot_be_taken_into_a_case(world: World, stage: dict[str, Any]) -> None:
    """Who learns a hash must not read the voxels by naming it in a case of their own."""
    world.series("9.9", domain="sirius.example")
    case = world.case("9.9", project=OTHER_PROJECT, by="outsider")

    def answer(sha1: str) -> Any:
        label = {"type": "voxel", "data": {"voxels": sha1, "origin": [0, 0, 0], "size": [3, 2, 1]}}
        body = {"description": "", "attributes": {}, "status": "s"}
        series = [{"seriesUid": "9.9", "labels": [label]}]
        return world.client("outsider").post(f"/api/cases/{case.case_id}/revision", {**body, "series": series})

    known, unknown = answer(stage["sha1"]), answer("0" * 40)
    assert known.status_code == unknown.status_code == 400
    assert known.json() == unknown.json()


def test_series_are_deleted_by_server_managers_of_their_domain(world: World, stage: dict[str, Any]) -> None:
    world.series("7.7")
    for role, status in (("nobody", 404), ("outsider", 404), ("annotator", 401), (None, 401)):
        assert world.client(role).delete("/api/series/7.7").status_code == status
    assert world.client("everything").delete("/api/series/1.2.3").status_code == 400
    assert world.client("everything").delete("/api/series/7.7").status_code == 204
    assert world.client("everything").get("/api/series/7.7").status_code == 404


def test_tasks_are_cancelled_by_their_owner(world: World, stage: dict[str, Any]) -> None:
    address = f"/api/tasks/{stage['task'].task_id}"
    for role in (None, *sorted(EVERYBODY - {"everything"})):
        assert world.client(role).delete(address).status_code == 401
    for status in (204, 204, 404):
        assert world.client("everything").delete(address).status_code == status
    assert world.client("everything").delete("/api/tasks/unknown").status_code == 404


def test_tokens_are_deleted_by_their_owner(world: World) -> None:
    made = world.client("reader").post("/api/tokens", {"description": "x"}).json()
    for role in ("everything", "nobody"):
        assert world.client(role).delete(f"/api/tokens/{made['tokenId']}").status_code == 404
    assert world.client(None).delete(f"/api/tokens/{made['tokenId']}").status_code == 401
    assert world.client("reader").delete(f"/api/tokens/{made['tokenId']}").status_code == 204


def test_my_lists_are_deleted_by_their_owner(world: World, stage: dict[str, Any]) -> None:
    address = f"/api/mylists/{stage['list'].list_id}"
    for role in sorted(EVERYBODY - {"everything"}):
        assert world.client(role).delete(address).status_code == 404
    MyList.objects.update(public=True)
    for role in (None, *sorted(EVERYBODY - {"everything"})):
        assert world.client(role).delete(address).status_code == 401
    assert world.client("everything").delete(address).status_code == 204
    assert world.client("everything").delete(address).status_code == 404


def test_cases_are_deleted_and_restored_by_moderators(world: World, stage: dict[str, Any]) -> None:
    address = f"/api/cases/{stage['case'].case_id}"
    for role in (None, *sorted(EVERYBODY - {"everything"})):
        assert world.client(role).delete(address).status_code == 401
    assert world.client("everything").delete(address).status_code == 204
    for role in sorted(EVERYBODY - {"everything"}):
        assert world.client(role).post(f"{address}/restore").status_code == 404
        assert world.client(role).get("/api/cases/deleted").json() == []
    assert world.client(None).post(f"{address}/restore").status_code == 401
    assert world.client("everything").post(f"{address}/restore").status_code == 204
