"""The progress of tasks as server-sent events."""

from __future__ import annotations

import http.client
import json
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db.models.functions import Now
from django.test import Client

from cases.demo.phantom import write_phantom
from casestore import clock
from casestore.tasks import reports
from casestore.tasks.models import Status, Task
from casestore.tasks.running import end
from tests.conftest import Web
from tests.test_import import run
from tests.world import World, make_world


@dataclass
class Event:
    name: str
    id: str
    data: dict[str, Any]

    @property
    def task(self) -> str:
        return str(self.data["taskId"])


def parse(stream: bytes) -> list[Event]:
    """As the HTML Standard says (9.2.6), of streams that hold nothing but our fields."""
    events = []
    for block in stream.decode().split("\n\n"):
        lines = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        fields = dict(lines)
        assert set(fields) in ({"event", "id", "data"}, {"retry"}, set()), block
        if "data" in fields:
            events.append(Event(fields["event"], fields["id"], json.loads(fields["data"])))
    return events


def listen(client: Any, last: str = "") -> list[Event]:
    answer = client.get("/api/tasks/report", headers={"Last-Event-ID": last} if last else {})
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/event-stream"
    assert answer["X-Accel-Buffering"] == "no"
    return parse(b"".join(answer.streaming_content))


@pytest.fixture
def at_once(settings: Any) -> None:
    """A stream ends when everything that is new was told."""
    settings.CASESTORE_REPORT_SECONDS = 0


def make_task(world: World, by: str = "reader", **fields: Any) -> Task:
    return Task.objects.create(**{"owner": world.user(by), "name": "Count", "total": 3, **fields})


def finish(task: Task, message: str = "done") -> None:
    end(Task.objects.filter(pk=task.pk), Status.FINISHED, finished_message=message, finished=3)


def test_what_runs_and_what_has_just_ended(world: World, at_once: None) -> None:
    running = make_task(world, message="Packing.", finished=1, bytes_done=100, bytes_total=1000, updated_at=clock.now())
    Task.objects.update(measured_at=clock.now() - timedelta(seconds=10))
    ended, failed, old = make_task(world), make_task(world), make_task(world)
    finish(ended)
    end(Task.objects.filter(pk=failed.pk), Status.ERROR, error_message="It failed.")
    finish(old)
    Task.objects.filter(pk=old.pk).update(ended_at=clock.now() - timedelta(hours=1))
    make_task(world, "viewer")
    events = {event.task: event for event in listen(world.client("reader"))}
    assert set(events) == {running.task_id, ended.task_id, failed.task_id}
    assert events[running.task_id].name == "progress"
    assert events[running.task_id].data == {
        "taskId": running.task_id,
        "message": "Packing.",
        "finished": 1,
        "total": 3,
        "bytesDone": 100,
        "bytesTotal": 1000,
        "remainingSeconds": 90,
    }
    shown = world.client("reader").get(f"/api/tasks/{running.task_id}").json()
    assert events[running.task_id].data == {name: shown[name] for name in events[running.task_id].data}
    finished, error = events[ended.task_id], events[failed.task_id]
    assert (finished.name, finished.data["message"], finished.data["finished"]) == ("finish", "done", 3)
    assert (error.name, error.data["message"]) == ("error", "It failed.")


@pytest.mark.parametrize("seed", range(5))
def test_no_end_is_missed_and_none_is_told_twice(world: World, at_once: None, seed: int) -> None:
    """However often the client is cut off, in the middle of whatever was being sent, and however late rows appear."""
    choose = random.Random(seed)
    client = world.client("reader")
    tasks = [make_task(world) for _ in range(40)]
    # From the first event on, that there is an id.
    last = listen(client)[-1].id
    heard: list[str] = []
    waiting = list(tasks)
    while waiting or len(heard) < len(tasks):
        for task in waiting[: choose.randrange(6)]:
            waiting.remove(task)
            finish(task)
            # The row becomes visible some seconds after the time that it holds.
            late = timedelta(seconds=choose.choice([0, 0, 1, 8]))
            Task.objects.filter(pk=task.pk).update(ended_at=Now() - late)
        events = listen(client, last)
        if events:
            events = events[: choose.randrange(1, len(events) + 1)]
            heard += [event.task for event in events if event.name == "finish"]
            last = events[-1].id
            assert len(last) < 4000
    assert sorted(heard) == sorted(task.task_id for task in tasks)
    assert listen(client, last) == []


def test_a_client_that_was_away_for_long(world: World, at_once: None) -> None:
    client = world.client("reader")
    tasks = [make_task(world) for _ in range(5)]
    last = listen(client)[-1].id
    for hours, task in enumerate(tasks):
        finish(task)
        Task.objects.filter(pk=task.pk).update(ended_at=Now() + timedelta(hours=hours))
    heard = []
    for _ in tasks:
        event = listen(client, last)[0]
        heard.append(event.task)
        last = event.id
    assert heard == [task.task_id for task in tasks]
    assert listen(client, last) == []


