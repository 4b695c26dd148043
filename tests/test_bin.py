"""Deleting cases, the bin, restoring and purging."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import IntegrityError, transaction

from cases.models import Blob, Case, CaseDocument, Label, Project, ProjectRole, Revision, RevisionSeries
from cases.services.bin import BATCH, purge_bin
from cases.tasks import purge_deleted_cases
from casestore import clock
from casestore.celery import app
from casestore.tasks.services import run_task
from exports.packing import pack
from mylists.models import MyList, MyListItem
from tests.test_tags import at_once
from tests.world import OTHER_PROJECT, PATIENT, PROJECT, World, make_world, revision, voxel_label


def keep(world: World, case: Case, *, by: str = "reader") -> str:
    """A list of this user that has the case; its id."""
    client = world.client(by)
    made = client.post("/api/mylists", {"name": "l", "resourceType": "clinicalCases"}).json()["myListId"]
    answer = client.patch(f"/api/mylists/{made}/items", {"operation": "add", "resourceIds": [case.case_id]})
    assert answer.json() == {"changedCount": 1}, answer.content
    return str(made)


def delete(world: World, case: Case, query: str = "", by: str = "everything", **headers: str) -> Any:
    return world.client(by).delete(f"/api/cases/{case.case_id}{query}", headers=headers)


def restore(world: World, case: Case, by: str = "everything") -> Any:
    return world.client(by).post(f"/api/cases/{case.case_id}/restore")


def moderator(world: World, *roles: str) -> None:
    """Gives these roles to the user who has nothing else."""
    project = Project.objects.get(project_id=PROJECT)
    for role in roles:
        ProjectRole.objects.create(group=Group.objects.get(name="nobody"), project=project, role=role)


def test_a_deleted_case_is_nowhere(world: World) -> None:
    world.series()
    case, other = world.case(tags=["a"]), world.case()
    sha1 = world.blob(np.ones((1, 2, 3), bool))
    label = voxel_label(sha1, [0, 0, 0], [3, 2, 1])
    world.client("everything").post(
        f"/api/cases/{case.case_id}/revision", revision([{"seriesUid": "1.2.3", "labels": [label]}])
    )
    assert world.client("reader").get(f"/api/blob/{sha1}").status_code == 200
    answer = delete(world, case)
    assert (answer.status_code, answer.content) == (204, b"")

    client = world.client("everything")
    address = f"/api/cases/{case.case_id}"
    assert client.get(address).status_code == 404
    assert [found["caseId"] for found in client.get("/api/cases").json()] == [other.case_id]
    assert client.post(f"{address}/revision", revision([])).status_code == 404
    assert client.put(f"{address}/tags", ["b"]).status_code == 404
    body = {"operation": "add", "tags": ["b"], "caseIds": [case.case_id, other.case_id]}
    assert client.patch("/api/cases/tags", body).status_code == 404
    assert client.post("/api/cases/export-mhd", {"caseIds": [case.case_id]}).status_code == 404
    made = client.post("/api/mylists", {"name": "l", "resourceType": "clinicalCases"}).json()["myListId"]
    body = {"operation": "add", "resourceIds": [case.case_id]}
    assert client.patch(f"/api/mylists/{made}/items", body).status_code == 400
    # Who stored the blob still has it; who could read it because of the case does not.
    assert world.client("reader").get(f"/api/blob/{sha1}").status_code == 404
    assert client.get(f"/api/blob/{sha1}").status_code == 200
    assert delete(world, case).status_code == 404
    assert delete(world, case, by="reader").status_code == 404


def test_deletion_needs_moderate(world: World) -> None:
    world.series()
    case = world.case()
    for role in ("reader", "annotator", "writer", "nobody", "outsider"):
        answer = delete(world, case, by=role)
        assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_privilege")
    assert answer.json()["error"] == 'You do not have "moderate" privilege of this project.'
    assert delete(world, Case(case_id="unknown")).status_code == 404
    moderator(world, "moderate")
    assert delete(world, case, by="nobody").status_code == 204


@pytest.mark.parametrize("by", ["reader", "everything"])
def test_a_case_in_a_list_goes_by_force_only(world: World, by: str) -> None:
    world.series()
    case, other = world.case(), world.case()
    lists = [keep(world, case, by=by), keep(world, case, by="annotator")]
    world.client(by).patch(f"/api/mylists/{lists[0]}/items", {"operation": "add", "resourceIds": [other.case_id]})
    for query in ("", "?force=0", "?force="):
        answer = delete(world, case, query)
        assert (answer.status_code, answer.json()["code"]) == (403, "case_in_my_list")
        assert "force=1" in answer.json()["error"]
    for query in ("?force=2", "?force=true", "?force=1.0", "?force=%D9%A1"):
        assert delete(world, case, query).status_code == 400
    assert MyListItem.objects.filter(case=case).count() == 2
    assert delete(world, case, "?force=1").status_code == 204
    assert list(MyListItem.objects.values_list("case", flat=True)) == [other.pk]
    assert MyList.objects.count() == 2


def test_what_is_in_the_bin(world: World) -> None:
    world.series(**PATIENT)
    cases = [world.case(tags=[f"{n}"]) for n in range(3)]
    for case in (cases[1], cases[0], cases[2]):
        delete(world, case)
    client = world.client("everything")
    listed = client.get("/api/cases/deleted")
    assert [case["caseId"] for case in listed.json()] == [cases[n].case_id for n in (2, 0, 1)]
    assert listed["X-Total-Count"] == "3"
    page = client.get("/api/cases/deleted", {"limit": 1, "page": 2})
    assert [case["caseId"] for case in page.json()] == [cases[0].case_id]
    assert 'rel="next"' in page["Link"]
    assert client.get("/api/cases/deleted", {"limit": 0}).status_code == 400
    first = listed.json()[0]
    members = ["caseId", "projectId", "latestRevision", "patientInfo", "tags", "domains", "createdAt", "updatedAt"]
    assert list(first) == [*members, "deletedAt", "deletedBy"]
    assert first["deletedBy"] == "everything@example.com"
    assert first["createdAt"] < first["deletedAt"] <= first["updatedAt"]
    for role in ("reader", "annotator", "viewer", "outsider"):
        answer = world.client(role).get("/api/cases/deleted")
        assert (answer.json(), answer["X-Total-Count"]) == ([], "0")


def test_moderators_see_of_the_bin_what_they_see_elsewhere(world: World) -> None:
    world.series(**PATIENT)
    delete(world, world.case())
    client = world.client("nobody")
    moderator(world, "moderate")
    assert client.get("/api/cases/deleted").json() == []
    moderator(world, "read")
    (case,) = client.get("/api/cases/deleted").json()
    assert "patientInfo" not in case


def test_the_number_of_queries_does_not_grow(world: World, django_assert_num_queries: Any) -> None:
    world.series(**PATIENT)
    client = world.client("everything")
    for number in (1, 9):
        for _ in range(number):
            delete(world, world.case())
        # Token, privileges, roles; rows, count.
        with django_assert_num_queries(5):
            assert client.get("/api/cases/deleted").status_code == 200


def test_restored_cases_are_as_they_were(world: World) -> None:
    world.series(**PATIENT)
    case = world.case(tags=["a"])
    keep(world, case)
    before = world.client("annotator").get(f"/api/cases/{case.case_id}")
    delete(world, case, "?force=1")
    deleted = Case.objects.get(pk=case.pk)
    answer = restore(world, case)
    assert (answer.status_code, answer.content) == (204, b"")
    after = world.client("annotator").get(f"/api/cases/{case.case_id}")
    assert {**after.json(), "updatedAt": ""} == {**before.json(), "updatedAt": ""}
    assert before.json()["updatedAt"] < clock.iso(deleted.updated_at) < after.json()["updatedAt"]
    restored = Case.objects.get(pk=case.pk)
    assert case.version < deleted.version < restored.version
    assert (restored.deleted_at, restored.deleted_by) == (None, "")
    assert answer["ETag"] == after["ETag"]
    assert world.client("everything").get("/api/cases/deleted").json() == []
    assert not MyListItem.objects.exists()
    assert restore(world, case).status_code == 404


def test_only_moderators_restore(world: World) -> None:
    world.series()
    case, living = world.case(), world.case()
    delete(world, case)
    answers = [restore(world, case, by=role) for role in ("reader", "annotator", "outsider", "nobody")]
    answers += [restore(world, Case(case_id="unknown")), restore(world, living)]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    moderator(world, "moderate")
    assert restore(world, case, by="nobody").status_code == 204


def test_the_admin_restores_what_its_user_moderates(world: World, client: Any) -> None:
    world.series()
    world.series("9.9", domain="sirius.example")
    cases = [world.case(), world.case("9.9", project=OTHER_PROJECT)]
    for case in cases:
        delete(world, case)
    staff = world.user("nobody")
    staff.is_staff = staff.is_superuser = True
    staff.save()
    moderator(world, "moderate")
    client.force_login(staff)
    address = "/admin/cases/case/?deleted_at__isempty=0"
    assert cases[0].case_id in client.get(address).content.decode()
    body = {"action": "restore", "_selected_action": [case.pk for case in cases]}
    shown = client.post(address, body, follow=True).content.decode()
    assert f"{cases[1].case_id}: not in the bin, or not yours to restore." in shown
    assert list(Case.objects.filter(deleted_at=None)) == [cases[0]]


def test_series_of_cases_in_the_bin_stay(world: World, settings: Any) -> None:
    world.series()
    case, other = world.case(), world.case()
    delete(world, case)
    client = world.client("everything")
    assert client.delete("/api/series/1.2.3").json()["error"] == "The series is in use by a case."
    delete(world, other)
    answer = client.delete("/api/series/1.2.3")
    assert (answer.status_code, "in the bin" in answer.json()["error"]) == (400, True)
    Case.objects.update(deleted_at=clock.now() - timedelta(days=31))
    assert purge_bin() == 2
    assert client.delete("/api/series/1.2.3").status_code == 204


def test_an_export_asked_for_before_the_deletion_says_so(world: World) -> None:
    world.series()
    case = world.case()
    client = world.client("everything")
    made = client.post("/api/cases/export-mhd", {"caseIds": [case.case_id]}).json()["taskId"]
    delete(world, case)
    assert run_task(made, pack)
    task = client.get(f"/api/tasks/{made}").json()
    assert (task["status"], "was deleted" in task["errorMessage"]) == ("error", True)


def rich_case(world: World, sha1: str) -> Case:
    """A case with two revisions and labels."""
    case = world.case(tags=["a"])
    labels = [voxel_label(sha1, [0, 0, 0], [3, 2, 1]), {"type": "point", "data": {"location": [0, 0, 0]}}]
    body = revision([{"seriesUid": "1.2.3", "labels": labels}])
    assert world.client("everything").post(f"/api/cases/{case.case_id}/revision", body).status_code == 201
    return case


def test_purge(world: World, settings: Any) -> None:
    world.series(**PATIENT)
    sha1 = world.blob(np.ones((1, 2, 3), bool))
    living, fresh, *old = [rich_case(world, sha1) for _ in range(4)]
    keep(world, living)
    for case in (fresh, *old):
        delete(world, case)
    settings.CASESTORE_BIN_DAYS = 7
    Case.objects.filter(pk=fresh.pk).update(deleted_at=clock.now() - timedelta(days=6, hours=23))
    Case.objects.filter(pk__in=[case.pk for case in old]).update(deleted_at=clock.now() - timedelta(days=7, minutes=1))
    settings.CASESTORE_BIN_DAYS = 0
    assert purge_bin() == 0
    settings.CASESTORE_BIN_DAYS = 7
    assert purge_bin() == 2
    assert set(Case.objects.values_list("pk", flat=True)) == {living.pk, fresh.pk}
    assert [model.objects.count() for model in (CaseDocument, Revision, RevisionSeries, Label)] == [2, 4, 4, 4]
    assert Blob.objects.count() == MyListItem.objects.count() == 1
    assert purge_bin() == 0
    assert restore(world, fresh).status_code == 204
    assert restore(world, old[0]).status_code == 404
    assert world.client("reader").get(f"/api/blob/{sha1}").status_code == 200
    # What is not purged is kept as firmly as before, in the same transaction too.
    for model in (Revision, RevisionSeries, Label):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            model.objects.all()._raw_delete("default")


def test_purge_in_batches_by_command_and_by_task(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.series()
    for _ in range(BATCH + 1):
        world.case()
    Case.objects.update(deleted_at=clock.now() - timedelta(days=40), deleted_by="x@example.com")
    call_command("purge_bin")
    assert f"Purged {BATCH + 1} cases." in capsys.readouterr().err
    case = world.case()
    Case.objects.update(deleted_at=clock.now() - timedelta(days=40))
    purge_deleted_cases()
    assert not Case.objects.filter(pk=case.pk).exists()


def test_what_the_scheduler_asks_for_exists(settings: Any) -> None:
    app.loader.import_default_modules()
    assert len(settings.CELERY_BEAT_SCHEDULE) == 6
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


@pytest.mark.django_db(transaction=True)
def test_deletion_among_simultaneous_edits_of_lists_and_cases() -> None:
    """A case that is gone is in no list, whatever else happened at that moment; nobody fails."""
    world = make_world()
    world.series()
    for _ in range(4):
        cases = [world.case() for _ in range(3)]
        client = world.client("annotator")
        lists = [
            client.post("/api/mylists", {"name": "l", "resourceType": "clinicalCases"}).json()["myListId"]
            for _ in range(3)
        ]
        ids = [case.case_id for case in cases]

        def act(index: int, cases: list[Case] = cases, lists: list[str] = lists, ids: list[str] = ids) -> int:
            client = world.client("annotator")
            if index < 3:
                return delete(world, cases[index], "?force=1").status_code
            if index < 6:
                body = {"operation": "add", "resourceIds": ids[:: 1 if index % 2 else -1]}
                return client.patch(f"/api/mylists/{lists[index - 3]}/items", body).status_code
            if index < 9:
                body = {"operation": "remove", "resourceIds": ids}
                return client.patch(f"/api/mylists/{lists[index - 6]}/items", body).status_code
            if index < 11:
                body = {"operation": "add", "tags": [f"{index}"], "caseIds": ids}
                return client.patch("/api/cases/tags", body).status_code
            return client.post(f"/api/cases/{ids[0]}/revision", revision([])).status_code

        statuses = at_once(12, act)
        assert statuses[:3] == [204] * 3
        assert all(status in {200, 400} for status in statuses[3:9]), statuses
        assert all(status in {201, 204, 404} for status in statuses[9:]), statuses
        assert not MyListItem.objects.filter(case__in=cases).exists()
        assert Case.objects.filter(pk__in=[c.pk for c in cases], deleted_at=None).count() == 0


@pytest.mark.django_db(transaction=True)
def test_without_force_a_case_is_in_a_list_or_deleted_never_both() -> None:
    world = make_world()
    world.series()
    outcomes = set()
    for _ in range(8):
        case = world.case()
        made = world.client("annotator").post("/api/mylists", {"name": "l", "resourceType": "clinicalCases"}).json()

        def act(index: int, case: Case = case, made: dict[str, str] = made) -> int:
            if index:
                return delete(world, case).status_code
            body = {"operation": "add", "resourceIds": [case.case_id]}
            return world.client("annotator").patch(f"/api/mylists/{made['myListId']}/items", body).status_code

        statuses = tuple(at_once(2, act))
        outcomes.add(statuses)
        assert MyListItem.objects.filter(case=case).exists() == (statuses[0] == 200)
    assert outcomes <= {(200, 403), (400, 204)}


@pytest.mark.django_db(transaction=True)
def test_restored_or_purged_never_half() -> None:
    world = make_world()
    world.series()
    cases = [world.case() for _ in range(6)]
    Case.objects.update(deleted_at=clock.now() - timedelta(days=31))

    def act(index: int) -> int:
        return purge_bin() if index % 2 else restore(world, cases[index // 2]).status_code

    statuses = at_once(12, act)
    left = Case.objects.filter(deleted_at=None)
    assert left.count() == statuses[::2].count(204) == 6 - sum(statuses[1::2])
    assert Revision.objects.count() == left.count()
    assert set(statuses[::2]) <= {204, 404}
