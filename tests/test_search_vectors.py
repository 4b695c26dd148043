"""The public vectors of the filter's semantics, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction

from cases.models import Case, CaseDocument, Project
from casestore import clock
from casestore.accounts.models import User
from datetime import datetime
from tests.world import World, make_world

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "filter"


def vectors() -> list[dict[str, Any]]:
    path = FOLDER / "vectors_public.json"
    return json.loads(path.read_text()) if path.exists() else []


@pytest.fixture
def dataset(db: None) -> World:
    from cases.provisioning import provision
    from casestore.accounts.services import create_token
    docs = json.loads((FOLDER / "dataset.json").read_text())
    projects = sorted({d["projectId"] for d in docs})
    roles = {p: ["read", "viewPersonalInfo"] for p in projects}
    provision({"domains": ["d"], "projects": [{"projectId": p, "projectName": p} for p in projects],
      "groups": [{"groupName": "g", "privileges": ["personalInfoView"], "domains": ["d"], "roles": roles}],
      "users": [{"userEmail": "a@example.com", "loginId": "a", "groups": ["g"]}]})
    for d in docs:
        i = d.get("patientInfo") or {}
        c = Case.objects.create(case_id=d["caseId"], project=Project.objects.get(project_id=d["projectId"]), tags=d["tags"],
          created_at=datetime.fromisoformat(d["createdAt"]), updated_at=datetime.fromisoformat(d["updatedAt"]),
          patient_id=i.get("patientId"), patient_name=i.get("patientName"), patient_age=i.get("age"), patient_sex=i.get("sex"))
        CaseDocument.objects.create(case=c, latest_revision="{}")
    world = World()
    _, world.tokens["a"] = create_token(user=User.objects.get(login_id="a"))
    return world


def test_vectors(dataset: World) -> None:
    client = dataset.client("a")
    wrong = []
    for vector in vectors():
        parameters = {name: vector[name] for name in ("filter", "sort", "limit", "page") if vector.get(name) is not None}
        # A search that the database refuses spoils its transaction.
        with transaction.atomic():
            answer = client.get("/api/cases?" + urlencode(parameters, errors="surrogatepass"))
            transaction.set_rollback(True)
        expect = vector["expect"] | {"totalItems": vector.get("totalItems")}
        problem = check(answer, expect)
        if problem:
            wrong.append((vector["id"], vector.get("filter") and vector["filter"][:200], vector.get("sort"), problem, expect if len(str(expect)) < 300 else "..."))
    for w in wrong: print(*w)
    assert not wrong, len(wrong)


def check(answer: Any, expect: dict[str, Any]) -> str | None:
    statuses = {expect.get("status", 200), expect.get("orStatus", expect.get("status", 200))}
    if answer.status_code not in statuses:
        return f"{answer.status_code} {answer.content[:200]!r}"
    if answer.status_code != 200:
        return None
    ids = [case["caseId"] for case in answer.json()]
    if "ids" in expect and set(ids) != set(expect["ids"]):
        return f"ids {set(ids) ^ set(expect['ids'])}"
    if expect.get("totalItems") is not None and answer["X-Total-Count"] != str(expect["totalItems"]):
        return f"total {answer['X-Total-Count']}"
    if "groups" in expect:
        rest = list(ids)
        for group in expect["groups"]:
            if set(rest[: len(group)]) != set(group):
                return f"order {rest} {group}"
            rest = rest[len(group):]
    return None
