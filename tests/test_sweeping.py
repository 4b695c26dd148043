"""What is removed in time, and what is not."""

from __future__ import annotations

import io
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command

from casestore import clock, ids
from casestore.tasks.models import Status, Task
from casestore.tasks.running import end
from casestore.tasks.services import Result, run_task
from casestore.tasks.sweeping import expire_results, purge_tasks, sweep_spool, sweep_storage
from tests.world import World

DAY = timedelta(days=1)


def save(name: str, age: timedelta = timedelta(hours=2)) -> Path:
    path = Path(default_storage.path(default_storage.save(name, ContentFile(b"x"))))
    moment = time.time() - age.total_seconds()
    os.utime(path, (moment, moment))
    return path


def make_task(world: World, **fields: Any) -> Task:
    return Task.objects.create(**{"owner": world.user("reader"), "name": "t", "run_by": "tests.none", **fields})


def with_result(world: World) -> tuple[Task, Path]:
    task = make_task(world)
    path = save(f"exports/{task.task_id}/archive")
    run_task(task.task_id, lambda claimed, progress: Result("done", f"exports/{claimed.task_id}/archive"))
    task.refresh_from_db()
    return task, path


def ended(world: World) -> Task:
    task = make_task(world)
    end(Task.objects.filter(pk=task.pk), Status.ERROR, error_message="x")
    return task


def test_results_expire_and_their_tasks_stay(world: World) -> None:
    task, path = with_result(world)
    _, kept = with_result(world)
    assert expire_results() == 0
    Task.objects.filter(pk=task.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    assert expire_results() == 1
    assert (path.exists(), kept.exists()) == (False, True)
    task.refresh_from_db()
    assert (task.result_key, task.status) == ("", Status.FINISHED)
    assert expire_results() == 0


def test_nothing_expires_where_results_are_kept_for_ever(world: World, settings: Any) -> None:
    settings.CASESTORE_EXPORT_DAYS = settings.CASESTORE_TASK_DAYS = 0
    task, path = with_result(world)
    assert task.expires_at is None
    Task.objects.update(ended_at=clock.now() - 1000 * DAY)
    assert expire_results() == purge_tasks() == 0
    assert path.exists()


def test_old_tasks_go(world: World) -> None:
    old, recent, running = ended(world), ended(world), make_task(world)
    with_file, path = with_result(world)
    Task.objects.filter(pk__in=[old.pk, with_file.pk]).update(ended_at=clock.now() - 31 * DAY)
    Task.objects.filter(pk=running.pk).update(created_at=clock.now() - 31 * DAY)
    assert purge_tasks() == 1
    assert set(Task.objects.values_list("pk", flat=True)) == {recent.pk, running.pk, with_file.pk}
    assert path.exists()


def test_files_that_nothing_refers_to(world: World) -> None:
    running, over = make_task(world), ended(world)
    task, result = with_result(world)
    unknown = ids.new_id()
    wanted = [
        result,
        save(f"exports/{running.task_id}/part"),
        save(f"exports/.{running.task_id}.0123456789ab.part"),
        save(f"uploads/{running.task_id}/1", 2 * DAY),
        # Perhaps the row of this upload is just being written.
        save(f"uploads/{unknown}/1", timedelta(hours=2)),
        save(f"exports/{unknown}/young", timedelta(minutes=2)),
        save("blobs/ab/abcd", 9 * DAY),
    ]
    unwanted = [
        save(f"exports/{over.task_id}"),
        save(f"exports/.{over.task_id}.0123456789ab.part"),
        save(f"exports/{task.task_id}/part"),
        save(f"exports/{unknown}/deep/down/part"),
        save("exports/without-an-id"),
        save(f"uploads/{over.task_id}/1", 2 * DAY),
        save(f"uploads/{ids.new_id()}/1", 2 * DAY),
    ]
    assert sweep_storage() >= len(unwanted)
    assert [path for path in wanted if not path.exists()] == []
    assert [path for path in unwanted if path.exists()] == []
    assert sweep_storage() == 0
    call_command("sweep_tasks", "--now", stdout=io.StringIO())
    assert [path.exists() for path in wanted] == [True, True, True, True, False, False, True]
    assert not default_storage.exists(f"exports/{unknown}")


def test_the_spool(world: World, settings: Any, tmp_path: Path) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    running, over = make_task(world), ended(world)

    def folder(name: str, age: timedelta = timedelta(0)) -> Path:
        path = tmp_path / name
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "file").write_bytes(b"x")
        moment = time.time() - age.total_seconds()
        os.utime(path, (moment, moment))
        return path

    wanted = [
        folder(f"casestore-import-{running.task_id}-abc", 3 * DAY),
        # Perhaps another installation's.
        folder(f"casestore-exports-{ids.new_id()}-abc"),
        folder(f"somebody-else-{over.task_id}"),
    ]
    unwanted = [
        folder(f"casestore-import-{over.task_id}-abc"),
        folder(f"casestore-import-{ids.new_id()}-abc", 3 * DAY),
    ]
    (tmp_path / f"casestore-exports-{over.task_id}").write_bytes(b"x")
    assert sweep_spool() == 3
    assert [path.exists() for path in wanted] == [True] * 3
    assert [path.exists() for path in unwanted] == [False] * 2
    assert sweep_spool() == 0


@pytest.mark.parametrize("name", ["exports", "uploads"])
def test_an_end_removes_all_but_the_result(world: World, name: str) -> None:
    task = make_task(world)

    def work(claimed: Task, progress: Any) -> Result:
        save(f"{name}/{claimed.task_id}/part")
        save(f"{name}/{claimed.task_id}/deep/part")
        save(f"exports/{claimed.task_id}/archive")
        return Result("done", f"exports/{claimed.task_id}/archive")

    run_task(task.task_id, work)
    left = [path.name for path in Path(default_storage.location).rglob("*") if path.is_file()]
    assert left == ["archive"]
