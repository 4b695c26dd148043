"""The life of a task."""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, connections

from casestore import clock
from casestore.accounts.models import User
from casestore.errors import CasestoreError
from casestore.tasks import kinds, queueing
from casestore.tasks.models import DownloadFileType, Status, Task
from casestore.tasks.services import Progress, Result, Superseded, claim, ends_task, run_task
from casestore.tasks.watching import LOOK_EVERY, MOST_ATTEMPTS, SILENCE, Watch
from tests.world import World, make_world

KIND, LIMITED = "tests.count", "tests.count_two_at_once"


@pytest.fixture(autouse=True)
def two_kinds() -> Iterator[None]:
    kinds.register(KIND, kinds.Kind(check_download=lambda user, task: None))
    kinds.register(LIMITED, kinds.Kind(at_once=lambda: 2))
    yield
    del kinds._KINDS[KIND], kinds._KINDS[LIMITED]


def make_task(owner: User, **fields: Any) -> Task:
    return Task.objects.create(**{"owner": owner, "name": "Count", "total": 3, "run_by": KIND, **fields})


@pytest.fixture
def task(world: World) -> Task:
    return make_task(world.user("reader"))


def shown(world: World, task: Task) -> dict[str, Any]:
    found: dict[str, Any] = world.client("reader").get(f"/api/tasks/{task.task_id}").json()
    return found


def test_a_task_that_finishes(world: World, task: Task) -> None:
    def work(claimed: Task, progress: Progress) -> Result:
        seen = []
        for done in range(3):
            progress.report(done, f"at {done}")
            seen.append(shown(world, task))
        assert [(t["status"], t["finished"], t["total"]) for t in seen] == [("processing", n, 3) for n in range(3)]
        assert [t["message"] for t in seen] == ["at 0", "at 1", "at 2"]
        key = default_storage.save(f"exports/{claimed.task_id}/x", ContentFile(b"PK"))
        rows = [{"caseId": "a", "revisionIndex": 0, "status": "packed"}]
        return Result("Counted to 3.", key, DownloadFileType.ZIP, results=rows)

    assert run_task(task.task_id, work)
    seen = shown(world, task)
    assert seen == {
        "taskId": task.task_id,
        "userEmail": "reader@example.com",
        "name": "Count",
        "status": "finished",
        "message": "",
        "finished": 3,
        "total": 3,
        "bytesDone": 0,
        "bytesTotal": None,
        "remainingSeconds": None,
        "errorMessage": None,
        "finishedMessage": "Counted to 3.",
        "results": [{"caseId": "a", "revisionIndex": 0, "status": "packed"}],
        "endedAt": seen["endedAt"],
        "downloadFileType": "application/zip",
        "downloadUrl": f"/api/tasks/{task.task_id}/download",
        "size": 2,
        "sha256": hashlib.sha256(b"PK").hexdigest(),
        "expiresAt": seen["expiresAt"],
        "dismissed": False,
        "createdAt": seen["createdAt"],
        "updatedAt": seen["endedAt"],
    }
    row = Task.objects.get()
    assert row.expires_at is not None
    assert row.ended_at is not None
    assert row.expires_at - row.ended_at == timedelta(days=7)
    answer = world.client("reader").get(seen["downloadUrl"], headers={"accept": "application/zip"})
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

    other = make_task(world.user("reader"))
    with caplog.at_level(logging.DEBUG):
        assert run_task(task.task_id, refuse)
        assert run_task(other.task_id, fail)
    first = shown(world, task)
    assert (first["status"], first["errorMessage"], first["downloadUrl"]) == ("error", "The volume is gone.", None)
    second = shown(world, other)
    assert (second["status"], "Secret" in str(second)) == ("error", False)
    assert "ValueError" in caplog.text
    assert "Secret" not in caplog.text


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "x"), "no room left on the disk"),
        (OSError(errno.EFBIG, "x"), "larger than this system allows"),
        (MemoryError(), "more memory than this server has"),
        (SoftTimeLimitExceeded(), "took longer than 6:00:00"),
    ],
)
def test_what_the_server_lacks_is_told(world: World, task: Task, error: Exception, says: str) -> None:
    """And it concerns the whole task: one case must not be called damaged for it."""

    def fail(claimed: Task, progress: Progress) -> Result:
        default_storage.save(f"exports/{claimed.task_id}/part", ContentFile(b"half"))
        raise error

    assert ends_task(error)
    assert not ends_task(ValueError("x"))
    assert not ends_task(FileNotFoundError(errno.ENOENT, "x"))
    run_task(task.task_id, fail)
    assert says in shown(world, task)["errorMessage"]
    assert not default_storage.exists(f"exports/{task.task_id}")


