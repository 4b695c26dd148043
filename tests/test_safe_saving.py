"""Saving without losing anything: ETag and If-Match against stale writers, Idempotency-Key against lost answers."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction

from cases.models import Case, Revision
from casestore import clock
from casestore.accounts.models import IdempotentAnswer
from casestore.accounts.services import ANSWERS_KEPT, purge_answers
from casestore.accounts.tasks import purge_idempotent_answers
from casestore.api.etags import entity_tags
from casestore.errors import BadRequest
from casestore.tasks.models import Task
from tests.test_tags import at_once
from tests.world import DOMAIN, OTHER_DOMAIN, PATIENT, PROJECT, World, make_world, revision

BODY = {"projectId": PROJECT, "series": [{"seriesUid": "1.2.3"}]}


def read(world: World, case: Case, by: str = "everything", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return world.client(by).get(f"/api/cases/{case.case_id}", headers=names)


def write(world: World, case: Case, what: str, match: str | None = None, by: str = "everything") -> Any:
    client, address = world.client(by), f"/api/cases/{case.case_id}"
    headers = {} if match is None else {"if-match": match}
    if what == "revision":
        return client.post(f"{address}/revision", revision([{"seriesUid": "1.2.3"}]), headers=headers)
    if what == "tags":
        return client.put(f"{address}/tags", [clock.iso(Case.objects.get(pk=case.pk).updated_at)], headers=headers)
    if what == "tags of many":
        body = {"operation": "add", "tags": ["one more"], "caseIds": [case.case_id]}
        return client.patch("/api/cases/tags", body, headers=headers)
    return client.delete(address, headers=headers)


WRITES = ("revision", "tags", "tags of many", "delete")


# --- ETag, If-None-Match ----------------------------------------------------------------------------------------


def test_every_change_has_its_own_etag(world: World) -> None:
    world.series()
    made = world.client("annotator").post("/api/cases", BODY)
    case = Case.objects.get(case_id=made.json()["caseId"])
    assert made["Location"] == f"http://testserver/api/cases/{case.case_id}"
    tags = [made["ETag"]]
    for what in ("revision", "tags", "revision"):
        assert read(world, case, "annotator")["ETag"] == tags[-1]
        tags.append(write(world, case, what, by="annotator")["ETag"])
    write(world, case, "delete")
    tags.append(world.client("everything").post(f"/api/cases/{case.case_id}/restore")["ETag"])
    many = {"operation": "add", "tags": ["x"], "caseIds": [case.case_id]}
    world.client("annotator").patch("/api/cases/tags", many)
    tags.append(read(world, case)["ETag"])
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_not_modified(world: World, django_assert_max_num_queries: Any) -> None:
    world.series()
    case = world.case()
    tag = read(world, case)["ETag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        with django_assert_max_num_queries(4):
            answer = read(world, case, if_none_match=known)
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag), known
    for known in ('"x"', tag.strip('"'), f"{tag} {tag}", ""):
        assert read(world, case, if_none_match=known).status_code == 200, known
    write(world, case, "tags")
    assert read(world, case, if_none_match=tag).status_code == 200
    # Not a way to learn of a case that one may not read.
    assert read(world, case, "outsider", if_none_match="*").status_code == 401
    assert read(world, Case(case_id="unknown"), if_none_match="*").status_code == 404


def test_who_sees_the_patient_has_another_etag(world: World) -> None:
    """Equal tags mean equal bytes; for `If-Match` both name the same version."""
    world.series(**PATIENT)
    case = world.case()
    shown, hidden = read(world, case, "annotator"), read(world, case, "reader")
    assert shown["ETag"] != hidden["ETag"]
    annotator = world.user("annotator")
    annotator.preferences = {"personalInfoView": False}
    annotator.save()
    again = read(world, case, "annotator", if_none_match=shown["ETag"])
    assert (again.status_code, again["ETag"], again.content) == (200, hidden["ETag"], hidden.content)
    assert write(world, case, "tags", shown["ETag"], by="annotator").status_code == 204


# --- If-Match ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", WRITES)
def test_stale_writers_are_refused(world: World, what: str) -> None:
    world.series()
    case = world.case()
    stale = read(world, case)["ETag"]
    assert write(world, case, "revision", stale).status_code == 201
    before = read(world, case)
    for match in (stale, f"W/{before['ETag']}", '"x"', f'"x", {stale},,', '""', '"999999999999999999999999"', '"٣"'):
        answer = write(world, case, what, match.encode().decode("latin-1"))
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), match
    assert read(world, case).content == before.content
    assert write(world, case, what, f"{stale} , {before['ETag']}").status_code in {201, 204}


def test_many_cases_change_together_or_not_at_all(world: World) -> None:
    world.series()
    cases = [world.case(), world.case()]
    write(world, cases[1], "revision")
    tags = [read(world, case)["ETag"] for case in cases]
    body = {"operation": "add", "tags": ["x"], "caseIds": [case.case_id for case in cases]}
    client = world.client("everything")
    assert client.patch("/api/cases/tags", body, headers={"if-match": tags[0]}).status_code == 412
    assert [read(world, case)["ETag"] for case in cases] == tags
    assert client.patch("/api/cases/tags", body, headers={"if-match": ", ".join(tags)}).status_code == 204


@pytest.mark.parametrize("what", WRITES)
def test_any_version_will_do(world: World, what: str) -> None:
    world.series()
    for match in ("*", " * ", None):
        assert write(world, world.case(), what, match).status_code in {201, 204}


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("match", ["1", "", " ", ",", '"1', '1"', '"1" "2"', '*, "1"', 'w/"1"', "W/1", '"a b"', "''"])
def test_malformed_if_match(world: World, what: str, match: str) -> None:
    world.series()
    case = world.case()
    answer = write(world, case, what, match)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "If-Match" in answer.json()["error"]
    assert read(world, case).status_code == 200


def test_other_refusals_come_before_the_precondition(world: World) -> None:
    """RFC 9110, 13.2.1: a precondition counts only where the request would otherwise succeed."""
    world.series()
    case = world.case()
    for what in WRITES:
        assert write(world, case, what, '"0"', by="outsider").status_code == 401
        assert write(world, Case(pk=case.pk, case_id="unknown"), what, '"0"').status_code == 404
    client = world.client("reader")
    made = client.post("/api/mylists", {"name": "l", "resourceType": "clinicalCases"}).json()["myListId"]
    client.patch(f"/api/mylists/{made}/items", {"operation": "add", "resourceIds": [case.case_id]})
    assert write(world, case, "delete", '"0"').status_code == 403


def test_entity_tags_take_linear_time() -> None:
    for header in ('"1",' * 10_000 + "x", "," * 40_000, '"' * 40_001, '"1"' + " \t" * 20_000 + "x", "W/" * 20_000):
        with pytest.raises(BadRequest):
            entity_tags(header, "If-Match")
    assert len(entity_tags('"1", ' * 10_000, "If-Match")) == 10_000


@pytest.mark.django_db(transaction=True)
def test_of_simultaneous_writers_with_one_etag_one_wins() -> None:
    world = make_world()
    world.series()
    case = world.case()
    tag = read(world, case)["ETag"]
    statuses = at_once(8, lambda index: write(world, case, WRITES[index % 2], tag).status_code)
    assert sorted(statuses)[1:] == [412] * 7
    assert min(statuses) in {201, 204}
    case.refresh_from_db()
    assert case.version == 2


@pytest.mark.django_db(transaction=True)
def test_an_etag_never_covers_what_came_after_it() -> None:
    """While others write: equal tags, equal bodies."""
    world = make_world()
    world.series()
    case = world.case()
    seen: list[tuple[str, bytes]] = []

    def act(index: int) -> int:
        for _ in range(6):
            if index % 2:
                write(world, case, WRITES[index % 4 // 2])
            else:
                answer = read(world, case)
                seen.append((answer["ETag"], answer.content))
        return 0

    at_once(8, act)
    assert len(dict(seen)) == len(set(seen)) > 1


# --- Idempotency-Key --------------------------------------------------------------------------------------------


def post(world: World, address: str, body: Any, key: str = "k-1", by: str = "everything", **headers: str) -> Any:
    return world.client(by).post(address, body, headers={"idempotency-key": key, **headers})


def same(first: Any, second: Any) -> bool:
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"

    def told(answer: Any) -> list[Any]:
        return [answer.status_code, answer.content, *(answer.get(n) for n in ("ETag", "Location", "Content-Type"))]

    return told(first) == told(second)


def test_a_case_is_created_once(world: World) -> None:
    world.series()
    first = post(world, "/api/cases", BODY)
    assert first.status_code == 201
    assert same(first, post(world, "/api/cases", BODY))
    assert same(first, post(world, "/api/cases/", BODY))
    assert Case.objects.count() == 1
    assert post(world, "/api/cases", BODY, key="k-2").json() != first.json()
    # Keys belong to a user.
    assert post(world, "/api/cases", BODY, by="annotator").json() != first.json()
    assert Case.objects.count() == 3


def test_a_revision_is_appended_once_even_with_if_match(world: World) -> None:
    world.series()
    case = world.case()
    tag = read(world, case)["ETag"]
    body = revision([{"seriesUid": "1.2.3"}])
    first = post(world, f"/api/cases/{case.case_id}/revision", body, **{"if-match": tag})
    assert first.status_code == 201
    assert same(first, post(world, f"/api/cases/{case.case_id}/revision", body, **{"if-match": tag}))
    assert Revision.objects.count() == 2
    assert read(world, case)["ETag"] == first["ETag"]


def test_a_case_is_restored_once(world: World) -> None:
    world.series()
    case = world.case()
    write(world, case, "delete")
    first = post(world, f"/api/cases/{case.case_id}/restore", None)
    assert first.status_code == 204
    assert same(first, post(world, f"/api/cases/{case.case_id}/restore", None))


def test_a_key_is_for_one_request(world: World) -> None:
    world.series()
    case = world.case()
    assert post(world, "/api/cases", BODY).status_code == 201
    address = f"/api/cases/{case.case_id}/revision"
    others = [("/api/cases", {**BODY, "tags": ["x"]}), ("/api/cases?strict=1", BODY), (address, BODY)]
    for where, body in [*others, (address, revision([]))]:
        answer = post(world, where, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert (Case.objects.count(), Revision.objects.count()) == (2, 2)


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "a\tb"])
def test_wrong_keys(world: World, key: str) -> None:
    world.series()
    answer = post(world, "/api/cases", BODY, key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert not Case.objects.exists()
    assert post(world, "/api/cases", BODY, key="!" + "~" * 254).status_code == 201


def test_refusals_are_not_kept(world: World) -> None:
    assert post(world, "/api/cases", BODY).status_code == 400
    assert not IdempotentAnswer.objects.exists()
    world.series()
    assert post(world, "/api/cases", BODY).status_code == 201
    assert post(world, "/api/cases", b"{", key="k-2", **{"content-type": "application/json"}).status_code in {400, 415}
    assert world.client(None).post("/api/cases", BODY, headers={"idempotency-key": "k-1"}).status_code == 401
    assert IdempotentAnswer.objects.count() == 1


def test_bodies_over_the_limit(world: World, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = post(world, "/api/cases", {"projectId": "x" * 1001, "series": []})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_answers_are_forgotten_after_a_day(world: World) -> None:
    world.series()
    for key in ("old", "new"):
        post(world, "/api/cases", BODY, key=key)
    age = ANSWERS_KEPT + timedelta(minutes=1)
    IdempotentAnswer.objects.filter(key="old").update(created_at=clock.now() - age)
    assert purge_answers() == 1
    assert IdempotentAnswer.objects.get().key == "new"
    purge_idempotent_answers()
    assert IdempotentAnswer.objects.count() == 1


def test_an_upload_is_imported_once(world: World) -> None:
    """Two requests with the same files differ in their boundaries, and perhaps in the names of the files."""

    def upload(content: bytes, name: str, domain: str = DOMAIN) -> Any:
        files = {"files": SimpleUploadedFile(name, content)}
        client = world.client("everything")
        return client.post(f"/api/series/domain/{domain}", files, format="multipart", headers={"idempotency-key": "k"})

    first = upload(b"not DICOM", "a")
    assert first.status_code == 201
    assert same(first, upload(b"not DICOM", "b"))
    assert Task.objects.count() == 1
    assert upload(b"another", "a").status_code == 422
    assert upload(b"not DICOM", "a", OTHER_DOMAIN).status_code == 422
    assert Task.objects.count() == 1
    with default_storage.open(Task.objects.get().parameters["keys"][0]) as file:
        assert file.read() == b"not DICOM"


def test_tokens_are_never_stored(world: World) -> None:
    first, second = (post(world, "/api/tokens", {"description": "x"}) for _ in range(2))
    assert first.json()["accessToken"] != second.json()["accessToken"]
    assert not IdempotentAnswer.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_export_is_queued_once_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    queued = []

    def send(task: Task) -> None:
        assert not transaction.get_connection().in_atomic_block
        assert Task.objects.filter(task_id=task.task_id, run_by="exports.export_mhd").exists()
        queued.append(task.task_id)

    monkeypatch.setattr("casestore.tasks.queueing.send", send)
    world = make_world()
    world.series()
    body = {"caseIds": [world.case().case_id]}
    first = post(world, "/api/cases/export-mhd", body)
    assert first.status_code == 201
    assert same(first, post(world, "/api/cases/export-mhd", body))
    assert queued == [first.json()["taskId"]]


@pytest.mark.django_db(transaction=True)
def test_an_export_that_could_not_be_queued_may_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [ConnectionError("away"), None]

    def send(task: Task) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr("casestore.tasks.queueing.send", send)
    world = make_world()
    world.series()
    body = {"caseIds": [world.case().case_id]}
    assert post(world, "/api/cases/export-mhd", body).status_code == 503
    assert not IdempotentAnswer.objects.exists()
    assert post(world, "/api/cases/export-mhd", body).status_code == 201
    assert sorted(Task.objects.values_list("status", flat=True)) == ["error", "processing"]


@pytest.mark.django_db(transaction=True)
def test_simultaneous_requests_with_one_key_do_the_work_once() -> None:
    world = make_world()
    world.series()
    case = world.case()
    answers: list[Any] = [None] * 8

    def act(index: int) -> int:
        address, key = (("/api/cases", "a"), (f"/api/cases/{case.case_id}/revision", "b"))[index % 2]
        answers[index] = post(world, address, revision([]) if index % 2 else BODY, key=key)
        return answers[index].status_code

    assert at_once(8, act) == [201] * 8
    for group in (answers[::2], answers[1::2]):
        assert len({answer.content for answer in group}) == 1
        assert sorted("Idempotent-Replayed" in answer for answer in group) == [False, True, True, True]
    assert (Case.objects.count(), Revision.objects.filter(case=case).count()) == (2, 2)


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_a_refused_request_does_the_work() -> None:
    """The first holds the key, is refused and lets go; the second is not answered with the refusal."""
    world = make_world()
    world.series()
    user = world.user("everything")
    with transaction.atomic():
        IdempotentAnswer.objects.create(user=user, key="k-1", digest="0" * 64)
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.extend(at_once(1, lambda _: _status(world))))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        transaction.set_rollback(True)
    waiting.join()
    assert found == [201]
    assert IdempotentAnswer.objects.get().status == 201


def _status(world: World) -> int:
    return int(post(world, "/api/cases", BODY).status_code)