@pytest.mark.parametrize("last", ["x", "1" * 18, "-1", "1.2.3", "1." + "a" * 25, "٣", "0" * 5000])
def test_ids_that_are_not_ours(world: World, at_once: None, last: str) -> None:
    task = make_task(world)
    finish(task)
    answer = world.client("reader").get("/api/tasks/report", HTTP_LAST_EVENT_ID=last)
    assert [event.task for event in parse(b"".join(answer.streaming_content))] == [task.task_id]


def test_one_query_for_all_tasks(world: World, django_assert_num_queries: Any) -> None:
    for _ in range(20):
        make_task(world)
    news = reports.News(world.user("reader"), "")
    with django_assert_num_queries(1):
        assert len(list(news.look())) == 20
    with django_assert_num_queries(1):
        assert list(news.look()) == []


def test_a_disabled_user_hears_nothing_more(world: World) -> None:
    make_task(world)
    news = reports.News(world.user("reader"), "")
    assert len(list(news.look())) == 1
    reader = world.user("reader")
    reader.is_active = False
    reader.save()
    Task.objects.update(message="secret")
    assert list(news.look()) == []


def test_who_may_listen(world: World, at_once: None) -> None:
    answer = world.client(None).get("/api/tasks/report", headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/json")
    assert answer.json()["code"] == "not_authenticated"
    # A browser's EventSource has a session and no token.
    browser = Client()
    assert browser.login(username="reader@example.com", password="reader-pass")
    task = make_task(world)
    assert [event.task for event in listen(browser)] == [task.task_id]
    assert world.client("reader").head("/api/tasks/report")["Content-Type"] == "text/event-stream"
    assert world.client("reader").post("/api/tasks/report").status_code == 405


def open_stream(web: Web, token: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(web.url).netloc, timeout=30)
    connection.request("GET", "/api/tasks/report", headers={"Authorization": f"Bearer {token}"})
    return connection, connection.getresponse()


def test_streams_never_starve_the_web_server(web: Web) -> None:
    """Many more listeners than threads, of one user and of several, and everybody is served."""
    world = make_world()
    make_task(world)
    streams = [
        open_stream(web, world.tokens[name]) for name in ("reader", "viewer", "writer", "nobody") for _ in range(15)
    ]
    try:
        for _ in range(20):
            assert web.curl("--max-time", "10", f"{web.url}/api/health", token=world.tokens["reader"])
        assert {answer.status for _, answer in streams} == {200}
        # Those who found no room were told what there is, and that they should come again.
        first = [(answer.readline(), answer) for _, answer in streams[:15]]
        without = [answer.read() for line, answer in first if line == b"retry: %d\n" % reports.RETRY_WITHOUT_ROOM]
        assert len(without) >= 15 - 2 * reports.MOST_OF_ONE
        assert all(b"event: progress\n" in text for text in without)
        assert len([line for line, _ in first if line == b"retry: %d\n" % reports.RETRY]) == 15 - len(without)
    finally:
        for connection, answer in streams:
            answer.close()
            connection.close()
    # Their room is free again, soon after they have gone.
    deadline = time.monotonic() + 60
    while True:
        connection, answer = open_stream(web, world.tokens["reader"])
        held = answer.readline() == b"retry: %d\n" % reports.RETRY
        answer.close()
        connection.close()
        if held:
            break
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_an_export_is_followed_to_its_end(web: Web, worker: Path, tmp_path: Path) -> None:
    """By curl, which prints what it hears, and comes back as an EventSource does."""
    world = make_world()
    phantom = write_phantom(tmp_path / "in", size=(64, 64, 20))
    run(tmp_path / "in", spool=tmp_path)
    case = world.case(phantom.series_uid)
    answer = world.client("everything").post("/api/cases/export-mhd", {"caseIds": [case.case_id]})
    deadline = time.monotonic() + 60
    events: list[Event] = []
    while not any(event.name == "finish" for event in events):
        assert time.monotonic() < deadline, events
        last = ("-H", f"Last-Event-ID: {events[-1].id}") if events else ()
        words = ("-N", "--max-time", "3", *last, f"{web.url}/api/tasks/report")
        heard = web.curl(*words, token=world.tokens["everything"], check=False)
        events += parse(heard[: heard.rfind(b"\n\n") + 2])
    (finish,) = [event for event in events if event.name == "finish"]
    assert finish.task == answer.json()["taskId"]
    assert finish.data["finished"] == finish.data["total"] == 1
    assert events[-1] is finish