def test_one_worker_at_a_time_and_the_silent_one_loses(world: World, task: Task) -> None:
    first = claim(task.task_id)
    assert first is not None
    assert claim(task.task_id) is None
    assert run_task(task.task_id, lambda t, p: pytest.fail("somebody has it")) is False
    watch = Watch()
    moments = [n * LOOK_EVERY for n in range(int(SILENCE / LOOK_EVERY))]
    for now in moments:
        watch.look_for_silence(now)
    # It was heard of at the last moment, and then no more.
    Progress(first).beat()
    for now in moments:
        watch.look_for_silence(SILENCE + now)
        assert claim(task.task_id) is None
    watch.look_for_silence(2 * SILENCE)
    assert shown(world, task)["message"] == "Waiting: its worker died, another one goes on."
    assert run_task(task.task_id, lambda t, p: Result("done"))
    with pytest.raises(Superseded):
        Progress(first).report(1, "still here")
    with pytest.raises(Superseded):
        Progress(first).checkpoint({"case": 1})
    task.refresh_from_db()
    assert (task.status, task.finished_message, task.checkpoint) == (Status.FINISHED, "done", {})
    assert run_task(task.task_id, lambda t, p: pytest.fail("it has ended")) is False


def test_who_did_not_look_calls_nobody_silent(task: Task) -> None:
    """A host that slept, or a database that was away, says nothing about the workers."""
    assert claim(task.task_id) is not None
    watch = Watch()
    watch.look_for_silence(0.0)
    watch.look_for_silence(10 * SILENCE)
    task.refresh_from_db()
    assert task.claimed_by


def die(task: Task) -> None:
    """A worker claims the task and is never heard of again."""
    assert claim(task.task_id) is not None
    watch = Watch()
    for n in range(int(SILENCE / LOOK_EVERY) + 1):
        watch.look_for_silence(n * LOOK_EVERY)


def test_a_task_that_kills_its_workers_is_given_up(world: World, task: Task) -> None:
    for _ in range(MOST_ATTEMPTS - 1):
        die(task)
    # It gets on: the dead do not count any more.
    last = claim(task.task_id)
    assert last is not None
    Progress(last).checkpoint({"case": 1})
    assert shown(world, task)["status"] == "processing"
    Task.objects.update(claimed_by="")
    for _ in range(MOST_ATTEMPTS - 1):
        assert shown(world, task)["status"] == "processing"
        die(task)
    seen = shown(world, task)
    assert seen["status"] == "error"
    assert seen["errorMessage"] == "The task was given up: 3 times its worker died while doing it."


def test_a_checkpoint_is_handed_to_the_next(task: Task) -> None:
    first = claim(task.task_id)
    assert first is not None
    assert first.checkpoint == {}
    Progress(first).checkpoint({"cases": 7})
    Task.objects.update(claimed_by="")

    def work(claimed: Task, progress: Progress) -> Result:
        return Result(f"went on after {claimed.checkpoint['cases']}")

    run_task(task.task_id, work)
    task.refresh_from_db()
    assert task.finished_message == "went on after 7"


