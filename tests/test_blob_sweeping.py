"""Blobs that nothing refers to are swept, and nothing else ever is, whatever happens at that moment."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from cases import label_bits
from cases.models import Blob, BlobUpload, Case, Label
from cases.services import blob_sweeping
from cases.services.bin import purge_bin
from cases.services.blob_sweeping import sweep_blobs
from cases.services.blobs import read_blob, store_blob
from casestore import clock
from casestore.errors import NotFound
from casestore.storage import AtomicFileSystemStorage
from tests.dumps import case as case_record
from tests.dumps import import_circus, write_lines
from tests.test_import_circus_again import PROJECT, at, bits, dump, sha, voxel
from tests.world import World, make_world, revision, voxel_label

SIDE = 5


def mask(number: int) -> np.ndarray:
    """Another one for each number."""
    voxels = np.unpackbits(np.array([number], ">u4").view(np.uint8))
    return np.resize(voxels, (SIDE, SIDE, SIDE)).astype(bool)


def label(sha1: str) -> dict[str, Any]:
    return voxel_label(sha1, [0, 0, 0], [SIDE, SIDE, SIDE])


def append(world: World, case: Case, *sha1s: str) -> int:
    body = revision([{"seriesUid": "1.2.3", "labels": [label(sha1) for sha1 in sha1s]}])
    answer = world.client("annotator").post(f"/api/cases/{case.case_id}/revision", body)
    if answer.status_code == 400:
        assert answer.json()["validationErrors"][0]["message"] == "There is no such blob."
    return int(answer.status_code)


def path_of(sha1: str) -> Path:
    return Path(default_storage.path(f"blobs/{sha1[:2]}/{sha1}"))


def age(*sha1s: str, days: float = 31) -> None:
    assert Blob.objects.filter(pk__in=sha1s).update(stored_at=clock.now() - timedelta(days=days)) == len(sha1s)


def age_file(path: Path, days: float = 2) -> None:
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))


def is_whole(sha1: str) -> bool:
    """Here or gone, its row and its file alike."""
    here = Blob.objects.filter(pk=sha1).exists()
    assert path_of(sha1).exists() == here
    return here


def test_what_is_old_and_unused_goes(world: World) -> None:
    world.series()
    used, unused, young, renewed = (world.blob(mask(n), by="annotator") for n in range(4))
    world.blob(mask(1), by="reader")
    assert append(world, world.case(), used) == 201
    age(used, unused, renewed)
    age(young, days=29)
    for sha1 in (used, unused, young, renewed):
        age_file(path_of(sha1), days=50)
    world.blob(mask(3), by="annotator")
    assert sweep_blobs() == 1
    assert [is_whole(sha1) for sha1 in (used, unused, young, renewed)] == [True, False, True, True]
    assert not BlobUpload.objects.filter(blob=unused).exists()
    assert world.client("annotator").get(f"/api/blob/{unused}").status_code == 404
    assert world.client("annotator").get(f"/api/blob/{used}").content == label_bits.pack(mask(0))
    assert append(world, Case.objects.get(), unused) == 400
    # It can be stored again, as if it had never been here.
    assert world.blob(mask(1), by="annotator") == unused
    assert append(world, Case.objects.get(), unused) == 201
    assert sweep_blobs() == 0


def test_when_it_was_stored_last_counts_whoever_stored_it(world: World) -> None:
    sha1 = world.blob(mask(0), by="annotator")
    age(sha1)
    world.blob(mask(0), by="reader")
    assert sweep_blobs() == 0
    assert is_whole(sha1)


def test_days(world: World, settings: Any) -> None:
    sha1 = world.blob(mask(0))
    age(sha1, days=5000)
    settings.CASESTORE_BLOB_DAYS = 0
    assert sweep_blobs() == 0
    settings.CASESTORE_BLOB_DAYS = 5001
    assert sweep_blobs() == 0
    settings.CASESTORE_BLOB_DAYS = 4999
    said = io.StringIO()
    call_command("sweep_files", stdout=said)
    assert said.getvalue() == "1 files and blobs removed.\n"
    assert not is_whole(sha1)


def test_those_of_a_purged_case_go_unless_another_has_them(world: World) -> None:
    world.series()
    both, one = world.blob(mask(0)), world.blob(mask(1))
    first, second = world.case(by="everything"), world.case(by="everything")
    body = revision([{"seriesUid": "1.2.3", "labels": [label(both), label(one)]}])
    assert world.client("everything").post(f"/api/cases/{first.case_id}/revision", body).status_code == 201
    body = revision([{"seriesUid": "1.2.3", "labels": [label(both)]}])
    assert world.client("everything").post(f"/api/cases/{second.case_id}/revision", body).status_code == 201
    age(both, one)
    # In the bin it still has them: it may be restored.
    assert world.client("everything").delete(f"/api/cases/{first.case_id}").status_code == 204
    assert sweep_blobs() == 0
    Case.objects.filter(pk=first.pk).update(deleted_at=clock.now() - timedelta(days=31))
    assert purge_bin() == 1
    assert sweep_blobs() == 1
    assert is_whole(both)
    assert not is_whole(one)


def test_imported_voxels_wait_for_their_cases_and_cases_for_their_voxels(db: None, tmp_path: Path) -> None:
    """Either may come first; nobody stored them, and no label refers to them yet."""
    early, late = bits(2, 2, 2), bits(3, 3, 3)
    folder = tmp_path / "blobs"
    folder.mkdir()
    labels = [voxel(sha(early), [0, 0, 0], [2, 2, 2]), voxel(sha(late), [0, 0, 0], [3, 3, 3])]
    (folder / sha(early)).write_bytes(early)
    import_circus(dump(tmp_path, clinicalCases=[]))
    age(sha(early))
    # As it comes again, its time begins again.
    import_circus(tmp_path)
    assert sweep_blobs() == 0
    import_circus(dump(tmp_path, case_record("c", PROJECT, at(1, labels=labels))))
    # The voxels that a label has been waiting for come without the label, and stay until it is there again.
    (folder / sha(late)).write_bytes(late)
    import_circus(dump(tmp_path, clinicalCases=[]))
    age(sha(early), sha(late))
    assert sweep_blobs() == 0
    (folder / sha(late)).unlink()
    import_circus(dump(tmp_path, case_record("c", PROJECT, at(1, labels=labels))))
    assert set(Label.objects.values_list("blob", flat=True)) == {sha(early), sha(late)}
    assert is_whole(sha(late))


def test_files_without_a_row(world: World, settings: Any) -> None:
    """What a crash leaves of storing one, or of sweeping one."""
    settings.CASESTORE_BLOB_DAYS = 0
    kept = world.blob(mask(0))
    old, young = path_of("ab" + "0" * 38), path_of("ab" + "1" * 38)
    old.parent.mkdir(parents=True, exist_ok=True)
    partial = path_of(kept).with_name(f".{kept}.123456789abc.part")
    for path in (old, young, partial):
        path.write_bytes(b"x")
    for path in (path_of(kept), old, partial):
        age_file(path)
    assert sweep_blobs() == 2
    assert [path.exists() for path in (path_of(kept), old, partial, young)] == [True, False, False, True]


def test_a_file_that_cannot_be_removed_hinders_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, other = sorted(world.blob(mask(n)) for n in range(2))
    age(stuck, other)
    for sha1 in (stuck, other):
        age_file(path_of(sha1))
    delete = AtomicFileSystemStorage.delete

    def refuse(self: Any, name: str) -> None:
        if name.endswith(stuck):
            raise PermissionError
        delete(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicFileSystemStorage, "delete", refuse)
        assert sweep_blobs() == 2
        assert not is_whole(other)
        assert path_of(stuck).exists()
    assert sweep_blobs() == 1
    assert not is_whole(stuck)


def test_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.series()
    monkeypatch.setattr(blob_sweeping, "BATCH", 3)
    blobs = sorted(world.blob(mask(n), by="annotator") for n in range(10))
    used = blobs[::3]
    assert append(world, world.case(), *used) == 201
    age(*blobs)
    assert sweep_blobs() == 6
    assert [is_whole(sha1) for sha1 in blobs] == [sha1 in used for sha1 in blobs]


def test_used_blobs_cost_no_statement_each(world: World, settings: Any) -> None:
    world.series()
    case = world.case()
    counts = []
    for numbers in (range(1), range(1, 20)):
        assert append(world, case, *(world.blob(mask(n), by="annotator") for n in numbers)) == 201
        age(*Blob.objects.values_list("pk", flat=True))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert blob_sweeping._sweep_rows() == 0
        counts.append(len(queries))
    assert counts == [1, 1]


def test_swept_while_it_is_read(world: World) -> None:
    sha1 = world.blob(mask(0))
    blob = Blob.objects.get()
    path = path_of(sha1)
    age(sha1)
    assert sweep_blobs() == 1
    with pytest.raises(NotFound):
        read_blob(blob)
    # A row whose file is lost is something else, and must not look as if nothing were wrong.
    world.blob(mask(0))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_blob(blob)


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
        if act is store_only:
            status = append(world, case, sha1)
        check(world, sha1, data, status)
        outcomes.add((swept, status))
        if not stopped:
            break
        assert sweep_blobs() == 0
    # Both have been first; and who had stored the blob could always refer to it.
    assert outcomes == ({(0, 201), (1, 400)} if act is append_only else {(0, 201), (1, 201)})
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
        if act is store_only:
            status = append(world, case, sha1)
        check(world, sha1, data, status)
        outcomes.add((swept, status))
        if not stopped:
            break
        assert sweep_blobs() == 0
    assert outcomes == ({(0, 201), (1, 400)} if act is append_only else {(0, 201), (1, 201)})
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
