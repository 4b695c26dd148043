"""The life of a task."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from casestore import clock
from casestore.errors import CasestoreError
from casestore.tasks.models import DownloadFileType, Status, Task
from casestore.tasks.services import SILENCE, Progress, Result, Superseded, claim, run_task
from tests.world import World


@pytest.fixture
def task(world: World) -> Task:
    return Task.objects.create(owner=world.user("reader"), name="Count", total=3)


def test_a_task_that_finishes(world: World, task: Task) -> None:
    def work(claimed: Task, progress: Progress) -> Result:
        seen = []
        for done in range(3):
            progress.report(done, f"at {done}")
            seen.append(world.client("reader").get(f"/api/tasks/{task.task_id}").json())
        assert [(t["status"], t["finished"], t["total"]) for t in seen] == [("processing", n, 3) for n in range(3)]
        key = default_storage.save("exports/x", ContentFile(b"PK"))
        return Result("Counted to 3.", key, DownloadFileType.ZIP)

    assert run_task(task.task_id, work)
    shown = world.client("reader").get(f"/api/tasks/{task.task_id}").json()
    assert shown == {
        "taskId": task.task_id,
        "userEmail": "reader@example.com",
        "name": "Count",
        "status": "finished",
        "message": "",
        "finished": 3,
        "total": 3,
        "errorMessage": None,
        "finishedMessage": "Counted to 3.",
        "endedAt": shown["endedAt"],
        "downloadFileType": "application/zip",
        "dismissed": False,
        "createdAt": shown["createdAt"],
        "updatedAt": shown["endedAt"],
    }
    answer = world.client("reader").get(f"/api/tasks/{task.task_id}/download", headers={"accept": "application/zip"})
    assert b"".join(answer.streaming_content) == b"PK"
    assert answer["Content-Type"] == "application/zip"
    assert answer["Content-Disposition"] == f'attachment; filename="{task.task_id}.zip"'


def test_a_refusal_is_told_and_an_unforeseen_error_is_not(
    world: World, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(claimed: Task, progress: Progress) -> Result:
        raise CasestoreError("The volume is gone.")

    name = "Secret^Patient"

    def fail(claimed: Task, progress: Progress) -> Result:
        raise ValueError(name)

    other = Task.objects.create(owner=world.user("reader"), name="Fail")
    with caplog.at_level(logging.DEBUG):
        assert run_task(task.task_id, refuse)
        assert run_task(other.task_id, fail)
    first = world.client("reader").get(f"/api/tasks/{task.task_id}").json()
    assert (first["status"], first["errorMessage"]) == ("error", "The volume is gone.")
    second = world.client("reader").get(f"/api/tasks/{other.task_id}").json()
    assert (second["status"], "Secret" in str(second)) == ("error", False)
    assert "ValueError" in caplog.text
    assert "Secret" not in caplog.text


def test_one_worker_at_a_time(task: Task) -> None:
    first = claim(task.task_id)
    assert first is not None
    assert claim(task.task_id) is None
    assert run_task(task.task_id, lambda t, p: pytest.fail("a living worker has it")) is False
    # The first falls silent; a second takes over, and the first notices.
    Task.objects.update(heartbeat_at=clock.now() - SILENCE - timedelta(seconds=1))
    first.refresh_from_db()
    assert run_task(task.task_id, lambda t, p: Result("done"))
    with pytest.raises(Superseded):
        Progress(first).report(1, "still here")
    task.refresh_from_db()
    assert (task.status, task.finished_message) == (Status.FINISHED, "done")
    assert run_task(task.task_id, lambda t, p: pytest.fail("it has ended")) is True


def test_lists_dismissal_and_downloads(world: World, task: Task) -> None:
    client = world.client("reader")
    (listed,) = client.get("/api/tasks").json()
    assert listed["taskId"] == task.task_id
    address = f"/api/tasks/{task.task_id}"
    assert client.get(f"{address}/download").status_code == 409
    assert client.patch(address, {"dismissed": True}).json()["dismissed"] is True
    for body in ({"dismissed": 1}, {}, {"dismissed": True, "status": "finished"}, []):
        assert client.patch(address, body).status_code == 400
    run_task(task.task_id, lambda t, p: Result("nothing to fetch"))
    assert client.get(f"{address}/download").status_code == 404
    assert client.get("/api/tasks/unknown").status_code == 404