def test_progress_by_bytes_and_what_remains(world: World, task: Task) -> None:
    claimed = claim(task.task_id)
    assert claimed is not None
    progress = Progress(claimed)
    progress.report(0, "starting", bytes_done=200, bytes_total=1000)
    seen = shown(world, task)
    assert (seen["bytesDone"], seen["bytesTotal"], seen["remainingSeconds"]) == (200, 1000, None)
    progress.report(1, "one", bytes_done=400, bytes_total=1000)
    # 200 bytes took 10 seconds.
    row = Task.objects.get()
    Task.objects.update(measured_at=row.updated_at - timedelta(seconds=10))
    assert shown(world, task)["remainingSeconds"] == 30
    # There were more than was thought.
    progress.report(2, "two", bytes_done=1200, bytes_total=1000)
    seen = shown(world, task)
    assert (seen["bytesDone"], seen["bytesTotal"], seen["remainingSeconds"]) == (1200, 1200, 0)
    run_task(task.task_id, lambda t, p: pytest.fail("somebody has it"))


def test_bytes_without_a_total_stay_without(world: World, task: Task) -> None:
    claimed = claim(task.task_id)
    assert claimed is not None
    Progress(claimed).report(0, "starting", bytes_done=200)
    assert shown(world, task)["bytesTotal"] is None


def test_reports_are_cheap(task: Task, django_assert_num_queries: Any) -> None:
    claimed = claim(task.task_id)
    assert claimed is not None
    progress = Progress(claimed)
    with django_assert_num_queries(1):
        for k in range(1000):
            progress.report(0, f"slice {k}", bytes_done=k)
    with django_assert_num_queries(1):
        progress.report(1, "the next case")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_goes_away_meanwhile() -> None:
    """A report does without it; other work is done again from its checkpoint. The task does not fail."""
    world = make_world()
    task = make_task(world.user("reader"))
    seen = []

    def break_connection() -> None:
        with connections.create_connection("default").cursor() as other, connection.cursor() as ours:
            ours.execute("SELECT pg_backend_pid()")
            other.execute("SELECT pg_terminate_backend(%s, 5000)", ours.fetchone())
            other.connection.close()

    def work(claimed: Task, progress: Progress) -> Result:
        seen.append(dict(claimed.checkpoint))
        progress.checkpoint({"step": len(seen)})
        break_connection()
        progress.report(len(seen), "still working")
        if len(seen) == 1:
            break_connection()
            User.objects.count()
        break_connection()
        return Result("done")

    assert run_task(task.task_id, work)
    task.refresh_from_db()
    assert seen == [{}, {"step": 1}]
    assert (task.status, task.finished_message, task.attempts) == (Status.FINISHED, "done", 1)


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


def test_cancelling(world: World, task: Task) -> None:
    client, address = world.client("reader"), f"/api/tasks/{task.task_id}"

    def work(claimed: Task, progress: Progress) -> Result:
        progress.report(0, "working")
        default_storage.save(f"exports/{claimed.task_id}/part", ContentFile(b"half"))
        assert client.delete(address).status_code == 204
        default_storage.save(f"exports/{claimed.task_id}/part", ContentFile(b"more"))
        progress.report(1, "still working")
        raise AssertionError("a cancelled task was worked on")

    assert run_task(task.task_id, work)
    seen = shown(world, task)
    assert (seen["status"], seen["errorMessage"]) == ("error", "Cancelled by its owner.")
    assert not default_storage.exists(f"exports/{task.task_id}")
    # Now it has ended: it goes for good.
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404
    assert client.delete(address).status_code == 404


def test_a_result_that_comes_after_the_end_leaves_no_file(world: World, task: Task) -> None:
    def work(claimed: Task, progress: Progress) -> Result:
        assert world.client("reader").delete(f"/api/tasks/{task.task_id}").status_code == 204
        return Result("done", default_storage.save(f"exports/{claimed.task_id}/x", ContentFile(b"PK")))

    run_task(task.task_id, work)
    assert shown(world, task)["status"] == "error"
    assert not default_storage.exists(f"exports/{task.task_id}")


