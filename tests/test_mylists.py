"""My lists through the API: whose they are, who may change them, what is in them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cases.models import Case, Series
from casestore import clock
from casestore.accounts.models import Domain, User
from mylists.models import MAX_ITEMS, MyList, MyListItem
from tests.world import OTHER_DOMAIN, OTHER_PROJECT, World

DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def make(world: World, by: str = "reader", **fields: Any) -> str:
    body = {"name": "favourites", "resourceType": "clinicalCases", **fields}
    answer = world.client(by).post("/api/mylists", body)
    assert answer.status_code == 201, answer.content
    list_id: str = answer.json()["myListId"]
    return list_id


def change(world: World, list_id: str, operation: str, ids: Any, by: str = "reader") -> Any:
    body = {"operation": operation, "resourceIds": ids}
    return world.client(by).patch(f"/api/mylists/{list_id}/items", body)


def share(world: World, list_id: str, *editors: dict[str, Any]) -> None:
    answer = world.client("reader").patch(f"/api/mylists/{list_id}", {"editors": editors})
    assert answer.status_code == 204, answer.content


def get(world: World, list_id: str, by: str = "reader") -> dict[str, Any]:
    answer = world.client(by).get(f"/api/mylists/{list_id}")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def the_user(name: str) -> dict[str, Any]:
    return {"type": "user", "userEmail": f"{name}@example.com"}


def the_group(name: str) -> dict[str, Any]:
    return {"type": "group", "groupId": Group.objects.get(name=name).pk}


def many_series(number: int) -> list[str]:
    domain = Domain.objects.get(name="vega.example")
    rows = [Series(series_uid=f"2.{n}", domain=domain, width=1, height=1, images="1") for n in range(number)]
    return [row.series_uid for row in Series.objects.bulk_create(rows)]


def test_make_read_change_delete(world: World) -> None:
    list_id = make(world, resourceType="series", name="nodules", public=True)
    assert re.fullmatch("[0-9a-z]{26}", list_id)
    row = get(world, list_id)
    assert row == {
        "myListId": list_id,
        "name": "nodules",
        "resourceType": "series",
        "public": True,
        "editors": [],
        "userEmail": "reader@example.com",
        "itemsCount": 0,
        "createdAt": row["createdAt"],
        "updatedAt": row["createdAt"],
        "resourceIds": [],
    }
    assert re.fullmatch(DATE, row["createdAt"])
    client = world.client("reader")
    assert client.patch(f"/api/mylists/{list_id}", {"name": "é" * 64, "public": False}).status_code == 204
    assert {**row, "name": "é" * 64, "public": False} == {**get(world, list_id), "updatedAt": row["updatedAt"]}
    assert client.delete(f"/api/mylists/{list_id}").status_code == 204
    for answer in (client.get(f"/api/mylists/{list_id}"), change(world, list_id, "add", ["1.2.3"])):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert make(world)
    assert not MyList.objects.get().public


def test_own_lists_newest_first_in_pages(world: World) -> None:
    made = [make(world, name=str(number)) for number in range(5)]
    make(world, by="annotator", public=True)
    client = world.client("reader")
    listed = client.get("/api/mylists")
    assert [row["myListId"] for row in listed.json()] == made[::-1]
    assert "resourceIds" not in listed.json()[0]
    assert {**listed.json()[0], "resourceIds": []} == get(world, made[-1])
    assert listed["X-Total-Count"] == "5"
    page = client.get("/api/mylists", {"limit": 2, "page": 2})
    assert [row["myListId"] for row in page.json()] == [made[2], made[1]]
    assert 'page=3>; rel="next"' in page["Link"]
    for wrong in ({"limit": 0}, {"page": "x"}, {"scope": "everybody"}, {"scope": "OWN"}):
        assert client.get("/api/mylists", wrong).status_code == 400, wrong


def test_lists_are_an_array_whatever_the_envelope(world: World, settings: Any) -> None:
    make(world)
    settings.CASESTORE_ENVELOPE = True
    listed = world.client("reader").get("/api/mylists", {"envelope": "1"})
    assert len(listed.json()) == 1
    assert listed["X-Total-Count"] == "1"


def test_a_list_is_made_once(world: World) -> None:
    body = {"name": "n", "resourceType": "series"}
    client = world.client("reader")
    first, again = (client.post("/api/mylists", body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first["Location"] == again["Location"] == f"http://testserver/api/mylists/{first.json()['myListId']}"
    assert MyList.objects.count() == 1
    other = client.post("/api/mylists", {**body, "name": "m"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


def test_scopes(world: World) -> None:
    own = make(world, name="own", public=True)
    names = {"own": {"own"}, "shared": set(), "public": set(), "all": {"own"}}

    def found() -> dict[str, set[str]]:
        client = world.client("reader")
        answers = {scope: client.get("/api/mylists", {"scope": scope}) for scope in names}
        for answer in answers.values():
            assert answer["X-Total-Count"] == str(len(answer.json()))
        return {scope: {row["name"] for row in answer.json()} for scope, answer in answers.items()}

    make(world, by="annotator", name="private")
    assert found() == names
    make(world, by="annotator", name="public", public=True)
    # Both ways at once, and public besides: each list is there once.
    shared = make(world, by="annotator", name="shared", public=True)
    editors = [the_user("reader"), the_group("reader")]
    assert world.client("annotator").patch(f"/api/mylists/{shared}", {"editors": editors}).status_code == 204
    share(world, own, the_user("reader"))
    assert found() == {
        "own": {"own"},
        "shared": {"shared"},
        "public": {"public", "shared"},
        "all": {"own", "public", "shared"},
    }


@pytest.mark.parametrize("how", ["private", "public", "user", "group"])
def test_who_may_do_what(world: World, how: str) -> None:
    world.series()
    case_id = world.case().case_id
    list_id = make(world, public=how == "public")
    share(world, list_id, *{"user": [the_user("annotator")], "group": [the_group("annotator")]}.get(how, []))
    client, address = world.client("annotator"), f"/api/mylists/{list_id}"
    answers = {
        "get": client.get(address),
        "items": change(world, list_id, "add", [case_id], by="annotator"),
        "patch": client.patch(address, {"name": "mine"}),
        "delete": client.delete(address),
        # Who may not change it is told so, whatever the body is.
        "wrong": client.patch(address, {"colour": 1}),
        "wrong items": client.patch(f"{address}/items", {"operation": "shake"}),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "get": 404 if how == "private" else 200,
        "items": {"private": 404, "public": 401}.get(how, 200),
        "patch": 404 if how == "private" else 401,
        "delete": 404 if how == "private" else 401,
        "wrong": 404 if how == "private" else 401,
        "wrong items": {"private": 404, "public": 401}.get(how, 400),
    }
    for answer in answers.values():
        if answer.status_code == 401:
            assert answer.json()["code"] == "insufficient_privilege"
    assert get(world, list_id)["resourceIds"] == ([case_id] if how in {"user", "group"} else [])
    share(world, list_id)
    assert change(world, list_id, "remove", [case_id], by="annotator").status_code in {401, 404}


def test_editors_are_read_as_they_are_written(world: World) -> None:
    list_id = make(world)
    editors = [the_group("writer"), the_user("nobody"), the_user("annotator")]
    share(world, list_id, *editors, {"type": "user", "userEmail": "NOBODY@example.com"}, the_group("writer"))
    assert get(world, list_id)["editors"] == editors
    moved = get(world, list_id)["updatedAt"]
    share(world, list_id, *get(world, list_id)["editors"])
    assert get(world, list_id)["updatedAt"] == moved
    share(world, list_id, the_user("viewer"), the_user("nobody"))
    # Those who stay keep their place.
    assert get(world, list_id)["editors"] == [the_user("nobody"), the_user("viewer")]
    User.objects.filter(login_id="nobody").delete()
    assert get(world, list_id)["editors"] == [the_user("viewer")]
    share(world, list_id)
    assert get(world, list_id)["editors"] == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "resourceType"),
        ({"resourceType": "cases"}, "resourceType"),
        ({"resourceType": None}, "resourceType"),
        ({"resourceType": ["series"]}, "resourceType"),
        ({"resourceType": "series", "name": ""}, "name"),
        ({"resourceType": "series", "name": "x" * 65}, "name"),
        ({"resourceType": "series", "name": 5}, "name"),
        ({"resourceType": "series", "name": None}, "name"),
        ({"resourceType": "series", "public": "yes"}, "public"),
        ({"resourceType": "series", "editors": []}, "editors"),
    ],
)
def test_wrong_lists(world: World, body: dict[str, Any], path: str) -> None:
    answer = world.client("reader").post("/api/mylists", {"name": "n"} | body)
    assert answer.status_code == 400
    assert path in [problem["path"] for problem in answer.json()["validationErrors"]]
    assert not MyList.objects.exists()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ""),
        ([], ""),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"public": None}, "public"),
        ({"resourceType": "series"}, "resourceType"),
        ({"name": "new", "editors": {}}, "editors"),
        ({"name": "new", "editors": ["reader@example.com"]}, "editors[0]"),
        ({"name": "new", "editors": [{}]}, "editors[0].type"),
        ({"name": "new", "editors": [{"type": "robot"}]}, "editors[0].type"),
        ({"name": "new", "editors": [{"type": ["user"]}]}, "editors[0].type"),
        ({"name": "new", "editors": [{"type": "user"}]}, "editors[0].userEmail"),
        ({"name": "new", "editors": [{"type": "user", "userEmail": 1}]}, "editors[0].userEmail"),
        ({"name": "new", "editors": [the_user("annotator"), the_user("stranger")]}, "editors[1].userEmail"),
        ({"name": "new", "editors": [{**the_user("annotator"), "groupId": 1}]}, "editors[0].groupId"),
        ({"name": "new", "editors": [{"type": "group", "userEmail": "x"}]}, "editors[0].userEmail"),
        ({"name": "new", "editors": [{"type": "group", "groupId": "1"}]}, "editors[0].groupId"),
        ({"name": "new", "editors": [{"type": "group", "groupId": 0}]}, "editors[0].groupId"),
        ({"name": "new", "editors": [{"type": "group", "groupId": 2**31 - 1}]}, "editors[0].groupId"),
        ({"name": "new", "editors": [{"type": "group", "groupId": 2**60}]}, "editors[0].groupId"),
        ({"name": "new", "editors": [the_user("annotator")] * 101}, "editors"),
    ],
)
def test_wrong_changes_change_nothing(world: World, body: Any, path: str) -> None:
    list_id = make(world, name="old")
    before = get(world, list_id)
    answer = world.client("reader").patch(f"/api/mylists/{list_id}", body)
    assert answer.status_code == 400, answer.content
    assert path in [problem["path"] for problem in answer.json()["validationErrors"]]
    assert get(world, list_id) == before


def test_items_come_and_go(world: World) -> None:
    world.series()
    a, b, c, d = (world.case().case_id for _ in range(4))
    list_id = make(world)
    updated = [get(world, list_id)["updatedAt"]]

    def step(operation: str, ids: list[str], changed: int, then: list[str]) -> None:
        # A moment that the clock has passed for sure.
        MyList.objects.update(updated_at=clock.now() - timedelta(seconds=1))
        before = MyList.objects.get().updated_at
        answer = change(world, list_id, operation, ids)
        assert (answer.status_code, answer.json()) == (200, {"changedCount": changed})
        row = get(world, list_id)
        assert (row["resourceIds"], row["itemsCount"]) == (then, len(then))
        assert (MyList.objects.get().updated_at > before) == bool(changed)
        updated.append(row["updatedAt"])

    # As if added one by one: the last is the newest, and stands first.
    step("add", [c, a], 2, [a, c])
    step("add", [b, b, a], 1, [b, a, c])
    step("add", [a], 0, [b, a, c])
    step("remove", [d, "unknown"], 0, [b, a, c])
    step("remove", [a, "unknown", a, c], 2, [b])
    step("add", [d, c, a], 3, [a, c, d, b])
    moments = list(MyListItem.objects.order_by("added_at").values_list("added_at", flat=True))
    assert len(set(moments)) == 4
    assert {moment.microsecond % 1000 for moment in moments} == {0}


def test_series_lists(world: World) -> None:
    world.series()
    world.series("4.5.6")
    world.series("9.9", domain=OTHER_DOMAIN)
    list_id = make(world, resourceType="series")
    assert change(world, list_id, "add", ["4.5.6", "1.2.3"]).json() == {"changedCount": 2}
    answer = change(world, list_id, "add", ["9.9"])
    assert answer.status_code == 400
    assert answer.json()["error"] == "resourceIds[0]: There is no such series."
    assert get(world, list_id)["resourceIds"] == ["1.2.3", "4.5.6"]
    # The id of a case is none of a series.
    assert change(world, list_id, "add", [world.case().case_id]).status_code == 400
    assert change(world, list_id, "remove", ["4.5.6"]).json() == {"changedCount": 1}


def test_what_one_may_not_see_cannot_be_added(world: World) -> None:
    """An id that is not mine looks like one that is nobody's, and nothing else is added either."""
    world.series()
    world.series("9.9", domain=OTHER_DOMAIN)
    mine, other = world.case().case_id, world.case("9.9", project=OTHER_PROJECT).case_id
    binned = world.case()
    Case.objects.filter(pk=binned.pk).update(deleted_at=clock.now())
    list_id = make(world)
    answers = [change(world, list_id, "add", [mine, name]) for name in (other, binned.case_id, "unknown")]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json() == {
        "error": "resourceIds[1]: There is no such case.",
        "code": "bad_request",
        "validationErrors": [{"path": "resourceIds[1]", "message": "There is no such case."}],
    }
    assert get(world, list_id)["resourceIds"] == []


