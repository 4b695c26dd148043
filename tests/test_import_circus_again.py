"""Importing into what is here already: cases grow, nothing is overwritten; voxels and images that come later."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from cases import label_bits
from cases.models import Blob, Case, Label, Revision, Series
from cases.services.series_import import import_dicom
from casestore.accounts.models import Domain
from mylists.models import MyList
from tests.dicom import SERIES_UID, image, write, write_series
from tests.dumps import case, date, group, import_circus, revision, series, user, write_lines
from tests.test_export import export
from tests.test_import import wait
from tests.test_import_circus import POINT, client, everything
from tests.world import World

PROJECT = "8883fdef6f5144f50eb2a83cd34baa44"
TOKEN = "token-of-alice"
PATIENT, LATER = {"patientId": "P1", "age": 40}, {"patientId": "P2", "age": 41}


def dump(folder: Path, *cases: dict[str, Any], **more: list[dict[str, Any]]) -> Path:
    """With a user, alice, who may do everything in the project; three series."""
    rights = {"privileges": ["personalInfoView", "downloadVolume"], "domains": ["vega.example"]}
    records: dict[str, list[dict[str, Any]]] = {
        "projects": [{"projectId": PROJECT, "projectName": "p"}, {"projectId": "other", "projectName": "o"}],
        "groups": [group(1, "g", [PROJECT, "other"], **rights)],
        "users": [user("alice", 1)],
        "series": [series("1.1", patientInfo=PATIENT), series("1.2", patientInfo=LATER), series("1.3")],
        "clinicalCases": list(cases),
        "tokens": [{"accessToken": TOKEN, "userId": "alice", "permanentTokenId": "t"}],
    }
    return write_lines(folder, **(records | more))


def days(number: int) -> dict[str, str]:
    return date(f"2022-01-{number:02d}T00:00:00.000Z")


def at(day: int, *uids: str, **more: Any) -> dict[str, Any]:
    return revision(*(uids or ["1.1"]), date=days(day), description=f"of day {day}", **more)


def get(case_id: str = "c") -> Any:
    answer: Any = client(TOKEN).get(f"/api/cases/{case_id}")
    assert answer.status_code == 200
    return answer.json()


def test_a_case_gets_the_revisions_that_it_lacks(db: None, tmp_path: Path) -> None:
    import_circus(dump(tmp_path, case("c", PROJECT, at(1), updatedAt=days(1), tags=["a"])))
    before = get()
    etag = client(TOKEN).get("/api/cases/c")["ETag"]
    keys = list(Revision.objects.values_list("pk", flat=True))
    said = import_circus(
        dump(tmp_path, case("c", PROJECT, at(1), at(2, "1.2"), at(3, "1.3"), updatedAt=days(4), tags=["b"]))
    )
    assert "clinicalCases.json: 0 imported, 1 changed, 0 unchanged, 0 refused." in said
    got = get()
    assert [made["description"] for made in got["revisions"]] == ["of day 1", "of day 2", "of day 3"]
    assert got["revisions"][0] == before["revisions"][0]
    assert list(Revision.objects.order_by("index").values_list("pk", flat=True))[:1] == keys
    # Of the newest revision that has one.
    assert got["patientInfo"] == LATER
    assert (got["updatedAt"], got["tags"], got["createdAt"]) == ("2022-01-04T00:00:00.000Z", ["b"], before["createdAt"])
    assert client(TOKEN).get("/api/cases/c")["ETag"] != etag
    (listed,) = client(TOKEN).get("/api/cases?" + 'filter={"patientInfo.age":41,"revisionCount":3}').json()
    assert listed["latestRevision"] == got["revisions"][2]
    # An older dump takes nothing away.
    before_again = everything()
    import_circus(dump(tmp_path, case("c", PROJECT, at(1), updatedAt=days(1), tags=["a"])))
    assert everything() == before_again


def test_what_went_on_here_is_never_lost(db: None, tmp_path: Path) -> None:
    import_circus(dump(tmp_path, case("c", PROJECT, at(1)), case("d", PROJECT, at(1))))
    body = {"description": "ours", "attributes": {}, "status": "draft", "series": [{"seriesUid": "1.1", "labels": []}]}
    assert client(TOKEN).post("/api/cases/c/revision", body).status_code == 201
    assert client(TOKEN).put("/api/cases/d/tags", ["ours"]).status_code == 204
    before = everything()
    newer = [case(name, PROJECT, at(1), at(2), tags=["theirs"], updatedAt=days(2)) for name in "c"]
    newer += [case("d", PROJECT, at(1), tags=["theirs"], updatedAt=days(2))]
    said = import_circus(dump(tmp_path, *newer))
    assert "refused clinicalCases.json:1 c: revisions[1]: The case is here already, with another such revision" in said
    assert "noted   clinicalCases.json:2 d: tags: The case is here already and keeps its own tags." in said
    assert everything() == before
    # Nor is it where the dump has no more than the beginning of it.
    import_circus(dump(tmp_path, case("c", PROJECT, at(1)), case("d", PROJECT, at(1))))
    assert everything() == before


def test_a_case_of_another_project_and_one_in_the_bin(db: None, tmp_path: Path) -> None:
    import_circus(dump(tmp_path, case("c", PROJECT, at(1)), case("d", PROJECT, at(1))))
    assert client(TOKEN).delete("/api/cases/d").status_code == 204
    before = everything()
    said = import_circus(dump(tmp_path, case("c", "other", at(1), at(2)), case("d", PROJECT, at(1), at(2))))
    assert "refused clinicalCases.json:1 c: projectId: The case is here already, in another project." in said
    assert "noted   clinicalCases.json:2 d: The case is in the bin here, and stays there as it is." in said
    assert everything() == before


def test_a_case_that_a_dump_has_twice(db: None, tmp_path: Path) -> None:
    twice = [
        case("c", PROJECT, at(1)),
        case("c", PROJECT, at(1)),
        case("c", PROJECT, at(1), at(2)),
        case("c", PROJECT, at(3)),
    ]
    said = import_circus(dump(tmp_path, *twice))
    assert "clinicalCases.json: 1 imported, 1 changed, 1 unchanged, 1 refused." in said
    assert [made["description"] for made in get()["revisions"]] == ["of day 1", "of day 2"]


@pytest.mark.parametrize("value", [1.5e300, -0.0, 2**53 + 1, 1.0, 0.1, 1e-320, 2**64 - 1, [{"x": 1e22}], "1", True])
def test_numbers_are_the_same_after_the_database_had_them(db: None, tmp_path: Path, value: Any) -> None:
    label = POINT | {"attributes": {"x": value}}
    made = at(1, attributes={"x": value}, labels=[label])
    import_circus(dump(tmp_path, case("c", PROJECT, made)))
    before = everything()
    assert "1 unchanged, 0 refused." in import_circus(tmp_path)
    assert everything() == before


def test_as_many_statements_for_many_revisions_as_for_one(db: None, tmp_path: Path) -> None:
    counts = []
    for name, number in (("a", 1), ("b", 1), ("c", 20)):
        revisions = [at(day + 1, labels=[POINT] * 3) for day in range(number)]
        dump(tmp_path / name, case(name, PROJECT, *revisions, updatedAt=days(28)))
        for other in ("projects", "groups", "users", "series", "tokens"):
            (tmp_path / name / f"{other}.json").rename(tmp_path / f"{other}.json")
        if name == "a":
            import_circus(tmp_path)
        with CaptureQueriesContext(connection) as queries:
            import_circus(tmp_path / name)
        counts.append(len(queries))
    assert counts[1] == counts[2]


def test_mended_records_complete_what_was_imported_before(db: None, tmp_path: Path) -> None:
    todo = {"myListId": "l", "resourceType": "clinicalCases", "name": "n", "public": False, "createdAt": days(1)}
    items = [{"resourceId": name, "createdAt": days(day)} for day, name in ((2, "c"), (3, "d"))]
    more = {"users": [user("alice", 1, myLists=[todo])], "myLists": [{"myListId": "l", "items": items}]}
    broken = case("d", PROJECT, at(1)) | {"revisions": []}
    said = import_circus(dump(tmp_path, case("c", PROJECT, at(1)), broken, **more))
    assert "items: 1 of 2 are not here, and left out." in said
    said = import_circus(dump(tmp_path, case("c", PROJECT, at(1)), case("d", PROJECT, at(1)), **more))
    assert "myLists.json: 0 imported, 1 changed, 0 unchanged, 0 refused." in said
    got = client(TOKEN).get("/api/mylists/l").json()
    assert (got["resourceIds"], got["updatedAt"]) == (["d", "c"], "2022-01-03T00:00:00.000Z")
    # Once its owner has changed it, it stays as it is.
    change = {"operation": "remove", "resourceIds": ["c"]}
    assert client(TOKEN).patch("/api/mylists/l/items", change).status_code == 200
    before = everything()
    assert "items: The list has changed here since; 1 that it lacks are left out." in import_circus(tmp_path)
    assert everything() == before


def test_a_list_of_somebody_else_is_theirs(db: None, tmp_path: Path) -> None:
    todo = {"myListId": "l", "resourceType": "clinicalCases", "name": "n", "public": False, "createdAt": days(1)}
    import_circus(dump(tmp_path, users=[user("alice", 1, myLists=[todo])]))
    items = [{"myListId": "l", "items": []}]
    said = import_circus(dump(tmp_path, users=[user("bob", 1, myLists=[todo])], myLists=items))
    assert "refused myLists.json:1 l: myListId: Another user has a list with this id." in said
    assert said.count("refused ") == 1
    assert MyList.objects.get().owner.login_id == "alice"


def voxel(sha1: str | None, origin: list[int], size: list[int]) -> dict[str, Any]:
    return {"name": "v", "type": "voxel", "data": {"voxels": sha1, "origin": origin, "size": size}, "attributes": {}}


def bits(*size: int) -> bytes:
    """Of a box of (x, y, z) voxels, all set."""
    return label_bits.pack(np.ones(size[::-1]))


def sha(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def test_voxels_of_labels(db: None, tmp_path: Path) -> None:
    here, nested, missing = bits(2, 2, 2), bits(3, 3, 3), bits(1, 1, 1)
    labels = [
        voxel(sha(here), [0, 0, 0], [2, 2, 2]),
        voxel(sha(nested), [5, 3, 7], [3, 3, 3]),
        voxel(sha(missing), [0, 0, 0], [1, 1, 1]),
        voxel(None, [0, 0, 0], [0, 0, 0]),
    ]
    blobs = tmp_path / "blobs"
    (blobs / "ab" / "cd").mkdir(parents=True)
    (blobs / sha(here)).write_bytes(here)
    (blobs / "ab" / "cd" / f"{sha(nested).upper()}.bin").write_bytes(nested)
    (blobs / ("0" * 40)).write_bytes(b"something else")
    (blobs / ("1" * 40)).write_bytes(b"")
    (blobs / ("2" * 40)).symlink_to(blobs / "nowhere")
    (blobs / "README.txt").write_text("no voxels")
    said = import_circus(dump(tmp_path, case("c", PROJECT, at(1, labels=labels))))
    assert "blobs: 2 imported, 0 changed, 0 unchanged, 4 refused." in said
    assert f"refused blobs {'0' * 40}: It is empty, or its content is another than its name says." in said
    assert f"refused blobs {'2' * 40}: It cannot be read: No such file or directory." in said
    assert "refused blobs README.txt: The name of this file is no SHA-1." in said
    assert "labels[2].data.voxels: There is no such blob; the label is kept without its voxels." in said
    assert get()["revisions"][0]["series"][0]["labels"] == labels
    for data in (here, nested):
        assert client(TOKEN).get(f"/api/blob/{sha(data)}").content == data
    assert client(TOKEN).get(f"/api/blob/{sha(missing)}").status_code == 404

    before = everything()
    assert "blobs: 0 imported, 0 changed, 2 unchanged, 4 refused." in import_circus(tmp_path)
    assert everything() == before
    # What was missing may come later.
    (blobs / sha(missing)).write_bytes(missing)
    document = get()
    said = import_circus(tmp_path)
    assert "clinicalCases.json: 0 imported, 1 changed, 0 unchanged, 0 refused." in said
    assert get() == document
    assert client(TOKEN).get(f"/api/blob/{sha(missing)}").content == missing
    assert "clinicalCases.json: 0 imported, 0 changed, 1 unchanged, 0 refused." in import_circus(tmp_path)


@pytest.mark.parametrize(
    ("origin", "size"),
    [([7, 0, 0], [2, 2, 2]), ([0, 0, 9], [2, 2, 2]), ([0, 0, 0], [2, 2, 3]), ([-1, 0, 0], [2, 2, 2])],
)
def test_voxels_that_do_not_fit_are_no_labels(db: None, tmp_path: Path, origin: list[int], size: list[int]) -> None:
    data = bits(2, 2, 2)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / sha(data)).write_bytes(data)
    said = import_circus(dump(tmp_path, case("c", PROJECT, at(1, labels=[voxel(sha(data), origin, size)]))))
    assert "labels[0].data: " in said
    assert Label.objects.get().blob is None
    assert Blob.objects.exists()


def test_labels_get_their_voxels_once_and_change_in_nothing_else(db: None, tmp_path: Path) -> None:
    data, other = bits(2, 2, 2), bits(4, 4, 4)
    (tmp_path / "blobs").mkdir()
    labels = [voxel(sha(data), [0, 0, 0], [2, 2, 2])]
    import_circus(dump(tmp_path, case("c", PROJECT, at(1, labels=labels))))
    for content in (data, other):
        (tmp_path / "blobs" / sha(content)).write_bytes(content)
    wrong: list[dict[str, Any]] = [
        {"blob": sha(other)},
        {"name": "x"},
        {"blob": sha(data), "name": "x"},
        {"data": {}},
    ]
    assert "blobs: 2 imported" in import_circus(dump(tmp_path, clinicalCases=[]))
    for change in wrong:
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            Label.objects.update(**change)
    import_circus(dump(tmp_path, case("c", PROJECT, at(1, labels=labels))))
    assert Label.objects.get().blob_id == sha(data)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Label.objects.update(blob=None)


def test_blobs_that_are_too_large(db: None, tmp_path: Path, settings: Any) -> None:
    settings.CASESTORE_MAX_BLOB = 10
    (tmp_path / "blobs").mkdir()
    for size in (10, 11):
        data = b"x" * size
        (tmp_path / "blobs" / sha(data)).write_bytes(data)
    said = import_circus(tmp_path)
    assert "blobs: 1 imported, 0 changed, 0 unchanged, 1 refused." in said
    assert "It is larger than 10 bytes (CASESTORE_MAX_BLOB)." in said


def small_series(**more: Any) -> dict[str, Any]:
    """As `tests.dicom` writes it, but with other words."""
    fields = {"width": 6, "height": 4, "images": "1-5", "patientInfo": PATIENT, "modality": "MR"}
    return series(SERIES_UID, **(fields | more))


def uses(**more: Any) -> dict[str, Any]:
    volume = {"start": 1, "end": 5, "delta": 1}
    return revision(series=[{"seriesUid": SERIES_UID, "partialVolumeDescriptor": volume, "labels": []}], **more)


def test_images_come_from_a_folder_beside_the_dump(db: None, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom" / "a", range(1, 6))
    write(image(1, SeriesInstanceUID="7.7"), tmp_path / "dicom" / "unknown.dcm")
    (tmp_path / "dicom" / "notes").write_text("no image")
    said = import_circus(dump(tmp_path, case("c", PROJECT, uses()), series=[small_series()]))
    assert "dicom: 5 imported, 0 changed, 0 unchanged, 2 refused." in said
    assert "refused dicom unknown.dcm: The dump does not describe this series." in said
    assert "refused dicom notes: It is not a DICOM file." in said
    found = Series.objects.get()
    assert (found.images, found.domain_id, found.modality, found.image_set.count()) == ("1-5", "vega.example", "CT", 5)
    # The files are the truth, also of the patient.
    assert get()["patientInfo"] == {"patientId": "P-4711", "patientName": "Secret^Patient"}
    before = everything()
    assert "dicom: 0 imported, 0 changed, 5 unchanged, 2 refused." in import_circus(tmp_path)
    assert everything() == before


def test_images_that_come_later(db: None, tmp_path: Path) -> None:
    import_circus(dump(tmp_path, case("c", PROJECT, uses()), series=[small_series(images="1-6")]))
    write_series(tmp_path / "late", range(1, 6))
    (tmp_path / "spool").mkdir()
    report = import_dicom([tmp_path / "late"], domain=Domain.objects.get(name="vega.example"), spool=tmp_path / "spool")
    assert (report.imported, report.refused) == (5, [])
    assert Series.objects.get().images == "1-6"
    before = everything()
    said = import_circus(tmp_path)
    assert "series.json: 0 imported, 0 changed, 1 unchanged, 0 refused." in said
    assert everything() == before


def test_exports_of_imported_cases(worker: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", range(1, 6))
    data = bits(2, 2, 2)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / sha(data)).write_bytes(data)
    made = uses()
    made["series"][0]["labels"] = [voxel(sha(data), [1, 1, 1], [2, 2, 2])]
    lost = uses()
    lost["series"][0]["labels"] = [voxel("0" * 40, [1, 1, 1], [2, 2, 2])]
    cases = [case("with images", PROJECT, made), case("lost", PROJECT, lost), case("without", PROJECT, at(1, "1.3"))]
    import_circus(dump(tmp_path, *cases, series=[small_series(), series("1.3")]))
    world = World({"alice": TOKEN})
    done = export(world, tmp_path / "out", ["with images"], by="alice")
    mask = done.array("with images/vol000-label000")
    assert mask.shape == (5, 4, 6)
    assert mask.sum() == mask[1:3, 1:3, 1:3].sum() == 8
    # Rather than a mask without voxels, or a volume without images.
    for case_id, reason in (
        ("lost", f"Label 0 of series {SERIES_UID}: data.voxels: The voxels are not stored here."),
        ("without", "Image 1 of series 1.3 is not stored here."),
    ):
        answer = world.client("alice").post("/api/cases/export-mhd", {"caseIds": [case_id]})
        task = wait(world.client("alice"), answer.json()["taskId"])
        assert task["status"] == "error"
        assert reason in task["errorMessage"]


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_end_as_one(tmp_path: Path) -> None:
    cases = [case(f"c{index}", PROJECT, at(1, labels=[POINT])) for index in range(250)]
    dump(tmp_path, *cases)
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            start.wait()
            import_circus(tmp_path)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert Case.objects.count() == Revision.objects.count() == Label.objects.count() == 250
    assert " 0 imported, 0 changed, 250 unchanged, 0 refused." in import_circus(tmp_path)
