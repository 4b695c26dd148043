"""Lists that several change at once."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import connections, transaction

from cases.models import Case
from casestore import clock
from mylists.models import MAX_ITEMS, MyListItem
from tests.test_mylists import change, get, make, many_series
from tests.world import make_world


def together(*steps: Any) -> list[Any]:
    """Runs the steps at once, each in a thread with its own connection; their results in order."""
    results: list[Any] = [None] * len(steps)
    start = threading.Barrier(len(steps))

    def run(number: int) -> None:
        try:
            start.wait()
            results[number] = steps[number]()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_simultaneous_additions_all_remain() -> None:
    world = make_world()
    uids = many_series(40)
    list_id = make(world, resourceType="series")

    def adder(number: int) -> Any:
        # Overlapping, and in another order each: nobody waits for each other for ever.
        mine = uids[number * 10 : number * 10 + 20]
        return lambda: change(world, list_id, "add", mine if number % 2 else mine[::-1]).json()["changedCount"]

    assert sum(together(*(adder(number) for number in range(4)))) == 40
    assert sorted(get(world, list_id)["resourceIds"]) == sorted(uids)
    moments = MyListItem.objects.values_list("added_at", flat=True)
    assert len(set(moments)) == 40


@pytest.mark.django_db(transaction=True)
def test_simultaneous_additions_keep_the_limit() -> None:
    world = make_world()
    uids = many_series(MAX_ITEMS + 5)
    list_id = make(world, resourceType="series")
    assert change(world, list_id, "add", uids[:-10]).status_code == 200
    steps = [lambda k=k: change(world, list_id, "add", [uids[-1 - k]]).status_code for k in range(10)]  # type: ignore[misc]
    assert sorted(together(*steps)) == [200] * 5 + [400] * 5
    assert MyListItem.objects.count() == MAX_ITEMS


@pytest.mark.django_db(transaction=True)
def test_an_addition_and_the_deletion_of_its_list() -> None:
    world = make_world()
    uids = many_series(300)
    for _ in range(5):
        list_id = make(world, resourceType="series")
        added, deleted = together(
            lambda name=list_id: change(world, name, "add", uids),  # type: ignore[misc]
            lambda name=list_id: world.client("reader").delete(f"/api/mylists/{name}"),  # type: ignore[misc]
        )
        assert deleted.status_code == 204
        assert added.status_code in {200, 404}, added.content
        assert not MyListItem.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_case_that_goes_to_the_bin_meanwhile_is_not_added() -> None:
    """The deletion holds the case's row; the addition waits for it, and then finds no such case."""
    world = make_world()
    world.series()
    case = world.case()
    list_id = make(world)
    answers: list[Any] = []

    def add() -> None:
        answers.append(change(world, list_id, "add", [case.case_id]))
        connections.close_all()

    with transaction.atomic():
        row = Case.objects.select_for_update().get(pk=case.pk)
        thread = threading.Thread(target=add)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        row.deleted_at = clock.now()
        row.save()
    thread.join()
    assert answers[0].status_code == 400, json.loads(answers[0].content)
    assert not MyListItem.objects.exists()