def test_each_sees_of_a_list_what_is_theirs(world: World) -> None:
    world.series()
    world.series("9.9", domain=OTHER_DOMAIN)
    mine, other = world.case().case_id, world.case("9.9", project=OTHER_PROJECT).case_id
    list_id = make(world, by="everything", public=True)
    assert change(world, list_id, "add", [mine, other], by="everything").json() == {"changedCount": 2}
    expected = {"everything": [other, mine], "reader": [mine], "outsider": [other], "nobody": []}
    for role, found in expected.items():
        row = get(world, list_id, by=role)
        assert (row["resourceIds"], row["itemsCount"]) == (found, len(found)), role
        (listed,) = world.client(role).get("/api/mylists", {"scope": "all"}).json()
        assert listed["itemsCount"] == len(found), role
    # Also what one no longer sees can be taken out.
    world.user("everything").groups.clear()
    assert get(world, list_id, by="everything")["resourceIds"] == []
    assert change(world, list_id, "remove", [mine, other], by="everything").json() == {"changedCount": 2}
    assert not MyListItem.objects.exists()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "operation"),
        ({"operation": "replace", "resourceIds": ["1"]}, "operation"),
        ({"operation": "add"}, "resourceIds"),
        ({"operation": "add", "resourceIds": []}, "resourceIds"),
        ({"operation": "remove", "resourceIds": []}, "resourceIds"),
        ({"operation": "add", "resourceIds": "1.2.3"}, "resourceIds"),
        ({"operation": "add", "resourceIds": ["1.2.3", 5]}, "resourceIds[1]"),
        ({"operation": "add", "resourceIds": [""]}, "resourceIds[0]"),
        ({"operation": "add", "resourceIds": ["x" * 65]}, "resourceIds[0]"),
        ({"operation": "add", "resourceIds": ["1.2.3"] * 1001}, "resourceIds"),
        ({"operation": "add", "resourceIds": ["1.2.3"], "force": True}, "force"),
    ],
)
def test_wrong_item_bodies(world: World, body: Any, path: str) -> None:
    world.series()
    list_id = make(world, resourceType="series")
    answer = world.client("reader").patch(f"/api/mylists/{list_id}/items", body)
    assert answer.status_code == 400
    assert path in [problem["path"] for problem in answer.json()["validationErrors"]]
    assert not MyListItem.objects.exists()


