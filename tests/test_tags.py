"""Tags: replaced in one case, changed in many at once."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import Any

import pytest
from django.db import connections

from cases.models import Case
from tests.world import OTHER_PROJECT, World, make_world


def tags_of(case: Case) -> list[str]:
    case.refresh_from_db()
    return case.tags


def test_put_replaces_all(world: World) -> None:
    world.series()
    case = world.case(tags=["old"])
    before = world.client("reader").get(f"/api/cases/{case.case_id}")
    answer = world.client("annotator").put(f"/api/cases/{case.case_id}/tags", ["YYY", "XXX", "YYY", "ZZZ", "é" * 32])
    assert (answer.status_code, answer.content) == (204, b"")
    after = world.client("reader").get(f"/api/cases/{case.case_id}")
    assert after.json()["tags"] == ["YYY", "XXX", "ZZZ", "é" * 32]
    assert after.json()["updatedAt"] > before.json()["updatedAt"]
    assert after["ETag"] != before["ETag"]
    assert world.client("annotator").put(f"/api/cases/{case.case_id}/tags", []).status_code == 204
    assert tags_of(case) == []


def test_a_put_that_changes_nothing_leaves_the_case_as_it_is(world: World) -> None:
    world.series()
    case = world.case(tags=["a", "b"])
    world.client("annotator").put(f"/api/cases/{case.case_id}/tags", ["a", "b", "a"])
    again = Case.objects.get(pk=case.pk)
    assert (again.version, again.updated_at) == (case.version, case.updated_at)


def test_dates_move_on_although_the_clock_stands_still(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.series()
    case = world.case()
    monkeypatch.setattr("casestore.clock.now", lambda: case.updated_at)
    dates = [case.updated_at]
    for tag in "abc":
        world.client("annotator").put(f"/api/cases/{case.case_id}/tags", [tag])
        case.refresh_from_db()
        dates.append(case.updated_at)
    assert [(b - a).total_seconds() for a, b in pairwise(dates)] == [0.001] * 3


@pytest.mark.parametrize(
    "body",
    [{}, {"tags": []}, "a", None, 5, [1], [None], [["a"]], [""], ["x" * 33], ["a\0"], [f"{n}" for n in range(101)]],
)
def test_wrong_puts(world: World, body: Any) -> None:
    world.series()
    case = world.case(tags=["kept"])
    answer = world.client("annotator").put(f"/api/cases/{case.case_id}/tags", body)
    assert answer.status_code == 400, answer.content
    assert tags_of(case) == ["kept"]


def test_put_needs_write(world: World) -> None:
    world.series()
    case = world.case(tags=["kept"])
    for role, status in (("reader", 401), ("outsider", 401), (None, 401)):
        answer = world.client(role).put(f"/api/cases/{case.case_id}/tags", ["x"])
        assert answer.status_code == status
    assert world.client("annotator").put("/api/cases/unknown/tags", ["x"]).status_code == 404
    assert tags_of(case) == ["kept"]


def change(world: World, operation: str, tags: list[str], cases: list[Case], by: str = "annotator") -> Any:
    body = {"operation": operation, "tags": tags, "caseIds": [case.case_id for case in cases]}
    return world.client(by).patch("/api/cases/tags", body)


def test_patch(world: World) -> None:
    world.series()
    first, second, other = world.case(tags=["a", "b"]), world.case(tags=["c"]), world.case(tags=["a"])
    answer = change(world, "add", ["c", "b", "d", "d"], [second, first, second])
    assert (answer.status_code, answer.content) == (204, b"")
    assert (tags_of(first), tags_of(second)) == (["a", "b", "c", "d"], ["c", "b", "d"])
    assert change(world, "remove", ["b", "x"], [first, second]).status_code == 204
    assert (tags_of(first), tags_of(second)) == (["a", "c", "d"], ["c", "d"])
    assert change(world, "set", ["z", "y", "z"], [first]).status_code == 204
    assert change(world, "set", [], [second]).status_code == 204
    assert (tags_of(first), tags_of(second), tags_of(other)) == (["z", "y"], [], ["a"])


def test_patch_touches_only_what_changes(world: World) -> None:
    world.series()
    has, has_not = world.case(tags=["a"]), world.case()
    assert change(world, "add", ["a"], [has, has_not]).status_code == 204
    versions = {case.pk: case.version for case in Case.objects.all()}
    assert versions == {has.pk: has.version, has_not.pk: has_not.version + 1}
    assert Case.objects.get(pk=has.pk).updated_at == has.updated_at
    assert Case.objects.get(pk=has_not.pk).updated_at > has_not.updated_at


def test_patch_is_all_or_nothing(world: World) -> None:
    world.series()
    world.series("9.9", domain="sirius.example")
    mine, foreign = world.case(), world.case("9.9", project=OTHER_PROJECT)
    answer = change(world, "add", ["a"], [mine, foreign])
    assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_privilege")
    assert answer.json()["validationErrors"][0]["path"] == "caseIds[1]"
    answer = change(world, "add", ["a"], [mine, Case(case_id="unknown")])
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert change(world, "add", ["a"], [mine], by="reader").status_code == 401
    world.client("everything").put(f"/api/cases/{foreign.case_id}/tags", [f"{n}" for n in range(95)])
    answer = change(world, "add", ["a", "b", "c", "d", "e", "f"], [mine, foreign], by="everything")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert tags_of(mine) == []
    assert change(world, "add", ["a", "b", "c", "d", "e"], [mine, foreign], by="everything").status_code == 204
    assert len(tags_of(foreign)) == 100


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"operation": "add", "tags": [], "caseIds": ["x"]}, "tags"),
        ({"operation": "remove", "tags": [], "caseIds": ["x"]}, "tags"),
        ({"operation": "toggle", "tags": ["a"], "caseIds": ["x"]}, "operation"),
        ({"operation": ["add"], "tags": ["a"], "caseIds": ["x"]}, "operation"),
        ({"operation": "add", "tags": ["a"] * 11, "caseIds": ["x"]}, "tags"),
        ({"operation": "add", "tags": ["a" * 33], "caseIds": ["x"]}, "tags[0]"),
        ({"operation": "add", "tags": "a", "caseIds": ["x"]}, "tags"),
        ({"operation": "add", "tags": ["a"], "caseIds": []}, "caseIds"),
        ({"operation": "add", "tags": ["a"], "caseIds": ["x"] * 1001}, "caseIds"),
        ({"operation": "add", "tags": ["a"], "caseIds": "x"}, "caseIds"),
        ({"operation": "add", "tags": ["a"], "caseIds": [1]}, "caseIds[0]"),
        ({"operation": "add", "tags": ["a"]}, "caseIds"),
        ({"operation": "add", "caseIds": ["x"]}, "tags"),
        ({"tags": ["a"], "caseIds": ["x"]}, "operation"),
        ({"operation": "add", "tags": ["a"], "caseIds": ["x"], "force": 1}, "force"),
    ],
)
def test_wrong_patches(world: World, body: dict[str, Any], path: str) -> None:
    answer = world.client("annotator").patch("/api/cases/tags", body)
    assert answer.status_code == 400, answer.content
    assert path in [problem["path"] for problem in answer.json()["validationErrors"]]


def test_the_number_of_queries_does_not_grow(world: World, django_assert_num_queries: Any) -> None:
    world.series()
    cases = [world.case() for _ in range(30)]
    world.client("annotator").get("/api/")  # The first use of a token is written down.
    counts = set()
    for number in (1, 30):
        # Token; savepoint, rows, update, release.
        with django_assert_num_queries(5) as queries:
            assert change(world, "add", [f"{number}"], cases[:number]).status_code == 204
        counts.add(len(queries))
    assert len(counts) == 1


def at_once(number: int, work: Any) -> list[int]:
    """What `work` answers in so many threads that start together."""
    start, statuses = threading.Barrier(number), [0] * number

    def run(index: int) -> None:
        start.wait()
        try:
            statuses[index] = work(index)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.django_db(transaction=True)
def test_a_hundred_simultaneous_additions_all_remain() -> None:
    world = make_world()
    world.series()
    case = world.case()

    def add(index: int) -> int:
        return max(change(world, "add", [f"{index}.{k}"], [case]).status_code for k in range(5))

    assert at_once(20, add) == [204] * 20
    assert set(tags_of(case)) == {f"{n}.{k}" for n in range(20) for k in range(5)}
    assert len(case.tags) == 100
    assert case.version == 101


@pytest.mark.django_db(transaction=True)
def test_requests_that_share_cases_do_not_wait_in_a_circle() -> None:
    world = make_world()
    world.series()
    cases = [world.case() for _ in range(6)]

    def add(index: int) -> int:
        named = cases if index % 2 else cases[::-1]
        return max(change(world, "add", [f"{index}.{k}"], named).status_code for k in range(3))

    assert at_once(8, add) == [204] * 8
    assert {len(tags_of(case)) for case in cases} == {24}


def test_a_body_without_a_type_is_json(world: World) -> None:
    """As in the published example of PATCH /cases/tags."""
    world.series()
    case = world.case()
    body = json.dumps({"operation": "add", "caseIds": [case.case_id], "tags": ["ZZZ"]})
    answer = world.client("annotator").generic("PATCH", "/api/cases/tags", body, content_type="")
    assert answer.status_code == 204, answer.content
    assert tags_of(case) == ["ZZZ"]


@pytest.mark.parametrize(
    ("count", "problems", "first"), [(1000, 50, "caseIds[0]"), (1001, 1, "caseIds"), (100_000, 1, "caseIds")]
)
def test_of_many_wrong_items_few_are_told(world: World, count: int, problems: int, first: str) -> None:
    """A body of a few megabytes must not be answered with dozens of them."""
    answer = world.client("annotator").patch(
        "/api/cases/tags", {"operation": "add", "tags": ["a"], "caseIds": [5] * count}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert len(answer.json()["validationErrors"]) == problems
    assert answer.json()["validationErrors"][0]["path"] == first


def test_of_many_wrong_labels_few_are_told(world: World) -> None:
    world.series()
    case = world.case()
    series = [{"seriesUid": "1.2.3", "labels": [5] * 100}] * 100
    body = {"description": "", "attributes": {}, "status": "draft", "series": series}
    answer = world.client("annotator").post(f"/api/cases/{case.case_id}/revision", body)
    assert answer.status_code == 400
    paths = [problem["path"] for problem in answer.json()["validationErrors"]]
    assert paths == [f"series[0].labels[{index}]" for index in range(50)]
