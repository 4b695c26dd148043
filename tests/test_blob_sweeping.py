"""Blobs that nothing refers to are swept, and nothing else ever is."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases import label_bits
from cases.models import Blob, BlobUpload, Case, Label
from cases.services import blob_sweeping
from cases.services.bin import purge_bin
from cases.services.blob_sweeping import sweep_blobs
from cases.services.blobs import read_blob
from casestore import clock
from casestore.errors import NotFound
from casestore.storage import AtomicFileSystemStorage
from tests.blobs import age, age_file, append, is_whole, label, mask, path_of
from tests.dumps import case as case_record
from tests.dumps import import_circus
from tests.test_import_circus_again import PROJECT, at, bits, dump, sha, voxel
from tests.world import World, revision


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