def test_a_list_holds_a_thousand(world: World, django_assert_max_num_queries: Any) -> None:
    uids = many_series(MAX_ITEMS + 1)
    list_id = make(world, resourceType="series")
    with django_assert_max_num_queries(15):
        assert change(world, list_id, "add", uids[:MAX_ITEMS]).json() == {"changedCount": MAX_ITEMS}
    with django_assert_max_num_queries(15):
        assert get(world, list_id)["resourceIds"] == uids[:MAX_ITEMS][::-1]
    # What is there already takes no room.
    assert change(world, list_id, "add", uids[:MAX_ITEMS]).json() == {"changedCount": 0}
    answer = change(world, list_id, "add", [uids[0], uids[-1]])
    assert answer.status_code == 400
    assert answer.json()["validationErrors"][0]["path"] == "resourceIds"
    with django_assert_max_num_queries(15):
        assert change(world, list_id, "remove", uids[:2]).json() == {"changedCount": 2}
    assert change(world, list_id, "add", [uids[0], uids[-1]]).json() == {"changedCount": 2}
    assert MyListItem.objects.count() == MAX_ITEMS


def test_the_number_of_queries_does_not_grow(world: World) -> None:
    world.series()

    def fill() -> str:
        list_id = make(world)
        change(world, list_id, "add", [world.case().case_id for _ in range(3)])
        share(world, list_id, the_user("annotator"), the_user("viewer"), the_group("writer"))
        return list_id

    def count(address: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert world.client("reader").get(address).status_code == 200
        return len(queries)

    list_id = fill()
    first = count("/api/mylists"), count(f"/api/mylists/{list_id}")
    for _ in range(4):
        fill()
    change(world, list_id, "add", [world.case().case_id for _ in range(5)])
    assert (count("/api/mylists"), count(f"/api/mylists/{list_id}")) == first
    assert max(first) <= 8


@pytest.mark.parametrize("list_id", ["x" * 500, "a%00b", "%F0%9F%AB%81", "a b"])
def test_odd_ids(world: World, list_id: str) -> None:
    client = world.client("reader")
    for answer in (client.get(f"/api/mylists/{list_id}"), client.delete(f"/api/mylists/{list_id}")):
        assert answer.status_code == 404


def test_the_admin_shows_lists_and_deletes_users_with_theirs(world: World) -> None:
    world.series()
    list_id = make(world)
    change(world, list_id, "add", [world.case().case_id])
    share(world, list_id, the_user("annotator"), the_group("writer"))
    admin = User.objects.create_superuser("admin@example.com", login_id="admin")
    browser = Client()
    browser.force_login(admin)
    row = MyList.objects.get()
    assert list_id in browser.get("/admin/mylists/mylist/").content.decode()
    page = browser.get(f"/admin/mylists/mylist/{row.pk}/change/")
    assert page.status_code == 200
    assert "annotator@example.com" in page.content.decode()
    assert browser.post(f"/admin/mylists/mylist/{row.pk}/change/", {"name": "mine"}).status_code == 403
    assert browser.get("/admin/mylists/mylist/add/").status_code == 403
    owner = world.user("reader")
    assert browser.post(f"/admin/accounts/user/{owner.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not MyList.objects.exists()
