"""Downloads of archives: ranges, conditions, rights, and a real curl that goes on where it was cut."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils.http import http_date
from hypothesis import given
from hypothesis import strategies as st

from cases.models import Project
from casestore import clock
from casestore.accounts.models import GlobalPrivilege
from casestore.tasks.models import DownloadFileType, Task
from casestore.tasks.ranges import Unsatisfiable, requested_range
from casestore.tasks.services import Result, run_task
from tests.conftest import Web
from tests.world import OTHER_PROJECT, PROJECT, World, make_world

DATA = bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("Bytes = 10-19 ", (10, 20)),
        ("bytes=99-", (99, 100)),
        ("bytes=10-5000", (10, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-5000", (0, 100)),
        ("bytes=,10-19,", (10, 20)),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2-3", None),
        ("lines=0-1", None),
        ("bytes", None),
        ("", None),
        ("bytes=٣-", None),
        (f"bytes={'9' * 50}-", None),
    ],
)
def test_ranges(header: str, expected: tuple[int, int] | None) -> None:
    assert requested_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", f"bytes={'9' * 18}-"])
def test_ranges_outside(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        requested_range(header, 100)


@given(st.text(max_size=20) | st.from_regex(r"bytes=[0-9]{0,3}-[0-9]{0,3}(,[0-9]{0,3}-)?"), st.integers(0, 300))
def test_a_range_is_part_of_the_file(header: str, size: int) -> None:
    try:
        found = requested_range(header, size)
    except Unsatisfiable:
        return
    if found is not None:
        start, stop = found
        assert 0 <= start < stop <= size


def finished_task(world: World, data: bytes = DATA, by: str = "everything", projects: Any = (PROJECT,)) -> Task:
    found = Project.objects.filter(project_id__in=projects).values_list("pk", flat=True)
    parameters = {"entries": [{"project": pk} for pk in found]}
    task = Task.objects.create(
        owner=world.user(by), name="Export", run_by="exports.export_mhd", parameters=parameters, total=1
    )

    def work(claimed: Task, progress: Any) -> Result:
        key = default_storage.save(f"exports/{claimed.task_id}/archive", ContentFile(data))
        return Result("Exported.", key, DownloadFileType.GZIP)

    assert run_task(task.task_id, work)
    task.refresh_from_db()
    assert task.status == "finished", task.error_message
    return task


def address(task: Task) -> str:
    return f"/api/tasks/{task.task_id}/download"


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def get(client: Any, task: Task, **headers: str) -> Any:
    """The answer; its `data` are the bytes that it sends, or what an error says."""
    answer = client.get(address(task), headers=headers)
    if not hasattr(answer, "data"):
        answer.data = body(answer)
    return answer


def test_whole(world: World) -> None:
    task = finished_task(world)
    client = world.client("everything")
    answer = client.get(address(task))
    assert answer.status_code == 200
    assert body(answer) == DATA
    assert answer["ETag"] == f'"{hashlib.sha256(DATA).hexdigest()}"' == f'"{task.sha256}"'
    assert answer["Content-Length"] == str(len(DATA)) == str(task.size)
    assert answer["Content-Type"] == "application/gzip"
    assert answer["Content-Disposition"] == f'attachment; filename="{task.task_id}.tar.gz"'
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["Cache-Control"] == "private, no-store"
    head = client.head(address(task), headers={"range": "bytes=5-9"})
    assert (head.status_code, body(head)) == (200, b"")
    for name in ("ETag", "Content-Length", "Content-Type", "Content-Disposition", "Accept-Ranges", "Last-Modified"):
        assert head[name] == answer[name]


def test_parts(world: World) -> None:
    task = finished_task(world)
    client = world.client("everything")
    for header, start, stop in (
        ("bytes=5-9", 5, 10),
        ("bytes=-7", len(DATA) - 7, len(DATA)),
        ("bytes=100-", 100, len(DATA)),
    ):
        answer = client.get(address(task), headers={"range": header})
        assert answer.status_code == 206
        assert body(answer) == DATA[start:stop]
        assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
        assert answer["Content-Length"] == str(stop - start)
    for header in ("bytes=0-1,3-4", "lines=1-2"):
        answer = client.get(address(task), headers={"range": header})
        assert (answer.status_code, body(answer)) == (200, DATA)
        assert "Content-Range" not in answer
    answer = client.get(address(task), headers={"range": f"bytes={len(DATA)}-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer["Content-Range"] == f"bytes */{len(DATA)}"


def test_conditions(world: World) -> None:
    task = finished_task(world)
    client = world.client("everything")
    whole = client.get(address(task))
    body(whole)
    etag, modified = whole["ETag"], whole["Last-Modified"]
    earlier = http_date(clock.now().timestamp() - 100_000)

    def ask(**headers: str) -> Any:
        return get(client, task, **{name.replace("_", "-"): value for name, value in headers.items()})

    part, other = "bytes=5-9", '"0"'
    for condition, status in (
        (etag, 206),
        (modified, 206),
        (other, 200),
        (f"W/{etag}", 200),
        (earlier, 200),
        ("?", 200),
    ):
        answer = ask(range=part, if_range=condition)
        assert answer.status_code == status, condition
        assert answer.data == (DATA[5:10] if status == 206 else DATA)
    # Without a range it says nothing.
    assert ask(if_range=other).status_code == 200
    for condition in (etag, f"{other}, W/{etag}", "*"):
        answer = ask(if_none_match=condition, range=part)
        assert (answer.status_code, answer.data, answer["ETag"]) == (304, b"", etag)
        assert "Content-Length" not in answer.headers
    assert ask(if_modified_since=modified).status_code == 304
    assert ask(if_modified_since=earlier).status_code == 200
    assert ask(if_none_match=other, if_modified_since=modified).status_code == 200
    answer = ask(if_match=other, range=part)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert ask(if_match=etag, range=part).status_code == 206
    assert ask(if_unmodified_since=earlier).status_code == 412


def test_rights_are_checked_again(world: World) -> None:
    """Who lost a right since the export may not have the archive; who gets it back may."""
    world.user("annotator")
    task = finished_task(world, by="annotator")
    client = world.client("annotator")
    assert get(client, task).status_code == 200
    group = Group.objects.get(name="annotator")
    group.project_roles.filter(role="read").delete()
    answer = get(client, task)
    assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_privilege")
    assert answer.json()["error"] == 'You do not have "read" privilege of this project.'
    assert client.head(address(task)).status_code == 401
    group.project_roles.create(role="read", project=Project.objects.get(project_id=PROJECT))
    assert get(client, task).status_code == 200
    GlobalPrivilege.objects.filter(group=group, privilege="downloadVolume").delete()
    assert get(client, task).status_code == 401
    # One of two projects is not enough, nor a project that is gone.
    GlobalPrivilege.objects.create(group=group, privilege="downloadVolume")
    both = finished_task(world, by="annotator", projects=(PROJECT, OTHER_PROJECT))
    assert get(client, both).status_code == 401
    nothing = finished_task(world, by="annotator", projects=())
    assert get(client, nothing).status_code == 401


def test_expired(world: World) -> None:
    task = finished_task(world)
    client = world.client("everything")
    assert client.get(f"/api/tasks/{task.task_id}").json()["downloadUrl"] == address(task)
    Task.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    answer = client.get(address(task))
    assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    assert client.get(f"/api/tasks/{task.task_id}").json()["downloadUrl"] is None


def test_a_file_that_is_gone(world: World) -> None:
    task = finished_task(world)
    default_storage.delete(task.result_key)
    answer = world.client("everything").get(address(task))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_behind_nginx(world: World, settings: Any) -> None:
    """What nginx would do otherwise than we is ours; tests/test_nginx.py tries the rest with a real one."""
    settings.CASESTORE_ACCEL_REDIRECT = "/protected/"
    task = finished_task(world)
    client, etag = world.client("everything"), f'"{task.sha256}"'
    answer = get(client, task, range="bytes=5-9")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer["X-Accel-Redirect"] == f"/protected/exports/{task.task_id}/archive"
    assert answer["Content-Type"] == "application/gzip"
    assert answer["Content-Disposition"] == f'attachment; filename="{task.task_id}.tar.gz"'
    assert answer["ETag"] == etag
    # Ranges are nginx's own.
    assert not {"Last-Modified", "Content-Range", "Accept-Ranges"} & set(answer.headers)
    for headers, status in (
        ({"if-none-match": etag}, 304),
        ({"if-match": '"0"'}, 412),
        ({"if-match": etag, "range": "bytes=5-9"}, 206),
        ({"range": f"bytes={len(DATA)}-"}, 416),
    ):
        answer = client.get(address(task), headers=headers)
        assert (answer.status_code, "X-Accel-Redirect" in answer) == (status, False)
        body(answer)
    head = client.head(address(task))
    assert (head["Content-Length"], "X-Accel-Redirect" in head) == (str(len(DATA)), False)
    assert world.client("reader").get(address(task)).status_code == 401
    default_storage.delete(task.result_key)
    assert client.get(address(task)).status_code == 404


def test_curl_goes_on_after_a_cut(web: Web, tmp_path: Path) -> None:
    world = make_world()
    data = os.urandom(7_654_321)
    task = finished_task(world, data)
    token, url = world.tokens["everything"], web.url + address(task)
    target = tmp_path / "archive.tar.gz"
    for cut in (0, 1, 2_000_000, len(data) - 1, len(data)):
        # The pipe closes in the middle: curl is cut off.
        with target.open("wb") as file:
            command = f"curl -sS -H 'Authorization: Bearer {token}' '{url}' | head -c {cut}"
            subprocess.run(["bash", "-c", command], stdout=file, stderr=subprocess.DEVNULL, check=True)
        assert target.stat().st_size == cut
        web.curl("-C", "-", "-o", str(target), url, token=token, check=cut < len(data))
        assert target.read_bytes() == data, cut
    target.write_bytes(data[:1000])
    headers = ("-H", "Range: bytes=1000-", "-H", f'If-Range: "{task.sha256}"')
    assert target.read_bytes() + web.curl(*headers, url, token=token) == data
    web.curl("-OJ", "--output-dir", str(tmp_path), url, token=token)
    assert (tmp_path / f"{task.task_id}.tar.gz").read_bytes() == data
    head = web.curl("-I", url, token=token).decode()
    assert f"content-length: {len(data)}" in head.lower()