def test_a_worker_that_comes_back_from_the_dead_spoils_nothing(world: World, task: Task) -> None:
    """It was taken for dead and another one has finished the task; its own result is one too many."""

    def save(claimed: Task, progress: Progress) -> Result:
        key = default_storage.save(f"exports/{claimed.task_id}", ContentFile(b"PK"))
        return Result("done", key, DownloadFileType.ZIP)

    def sleep_long(claimed: Task, progress: Progress) -> Result:
        Task.objects.update(claimed_by="")
        assert run_task(task.task_id, save)
        return save(claimed, progress)

    assert run_task(task.task_id, sleep_long)
    task.refresh_from_db()
    assert task.status == Status.FINISHED
    _, left = default_storage.listdir("exports")
    assert [f"exports/{name}" for name in left] == [task.result_key]


def test_removing_an_ended_task_removes_its_file(world: World, task: Task) -> None:
    def work(claimed: Task, progress: Progress) -> Result:
        key = default_storage.save(f"exports/{claimed.task_id}/x", ContentFile(b"PK"))
        return Result("done", key, DownloadFileType.ZIP)

    run_task(task.task_id, work)
    assert default_storage.exists(Task.objects.get().result_key)
    assert world.client("reader").delete(f"/api/tasks/{task.task_id}").status_code == 204
    assert not Task.objects.exists()
    assert not default_storage.exists(f"exports/{task.task_id}")


def test_so_many_at_once_and_the_oldest_first(world: World) -> None:
    reader, viewer = world.user("reader"), world.user("viewer")
    tasks = [make_task(reader, run_by=LIMITED, created_at=clock.now() + timedelta(seconds=n)) for n in range(4)]
    # Messages may come in any order.
    claimed = [claim(tasks[n].task_id) for n in (3, 1)]
    assert [c and c.task_id for c in claimed] == [tasks[0].task_id, tasks[1].task_id]
    assert claim(tasks[3].task_id) is None
    assert shown(world, tasks[3])["message"].startswith("Waiting: 2 of your tasks are running")
    assert shown(world, tasks[3])["status"] == "processing"
    # Somebody else is not held up by that.
    assert claim(make_task(viewer, run_by=LIMITED).task_id) is not None
    before = clock.now()
    world.client("reader").delete(f"/api/tasks/{tasks[0].task_id}")
    tasks[2].refresh_from_db()
    assert tasks[2].queued_at is not None
    assert tasks[2].queued_at >= before
    third = claim(tasks[2].task_id)
    assert third is not None
    assert third.task_id == tasks[2].task_id
    assert claim(tasks[3].task_id) is None


@pytest.mark.django_db(transaction=True)
def test_claims_that_race() -> None:
    world = make_world()
    tasks = [make_task(world.user("reader"), run_by=LIMITED) for _ in range(6)]
    start = threading.Barrier(12)
    claimed: list[Task | None] = []

    def work(task: Task) -> None:
        start.wait()
        claimed.append(claim(task.task_id))
        connections.close_all()

    threads = [threading.Thread(target=work, args=(task,)) for task in tasks for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 12
    assert len({task.task_id for task in claimed if task is not None}) == 2
    assert sum(task is not None for task in claimed) == 2


def test_tasks_whose_messages_were_lost_are_queued_again(world: World) -> None:
    reader = world.user("reader")
    long_ago = clock.now() - timedelta(hours=1)
    tasks = [make_task(reader, run_by=LIMITED, queued_at=long_ago) for _ in range(4)]
    fresh = make_task(reader, queued_at=clock.now())
    unknown = make_task(reader, run_by="tests.unknown", queued_at=long_ago)
    # Two may run at once: messages for more would find nothing to do.
    assert queueing.queue_again() == 2
    assert queueing.queue_again() == 0
    for task, again in zip([*tasks, fresh, unknown], [True, True, False, False, False, False], strict=True):
        queued_at = task.queued_at
        task.refresh_from_db()
        assert (task.queued_at != queued_at) == again
