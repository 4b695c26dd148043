"""What is wrong in a dump is said, with its place and never with a patient; all the rest is imported."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group

from cases.models import Case, Label, Project, ProjectRole, Series
from casestore.accounts.models import AccessToken, User
from casestore.accounts.services import create_token
from mylists.models import MyList
from tests.dumps import case, date, group, import_circus, revision, series, user, write_lines
from tests.test_import_circus import POINT, client

PROJECT = "8883fdef6f5144f50eb2a83cd34baa44"
Records = dict[str, list[dict[str, Any]]]


def small() -> Records:
    """A dump in which nothing is wrong."""
    todo = {"myListId": "list1", "resourceType": "clinicalCases", "name": "n", "public": False, "createdAt": date()}
    rights = {"privileges": ["personalInfoView"], "domains": ["vega.example"]}
    return {
        "projects": [{"projectId": PROJECT, "projectName": "p"}],
        "groups": [group(1, "g", [PROJECT], **rights)],
        "users": [user("alice", 1, myLists=[todo])],
        "series": [series("1.1", patientInfo={"patientId": "Secret-1", "patientName": "Secret^Name"})],
        "clinicalCases": [case(f"case{index}", PROJECT, revision("1.1", labels=[POINT])) for index in range(3)],
        "myLists": [{"myListId": "list1", "items": [{"resourceId": "case0", "createdAt": date()}]}],
        "tokens": [{"accessToken": "token-of-alice", "userId": "alice@example.com", "permanentTokenId": "t"}],
    }


def run(folder: Path, change: Callable[[Records], Any]) -> str:
    records = small()
    change(records)
    return import_circus(write_lines(folder, **records))


def test_nothing_is_wrong(db: None, tmp_path: Path) -> None:
    said = run(tmp_path, lambda records: None)
    assert "noted" not in said
    assert said.count(" 0 refused") == said.count("refused") == 7


def changed(records: Records, name: str, index: int = 0, **changes: Any) -> None:
    records[name][index] |= changes


def in_revision(records: Records, **changes: Any) -> None:
    records["clinicalCases"][1]["revisions"][0] |= changes


def in_entry(records: Records, **changes: Any) -> None:
    records["clinicalCases"][1]["revisions"][0]["series"][0] |= changes


def in_label(records: Records, **changes: Any) -> None:
    records["clinicalCases"][1]["revisions"][0]["series"][0]["labels"] = [POINT | changes]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: changed(r, "clinicalCases", 1, projectId="other"), "projectId: There is no such project."),
        (lambda r: changed(r, "clinicalCases", 1, caseId="x" * 65), "caseId: Ensure this field has no more than 64"),
        (lambda r: changed(r, "clinicalCases", 1, caseId=7), "caseId: This must be a string."),
        (lambda r: changed(r, "clinicalCases", 1, caseId=None), "caseId: This field is required."),
        (lambda r: changed(r, "clinicalCases", 1, revisions=[]), "revisions: "),
        (lambda r: changed(r, "clinicalCases", 1, revisions={"a": 1}), "revisions: "),
        (lambda r: changed(r, "clinicalCases", 1, tags=[1]), "tags[0]: This must be a string."),
        (lambda r: changed(r, "clinicalCases", 1, tags="tag"), "tags: "),
        (lambda r: in_revision(r, creator=None), "revisions[0].creator: This field is required."),
        (lambda r: in_revision(r, status="x" * 65), "revisions[0].status: "),
        (lambda r: in_revision(r, attributes=[1]), "revisions[0].attributes: This must be an object."),
        (lambda r: in_revision(r, attributes={"x": {"$numberDouble": "NaN"}}), "revisions[0].attributes.x: A number"),
        (lambda r: in_revision(r, attributes={"x": "a\0b"}), "revisions[0].attributes.x: A string holds a NUL"),
        (lambda r: in_revision(r, date=date("yesterday")), "revisions[0].date: A $date is no ISO 8601 date"),
        (lambda r: in_entry(r, seriesUid="9.9"), "revisions[0].series[0].seriesUid: There is no such series."),
        (lambda r: in_entry(r, partialVolumeDescriptor={"start": 1, "end": 5, "delta": -1}), "does not lead from 1 to"),
        (lambda r: in_entry(r, partialVolumeDescriptor={"start": 1, "end": 5, "delta": 0}), "does not lead from 1 to"),
        (lambda r: in_entry(r, partialVolumeDescriptor={"start": 0, "end": 5}), "partialVolumeDescriptor.start: "),
        (lambda r: in_entry(r, partialVolumeDescriptor={"start": 1, "end": 2**31 - 1}), "at most 100000 images"),
        (lambda r: in_label(r, type="cloud"), "revisions[0].series[0].labels[0].type: "),
        (lambda r: in_label(r, data=[]), "labels[0].data: This must be an object."),
        (lambda r: in_label(r, name="x" * 256), "labels[0].name: "),
    ],
)
def test_a_wrong_case_is_left_out_and_no_other(
    db: None, tmp_path: Path, change: Callable[[Records], Any], says: str
) -> None:
    said = run(tmp_path, change)
    (line,) = [line for line in said.splitlines() if line.startswith("refused ")]
    assert line.startswith(
        "refused clinicalCases.json:2 case1: " if "caseId" not in says else "refused clinicalCases.json:2"
    )
    assert says in line
    assert "clinicalCases.json: 2 imported, 0 changed, 0 unchanged, 1 refused." in said
    assert set(Case.objects.values_list("case_id", flat=True)) == {"case0", "case2"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda r: changed(r, "clinicalCases", 1, tags=["a", "x" * 33, "b"]),
            "tags: A tag has at most 32 characters; 1",
        ),
        (
            lambda r: changed(r, "clinicalCases", 1, latestRevision=revision("1.1")),
            "latestRevision: It is not the last",
        ),
        (lambda r: in_revision(r, date=None), "revisions[0].date: There is none"),
        (lambda r: in_revision(r, date=5), "clinicalCases.revisions.date: This must be a date in ISO 8601."),
        (
            lambda r: changed(r, "clinicalCases", 1, latestRevision={"x": "\0"}),
            "latestRevision.x: A string holds a NUL",
        ),
        (lambda r: changed(r, "clinicalCases", 1, createdAt=date("x")), "createdAt: A $date is no ISO 8601 date"),
        (lambda r: in_entry(r, partialVolumeDescriptor=None), "partialVolumeDescriptor: There is none"),
        (lambda r: in_entry(r, partialVolumeDescriptor={"start": 1, "end": 12, "delta": 1}), "has no image 11"),
        (
            lambda r: in_entry(r, partialVolumeDescriptor={"start": 1, "end": 5, "delta": 3}),
            "does not lead to 5 exactly",
        ),
        (lambda r: in_label(r, data={"location": [1, 2]}), "labels[0].data: These are not the data of a point"),
        (
            lambda r: in_label(r, data={"voxels": [7]}, type="voxel"),
            "labels[0].data: These are not the data of a voxel",
        ),
        (lambda r: in_label(r, data={"voxels": 7}, type="voxel"), "labels[0].data: These are not the data of a voxel"),
    ],
)
def test_what_is_merely_odd_is_kept_and_noted(
    db: None, tmp_path: Path, change: Callable[[Records], Any], says: str
) -> None:
    said = run(tmp_path, change)
    notes = [line for line in said.splitlines() if line.startswith("noted ")]
    assert all("clinicalCases.json:2 case1: " in line for line in notes)
    assert any(says in line for line in notes), said
    assert Case.objects.count() == 3
    answer: Any = client("token-of-alice").get("/api/cases/case1")
    assert answer.status_code == 200
    records = small()
    change(records)
    (sent,) = records["clinicalCases"][1]["revisions"][0]["series"]
    (got,) = answer.json()["revisions"][0]["series"]
    assert got["labels"] == sent["labels"]
    assert got["partialVolumeDescriptor"] == (sent["partialVolumeDescriptor"] or {"start": 1, "end": 10, "delta": 1})
    again = import_circus(tmp_path)
    assert "clinicalCases.json: 0 imported, 0 changed, 3 unchanged, 0 refused" in again


def test_one_image_may_have_a_delta_of_0(db: None, tmp_path: Path) -> None:
    run(tmp_path, lambda r: in_entry(r, partialVolumeDescriptor={"start": 3, "end": 3, "delta": 0}))
    (entry,) = Case.objects.get(case_id="case1").revisions.get().series_set.all()
    assert (entry.start, entry.end, entry.delta) == (3, 3, 1)


def test_the_database_has_the_last_word(db: None, tmp_path: Path) -> None:
    """What passed every check and still cannot be stored costs its record, not the batch."""
    random.seed(1)
    name = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(1024))
    records = small()
    records["series"].append(series("1.2", patientInfo={"patientName": name}))
    records["clinicalCases"].insert(1, case("long", PROJECT, revision("1.2")))
    said = import_circus(write_lines(tmp_path, **records))
    assert "refused clinicalCases.json:2 long: A value is too long for an index of the database." in said
    assert name not in said
    assert Case.objects.count() == 3


@pytest.mark.parametrize(
    ("patient", "kept", "wrong"),
    [
        ({"age": "Secret", "sex": "F"}, {"patient_sex": "F"}, ["age"]),
        ({"sex": "Secret", "size": ["Secret"]}, {}, ["sex", "size"]),
        ({"patientId": {"Secret": 1}, "patientName": "Secret" * 200}, {}, ["patientId", "patientName"]),
        ({"sex": "X", "age": -1.5e300}, {"patient_sex": "X", "patient_age": -1.5e300}, []),
        ({"sex": "", "patientName": ""}, {"patient_sex": "", "patient_name": ""}, []),
        ({"weight": True, "birthDate": "Secret-Secret"}, {}, ["weight", "birthDate"]),
        ("Secret", {}, [""]),
        ({}, {}, []),
    ],
)
def test_reports_never_tell_of_a_patient(
    db: None, tmp_path: Path, patient: Any, kept: dict[str, Any], wrong: list[str]
) -> None:
    said = run(tmp_path, lambda r: changed(r, "series", patientInfo=patient, createdAt="Secret"))
    assert "Secret" not in said
    assert "series.json: 1 imported" in said
    for name in wrong:
        assert f"noted   series.json:1 1.1: series.patientInfo{name and '.'}{name}: " in said
    found = Series.objects.values().get()
    columns = {name: value for name, value in found.items() if name.startswith("patient_") and value is not None}
    assert columns == kept
    assert Case.objects.count() == 3


def test_wrong_series(db: None, tmp_path: Path) -> None:
    records = small()
    wrong: list[dict[str, Any]] = [
        {"images": "1-x"},
        {"images": "1-200000"},
        {"images": ""},
        {"width": 0},
        {"height": "6"},
        {"domain": None},
        {"seriesUid": ""},
    ]
    records["series"] += [series(f"2.{index}") | change for index, change in enumerate(wrong)]
    records["series"].append(series("3", modality="x" * 17, parameters=[1], patientInfo=None, studyUid="x" * 65))
    said = import_circus(write_lines(tmp_path, **records))
    assert "series.json: 2 imported, 0 changed, 0 unchanged, 7 refused; 3 noted." in said
    kept = Series.objects.get(series_uid="3")
    assert (kept.modality, kept.parameters, kept.study_uid) == ("", {}, "")


def test_wrong_accounts(db: None, tmp_path: Path) -> None:
    records = small()
    records["projects"] += [
        {"projectId": "odd", "projectName": "x" * 300, "caseAttributesSchema": {"type": 7}, "tags": [{"caption": "c"}]},
        {"projectName": "without an id"},
    ]
    records["groups"] += [
        group(2, "odd", ["nowhere"], roles=["read"], privileges=["fly", "createProject"], domains="vega.example"),
        group(1, "the number is taken"),
        {"groupId": "3", "groupName": "x"},
    ]
    records["users"] += [
        user("bob", 2, 77, preferences={"x": "y" * 20_000}, description=5),
        user("carol", loginId="alice"),
        user("Alice", loginId="alice2"),
        user("erin", loginEnabled="yes"),
        user("not an address"),
    ]
    records["tokens"] += [
        {"accessToken": "token-of-nobody", "userId": "nobody@example.com"},
        {"accessToken": "short", "userId": "bob"},
        {"accessToken": "with a space in it", "userId": "bob"},
        {"accessToken": "token-of-alice", "userId": "bob"},
        {"accessToken": "token-of-bob", "userId": "bob", "accessTokenExpiresAt": "never"},
        {"accessToken": "another-of-bob", "userId": "bob", "permanentTokenDescription": "x" * 300},
    ]
    said = import_circus(write_lines(tmp_path, **records))
    assert "projects.json: 2 imported, 0 changed, 0 unchanged, 1 refused; 3 noted." in said
    odd = Project.objects.get(project_id="odd")
    assert (odd.name, odd.case_attributes_schema, odd.tags) == ("odd", {}, [])

    assert "groups.json: 2 imported, 0 changed, 0 unchanged, 2 refused; 3 noted." in said
    assert "noted   groups.json:2 odd: groups.privileges: There is no privilege 'fly' here; it is left out." in said
    assert "groups.readProjects: There is no project 'nowhere'; it is left out." in said
    assert "refused groups.json:3 the number is taken: groupId: Another group of the dump has this number." in said
    group_odd = Group.objects.get(name="odd")
    assert list(group_odd.global_privileges.values_list("privilege", flat=True)) == ["createProject"]
    assert not group_odd.group_domains.exists()
    assert not ProjectRole.objects.filter(group=group_odd).exists()

    assert "users.json: 2 imported, 0 changed, 1 unchanged, 3 refused; 5 noted." in said
    assert "users.groups: There is no group 77 in the dump; it is left out." in said
    assert "refused users.json:3 carol@example.com: loginId: Another user has this login id." in said
    assert "Alice@example.com: It is here already and stays as it is, though it differs in loginId." in said
    bob = User.objects.get(login_id="bob")
    assert (list(bob.groups.all()), bob.preferences, bob.description) == ([group_odd], {}, "")

    assert "tokens.json: 2 imported, 0 changed, 0 unchanged, 5 refused; 1 noted." in said
    for token in ("token-of", "short", "another", "with a space"):
        assert token not in said
    assert AccessToken.objects.get(user=bob).description == ""


def test_wrong_lists(db: None, tmp_path: Path) -> None:
    records = small()
    good = records["users"][0]["myLists"][0]
    editors = [{"type": "user", "userEmail": "nobody@example.com"}, {"type": "group", "groupId": 9}]
    records["users"][0]["myLists"] += [
        good | {"resourceType": "songs", "myListId": "list2"},
        good | {"editors": editors, "myListId": "list3", "createdAt": None},
        good | {"editors": [{"type": "crowd"}], "myListId": "list4", "createdAt": "x"},
    ]
    records["users"].append(user("bob", myLists=[good]))
    item = {"resourceId": "case0", "createdAt": date("2021-01-01T00:00:00.000Z")}
    records["myLists"] += [
        {"myListId": "of nobody", "items": [item]},
        {"myListId": "list3", "items": [item, item, {"resourceId": "case1"}, {"resourceId": "unknown"}]},
        {"myListId": "list4", "items": "x"},
    ]
    said = import_circus(write_lines(tmp_path, **records))
    assert "myLists.json: 2 imported, 0 changed, 0 unchanged, 2 refused" in said
    assert "users.json (myLists): 1 imported, 0 changed, 0 unchanged, 2 refused; 3 noted." in said
    assert "refused users.json (myLists):2 list1: myListId: The dump has two lists with this id." in said
    assert "refused myLists.json:2 of nobody: myListId: It is the list of no user." in said
    assert "noted   myLists.json:3 list3: items: 1 of 3 are not here, and left out." in said
    assert "list3: editors: There is no group 9 in the dump; it is left out." in said
    assert "list3: editors: A user is not here, and left out." in said
    assert "nobody@example.com" not in said
    assert MyList.objects.get(list_id="list1").owner.login_id == "alice"
    list3 = MyList.objects.get(list_id="list3")
    assert [str(row.added_at.year) for row in list3.items.order_by("pk")] == ["2021", "2021"]
    assert list3.created_at == list3.updated_at == list3.items.first().added_at
    assert not list3.editors.exists()
    assert MyList.objects.get(list_id="list4").items.count() == 0


def test_members_that_have_no_place_are_counted(db: None, tmp_path: Path) -> None:
    def change(records: Records) -> None:
        changed(records, "series", storageId=5, patientInfo={"race": "Secret"})
        for index in range(3):
            changed(records, "clinicalCases", index, patientInfo={"age": 5}, _id={"$oid": "5f"}, **{"odd one": 1})
        in_label(records, hidden=True)

    said = run(tmp_path, change)
    assert (
        "Left out, as there is no place for it here: clinicalCases.'odd one' (3), "
        "clinicalCases.revisions.series.labels.hidden (1), series.patientInfo.race (1), series.storageId (1)."
    ) in said
    assert "Secret" not in said
    assert Label.objects.count() == 3


def test_a_batch_that_is_wrong_from_end_to_end(db: None, tmp_path: Path) -> None:
    """More records than one batch has, every other of them broken."""
    records = small()
    cases = [case(f"c{index}", PROJECT, revision("1.1")) for index in range(450)]
    write_lines(tmp_path, **{**records, "clinicalCases": cases})
    path = tmp_path / "clinicalCases.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line if index % 2 else line[:-20] for index, line in enumerate(lines)))
    said = import_circus(tmp_path)
    assert "clinicalCases.json: 225 imported, 0 changed, 0 unchanged, 225 refused." in said
    assert Case.objects.count() == 225


def test_who_is_here_already_stays(db: None, tmp_path: Path) -> None:
    alice = User.objects.create(email="Alice@example.com", login_id="alice", is_active=True)
    alice.set_password("her own")
    alice.save()
    g = Group.objects.create(name="g", pk=50)
    Project.objects.create(project_id=PROJECT, name="Ours")
    _, token = create_token(user=alice)
    said = run(tmp_path, lambda r: changed(r, "users", password="$2y$04$" + "a" * 53, loginEnabled=False))
    alice.refresh_from_db()
    assert alice.check_password("her own")
    assert alice.is_active
    assert not alice.groups.exists()
    assert "users.json:1 alice@example.com: The user is here already and keeps their own groups." in said
    assert "it differs in loginEnabled." in said
    assert "groups.json:1 g: A group of this name is here already and keeps its own privileges, domains, roles." in said
    assert not ProjectRole.objects.filter(group=g).exists()
    assert "it differs in projectName." in said
    assert Project.objects.get(project_id=PROJECT).name == "Ours"
    assert client(token).get("/api/login-info").status_code == 200
    # The number of the dump's group belongs to nobody here; the one of ours is meant by its name.
    assert not Group.objects.filter(pk=1).exists()


def test_a_number_that_a_group_has_here_is_not_taken_from_it(db: None, tmp_path: Path) -> None:
    ours = Group.objects.create(pk=1, name="ours")
    said = run(
        tmp_path,
        lambda r: r["users"][0]["myLists"][0].update(editors=[{"type": "group", "groupId": 1}]),
    )
    assert "groups.json: 1 imported" in said
    theirs = Group.objects.get(name="g")
    assert theirs.pk != ours.pk
    assert User.objects.get(login_id="alice").groups.get() == theirs
    assert MyList.objects.get().editors.get().group == theirs
