"""The vectors of the filter's semantics, over HTTP, on a data set that came by `import_circus`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from casestore.accounts.models import User
from casestore.accounts.services import create_token
from tests.dumps import case, date, group, import_circus, revision, series, user, write_lines

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "filter"


@pytest.fixture
def client(db: None, tmp_path: Path) -> APIClient:
    """Of a user who may read everything."""
    import_circus(dump_of(read("dataset.json"), tmp_path / "dump"))
    _, token = create_token(user=User.objects.get(login_id="vectors"))
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def read(name: str) -> list[dict[str, Any]]:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"the vectors and their data set are not at {FOLDER}")
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def dump_of(documents: list[dict[str, Any]], folder: Path) -> Path:
    """Each document as a case whose series has the patient."""
    projects = sorted({document["projectId"] for document in documents})
    cases, all_series = [], []
    for index, document in enumerate(documents):
        uid = f"1.2.826.0.1.3680043.10.9.{index + 1}"
        patient = {"patientInfo": document["patientInfo"]} if "patientInfo" in document else {}
        all_series.append(series(uid, **patient))
        dates = {name: date(document[name]) for name in ("createdAt", "updatedAt")}
        only = revision(uid, date=dates["createdAt"])
        cases.append(case(document["caseId"], document["projectId"], only, tags=document["tags"], **dates))
    privileges = {"privileges": ["personalInfoView"], "domains": ["vega.example"]}
    return write_lines(
        folder,
        projects=[{"projectId": project, "projectName": project[:8]} for project in projects],
        groups=[group(901, "vectors", projects, roles=["read", "viewPersonalInfo"], **privileges)],
        users=[user("vectors", 901)],
        series=all_series,
        clinicalCases=cases,
    )


def test_vectors(client: APIClient) -> None:
    vectors = read("vectors_public.json")
    wrong = {vector["id"]: problem for vector in vectors if (problem := problem_of(client, vector))}
    assert not wrong, f"{len(wrong)} of {len(vectors)} vectors are wrong: {wrong}"


def problem_of(client: APIClient, vector: dict[str, Any]) -> str | None:
    """What is wrong with the answer to a vector's search."""
    parameters = {name: vector[name] for name in ("filter", "sort", "limit", "page") if vector.get(name) is not None}
    expect = vector["expect"]
    # A search that the database refuses spoils its transaction.
    with transaction.atomic():
        answer: Any = client.get("/api/cases?" + urlencode(parameters, errors="surrogatepass"))
        transaction.set_rollback(True)
    if "orStatus" in expect and answer.status_code == expect["orStatus"]:
        return None
    if answer.status_code != expect.get("status", 200):
        return f"{answer.status_code}"
    if answer.status_code != 200:
        return None
    got = [document["caseId"] for document in answer.json()]
    if "ids" in expect and sorted(got) != sorted(expect["ids"]):
        return f"other cases: {sorted(set(got) ^ set(expect['ids']))}"
    if "groups" in expect and not in_order(got, expect["groups"]):
        return f"another order: {got}"
    if vector.get("totalItems") is not None and answer["X-Total-Count"] != str(vector["totalItems"]):
        return f"X-Total-Count {answer['X-Total-Count']}"
    return None


def in_order(got: list[str], groups: list[list[str]]) -> bool:
    """Each group is a set of cases that are equal in this order; a page may end inside one."""
    for ties in groups:
        here, got = got[: len(ties)], got[len(ties) :]
        if not (set(here) == set(ties) if len(here) == len(ties) else set(here) <= set(ties)):
            return False
    return not got
