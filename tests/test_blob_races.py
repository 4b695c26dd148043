"""The sweep of label voxels against everybody who stores or uses them, at every moment of either."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import connection, connections

from cases import label_bits
from cases.models import Blob, Case, Label
from cases.services.blob_sweeping import sweep_blobs
from cases.services.blobs import store_blob
from casestore.storage import AtomicFileSystemStorage
from tests.blobs import SIDE, age, age_file, append, is_whole, mask, path_of
from tests.dumps import case as case_record
from tests.dumps import import_circus, write_lines
from tests.test_import_circus_again import PROJECT, at, dump, sha, voxel
from tests.world import World, make_world


class Stepped:
    """Work in a thread of its own, with its own connection, that stops at one of its steps until it is told to go on.

    A step is the time just before or after a statement, or before or after it looks for, writes or removes a file. So
    running it once for each step, until it ends without having stopped, meets every moment that there is.
    """

    current = threading.local()

    def __init__(self, work: Callable[[], int], stop: int = 0) -> None:
        self._work, self._stop, self._steps = work, stop, 0
        self._go, self.waiting = threading.Event(), threading.Event()
        self.stopped, self.result = False, -1
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        Stepped.current.one = self
        try:
            with connection.execute_wrapper(self._execute):
                self.result = self._work()
        finally:
            connections.close_all()
            self.waiting.set()

    def _execute(self, execute: Any, *arguments: Any) -> Any:
        return self.around(lambda: execute(*arguments))

    def around(self, act: Callable[[], Any]) -> Any:
        self._step()
        answer = act()
        self._step()
        return answer

    def _step(self) -> None:
        self._steps += 1
        if self._steps == self._stop:
            self.stopped = True
            self.waiting.set()
            assert self._go.wait(60)

    def until_it_stops(self) -> bool:
        """Whether it did, instead of ending."""
        assert self.waiting.wait(60)
        return self.stopped

    def until_it_ends_or_waits_for_a_lock(self) -> None:
        deadline = time.monotonic() + 60
        while not self.waiting.wait(0.002) and not _somebody_waits():
            assert time.monotonic() < deadline

    def end(self) -> int:
        self._go.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.result


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )
        return bool(cursor.fetchone()[0])


@pytest.fixture
def file_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("exists", "_save", "delete"):
        act = getattr(AtomicFileSystemStorage, name)

        def stepped(self: Any, *arguments: Any, act: Any = act) -> Any:
            one = getattr(Stepped.current, "one", None)
            return one.around(lambda: act(self, *arguments)) if one else act(self, *arguments)

        monkeypatch.setattr(AtomicFileSystemStorage, name, stepped)


def moments() -> Iterator[tuple[int, np.ndarray]]:
    """A step to stop at, and another mask for each. Their files share a folder, so that a sweep has as many steps."""
    alike = (data for n in count() if sha(label_bits.pack(data := mask(n))).startswith("00"))
    yield from zip(range(1, 300), alike, strict=False)
    pytest.fail("it never ends")


def races(world: World) -> Iterator[tuple[int, str, np.ndarray]]:
    """As above, each stored: the sweep is about to take it."""
    for step, data in moments():
        sha1 = world.blob(data, by="annotator")
        age(sha1)
        yield step, sha1, data


def check(world: World, sha1: str, data: np.ndarray, status: int) -> None:
    """The label is there with its voxels, or there is none, and its writer was told."""
    assert status in {201, 400}
    assert Label.objects.filter(blob=sha1).count() == (status == 201)
    assert is_whole(sha1) or status == 400
    if status == 201:
        assert world.client("annotator").get(f"/api/blob/{sha1}").content == label_bits.pack(data)


Actor = Callable[[World, Case, str, np.ndarray], int]


def append_only(world: World, case: Case, sha1: str, data: np.ndarray) -> int:
    return append(world, case, sha1)


def store_only(world: World, case: Case, sha1: str, data: np.ndarray) -> int:
    assert world.blob(data, by="annotator") == sha1
    return 201


def store_and_append(world: World, case: Case, sha1: str, data: np.ndarray) -> int:
    assert world.blob(data, by="annotator") == sha1
    return append(world, case, sha1)


# What was swept, and what an append says: each side has been first, and who had stored the blob could always refer to it.
BOTH_FIRST = {
    append_only: {(0, 201), (1, 400)},
    store_only: {(0, 201), (1, 201)},
    store_and_append: {(0, 201), (1, 201)},
}


def outcome(act: Actor, world: World, case: Case, sha1: str, data: np.ndarray, status: int) -> int:
    """What an append says in the end, be it that of `act` or one after it."""
    if act is store_only:
        status = append(world, case, sha1)
    check(world, sha1, data, status)
    return status


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("file_steps")
@pytest.mark.parametrize("act", [append_only, store_only, store_and_append])
def test_a_sweep_stopped_at_any_moment(act: Actor) -> None:
    """Whoever stores the blob, or refers to it, does so meanwhile, or has to wait for the sweep."""
    world = make_world()
    world.series()
    case = world.case()
    outcomes = set()
    for step, sha1, data in races(world):
        sweep = Stepped(sweep_blobs, step)
        stopped = sweep.until_it_stops()
        other = Stepped(lambda sha1=sha1, data=data: act(world, case, sha1, data))  # type: ignore[misc]
        other.until_it_ends_or_waits_for_a_lock()
        swept, status = sweep.end(), other.end()
        outcomes.add((swept, outcome(act, world, case, sha1, data, status)))
        if not stopped:
            break
        assert sweep_blobs() == 0
    assert outcomes == BOTH_FIRST[act]
    assert step > 15


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("file_steps")
@pytest.mark.parametrize("act", [append_only, store_only, store_and_append])
def test_a_sweep_at_any_moment_of_others(act: Actor) -> None:
    """The sweep waits for nobody: it has ended before the other goes on."""
    world = make_world()
    world.series()
    case = world.case()
    outcomes = set()
    for step, sha1, data in races(world):
        other = Stepped(lambda sha1=sha1, data=data: act(world, case, sha1, data), step)  # type: ignore[misc]
        stopped = other.until_it_stops()
        swept = sweep_blobs()
        status = other.end()
        outcomes.add((swept, outcome(act, world, case, sha1, data, status)))
        if not stopped:
            break
        assert sweep_blobs() == 0
    assert outcomes == BOTH_FIRST[act]
    assert step > 10


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("file_steps")
def test_a_sweep_of_files_stopped_at_any_moment() -> None:
    """A file without a row is about to go when its blob is stored: it is written again, or it stays."""
    world = make_world()
    stayed = set()
    for step, data in moments():
        sha1 = world.blob(data)
        Blob.objects.filter(pk=sha1).delete()
        age_file(path_of(sha1))
        sweep = Stepped(sweep_blobs, step)
        stopped = sweep.until_it_stops()
        other = Stepped(lambda data=data: len(world.blob(data)))  # type: ignore[misc]
        other.until_it_ends_or_waits_for_a_lock()
        stayed.add(not sweep.end())
        assert other.end() == 40
        assert is_whole(sha1)
        if not stopped:
            break
    assert stayed == {True, False}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("file_steps")
@pytest.mark.parametrize("with_voxels", [True, False])
def test_a_sweep_at_any_moment_of_an_import(tmp_path: Path, with_voxels: bool) -> None:
    """Labels have their voxels where the dump brings them; where an earlier one did, they do, or are without."""
    import_circus(dump(tmp_path / "first"))
    folder = tmp_path / "next" / "blobs"
    folder.mkdir(parents=True)
    had = set()
    for step, voxels in moments():
        data = label_bits.pack(voxels)
        sha1 = sha(data)
        store_blob(user=None, sha1=sha1, data=data)
        age(sha1)
        if with_voxels:
            for path in folder.iterdir():
                path.unlink()
            (folder / sha1).write_bytes(data)
        labels = [voxel(sha1, [0, 0, 0], [SIDE] * 3)]
        write_lines(tmp_path / "next", clinicalCases=[case_record(f"c{step}", PROJECT, at(1, labels=labels))])
        other = Stepped(lambda: len(import_circus(tmp_path / "next")), step)
        stopped = other.until_it_stops()
        sweep_blobs()
        assert other.end() > 0
        row = Label.objects.get(revision_series__revision__case__case_id=f"c{step}")
        assert row.blob_id in {sha1, None}
        assert is_whole(sha1) or row.blob_id is None
        had.add(row.blob_id is not None)
        if not stopped:
            break
    assert had == ({True} if with_voxels else {True, False})
    assert step > 20
