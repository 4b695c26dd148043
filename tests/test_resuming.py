"""Exports that go on after a crash, and those that are cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from cases.image_numbers import PartialVolume
from casestore.tasks.models import Task
from casestore.tasks.services import Progress, Superseded, claim, run_task
from casestore.tasks.watching import MOST_ATTEMPTS
from exports.models import PackedCase
from exports.packing import pack
from exports.services import Wanted, find_cases, resolve
from exports.tasks import forget_packed_cases
from tests.dicom import SERIES_UID, write_series
from tests.packing import (
    OPTIONS,
    Stop,
    archives,
    content,
    forget_volume,
    make_task,
    manifest,
    packed,
    remove_dicom,
)
from tests.test_export import make_case
from tests.test_import import run
from tests.world import World, make_world


@pytest.mark.parametrize("kind", ["tgz", "zip"])
@pytest.mark.parametrize("after", [1, 2])
def test_a_crash_costs_no_case_that_was_packed(world: World, cases: list[str], kind: str, after: int) -> None:
    _, whole = packed(world, cases, compressionFormat=kind)
    task = make_task(world, cases, compressionFormat=kind)
    with pytest.raises(Superseded):
        pack(task, Stop(task, after))
    task.refresh_from_db()
    assert len(task.checkpoint["ledger"]) == after
    # The cases that were packed cannot be packed any more: they must come from what there is.
    for number in range(after):
        remove_dicom(f"{SERIES_UID}.{number}")
    result = pack(task, Progress(task))
    assert content(result) == whole
    assert [path.name for path in archives() if path.name.endswith(".part")] == []


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_what_a_crash_damaged_is_packed_again(world: World, cases: list[str], how: str) -> None:
    _, whole = packed(world, cases)
    task = make_task(world, cases)
    with pytest.raises(Superseded):
        pack(task, Stop(task, 2))
    task.refresh_from_db()
    (partial,) = [path for path in archives() if path.name.endswith(".part")]
    data = bytearray(partial.read_bytes())
    data[100] ^= 1
    if how == "gone":
        partial.unlink()
    else:
        partial.write_bytes(data[:50] if how == "cut" else data)
    assert content(pack(task, Progress(task))) == whole


class Cancelling(Progress):
    """Whether the task could have been cancelled at each step of its work: whether its row is not locked."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.seen: list[tuple[bool, bool]] = []

    def report(self, finished: int, message: str, **options: Any) -> None:
        self._written = 0.0
        super().report(finished, message, **options)
        self.look()

    def check(self) -> None:
        super().check()
        self.look()

    def look(self) -> None:
        connected = connections.create_connection("default")
        with connected.cursor() as other:
            other.execute("SELECT 1 FROM tasks_task WHERE id = %s FOR UPDATE SKIP LOCKED", [self._task.pk])
            self.seen.append((connection.in_atomic_block, other.fetchone() is not None))
        connected.close()


@pytest.mark.django_db(transaction=True)
def test_a_task_can_be_cancelled_while_its_volume_is_made(tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", range(1, 5))
    run(tmp_path / "in", spool=tmp_path)
    user, wanted = world.user("everything"), [Wanted(make_case(world, SERIES_UID, PartialVolume(1, 4, 1), []))]
    parameters = {"entries": resolve(find_cases(user, wanted, OPTIONS), wanted), **OPTIONS}
    # Claimed from the beginning: no worker that other tests started may take it.
    task = Task.objects.create(owner=user, name="Export", total=1, parameters=parameters, claimed_by="us")
    forget_volume(SERIES_UID)
    progress = Cancelling(task)
    pack(task, progress)
    assert progress.seen.count((True, True)) >= 4
    assert {is_free for _, is_free in progress.seen} == {True}


def pack_two(task: Task) -> None:
    """As a worker does that dies then."""
    claimed = claim(task.task_id)
    assert claimed is not None
    with pytest.raises(Superseded):
        pack(claimed, Stop(claimed, 2))


def test_a_case_that_kills_its_worker_ends_the_task(world: World, cases: list[str]) -> None:
    """Those before it are packed once, not again by every second worker; and the deaths are counted."""
    task = make_task(world, cases)
    attempts = []
    for _ in range(MOST_ATTEMPTS):
        pack_two(task)
        task.refresh_from_db()
        attempts.append(task.attempts)
        assert len(task.checkpoint["ledger"]) == 2
        Task.objects.update(claimed_by="")
        if not attempts[1:]:
            # Whoever goes on has nothing but the archive.
            remove_dicom(f"{SERIES_UID}.0")
    assert attempts == [1, 2, 3]


def test_what_a_manifest_needs_is_written_once_and_forgotten(world: World, cases: list[str]) -> None:
    """A checkpoint does not grow with the number of files, nor does a zip's."""
    task = make_task(world, cases, compressionFormat="zip")
    with pytest.raises(Superseded):
        pack(task, Stop(task, 2))
    task.refresh_from_db()
    assert [row.position for row in PackedCase.objects.order_by("position")] == [0, 1]
    assert "vol000" not in json.dumps(task.checkpoint)
    whole = content(pack(task, Progress(task)))
    assert [case["caseId"] for case in manifest(whole)["cases"]] == cases
    Task.objects.update(claimed_by="us")
    assert run_task(make_task(world, cases).task_id, pack)
    forget_packed_cases()
    assert {row.task_id for row in PackedCase.objects.all()} == {task.pk}


def test_a_crash_before_the_end_is_told_costs_no_case(world: World, cases: list[str]) -> None:
    """The archive has its final name already, and nothing names it."""
    task = make_task(world, cases)
    claimed = claim(task.task_id)
    assert claimed is not None
    whole = content(pack(claimed, Progress(claimed)))
    Task.objects.update(claimed_by="")
    remove_dicom(f"{SERIES_UID}.0")
    assert run_task(task.task_id, pack)
    task.refresh_from_db()
    assert [path.read_bytes() for path in archives()] == [whole]
    assert task.result_key.endswith(archives()[0].name)


def test_beginning_anew_is_not_getting_on(world: World, cases: list[str]) -> None:
    """As on another host, which has no part of what grew here."""
    task = make_task(world, cases)
    attempts = []
    for _ in range(MOST_ATTEMPTS):
        pack_two(task)
        for path in archives():
            path.unlink()
        Task.objects.update(claimed_by="")
        attempts.append(Task.objects.get(pk=task.pk).attempts)
    assert attempts == [1, 2, 3]
