"""Users, tokens, logins, provisioning."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client

from cases.models import Project
from casestore import clock
from casestore.accounts.models import AccessToken, User
from casestore.accounts.services import digest_of
from tests.world import DOMAIN, OTHER_DOMAIN, OTHER_PROJECT, PRIVILEGES, PROJECT, PROJECT_ROLES, World, make_world

README_EXAMPLE = """
domains: [vega.example]
projects:
  - {projectId: 8883fdef6f5144f50eb2a83cd34baa44, projectName: Lung nodules, tags: [{caption: happy, color: "#ff0000"}],
     caseAttributesSchema: {}, labelAttributesSchema: {}}
groups:
  - {groupName: annotators, privileges: [personalInfoView, downloadVolume], domains: [vega.example],
     roles: {8883fdef6f5144f50eb2a83cd34baa44: [read, write, viewPersonalInfo]}}
users:
  - {userEmail: bob@example.com, loginId: bob, groups: [annotators], password: optional, preferences: {personalInfoView: true}}
"""


def command(*args: str) -> str:
    out = StringIO()
    call_command(*args, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_create_token_prints_the_token_and_nothing_else(world: World) -> None:
    printed = command("create_token", "Reader@Example.com", "--description", "laptop")
    token = printed.strip()
    assert printed == f"{token}\n"
    assert world.client("reader").get("/api/tokens").json()[0]["description"] == "laptop"
    row = AccessToken.objects.get(description="laptop")
    assert row.digest == digest_of(token)
    assert token not in json.dumps({f.name: str(getattr(row, f.name)) for f in AccessToken._meta.fields})
    with pytest.raises(CommandError):
        command("create_token", "unknown@example.com")


def test_a_token_notes_its_last_use_but_not_at_each_request(world: World) -> None:
    world.client("reader").get("/api/login-info")
    row = AccessToken.objects.get(user=world.user("reader"))
    assert row.last_used_at is not None
    used = row.last_used_at
    world.client("reader").get("/api/login-info")
    row.refresh_from_db()
    assert row.last_used_at == used


def test_an_expired_token_is_refused(world: World) -> None:
    client = world.client("reader")
    assert client.get("/api/login-info").status_code == 200
    AccessToken.objects.filter(user=world.user("reader")).update(expires_at=clock.now() - timedelta(seconds=1))
    answer = client.get("/api/login-info")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["", "x", "cst_" + "x" * 43, "a\0b", "é" * 20, "x" * 5000, "a b"])
def test_a_wrong_token_is_refused(world: World, token: str) -> None:
    client = world.client(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/cases").status_code == 401


def test_a_disabled_user_is_out_at_once(world: World) -> None:
    browser = Client()
    login = {"username": "reader", "password": "reader-pass"}
    assert browser.post("/api-auth/login/", login).status_code == 302
    assert browser.get("/api/login-info").json()["userEmail"] == "reader@example.com"
    token = world.client("reader")
    User.objects.filter(login_id="reader").update(is_active=False)
    assert browser.get("/api/login-info").status_code == 401
    assert token.get("/api/login-info").status_code == 401
    assert Client().post("/api-auth/login/", login).status_code == 200  # the form again
    User.objects.filter(login_id="reader").update(is_active=True)
    assert token.get("/api/login-info").status_code == 200


@pytest.mark.parametrize("login", ["reader", "reader@example.com", "READER@example.com"])
def test_login_by_email_or_login_id(world: World, login: str) -> None:
    browser = Client()
    assert browser.post("/api-auth/login/", {"username": login, "password": "wrong"}).status_code == 200
    assert browser.post("/api-auth/login/", {"username": login, "password": "reader-pass"}).status_code == 302
    page = browser.get("/api/cases", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert b"reader@example.com" in page.content


def test_session_writes_need_the_csrf_token(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.user("everything"))
    answer = browser.post("/api/tokens", "{}", content_type="application/json")
    assert answer.status_code == 403
    assert answer.json()["code"] == "permission_denied"


def test_tokens_through_the_api(world: World) -> None:
    client = world.client("reader")
    made = client.post("/api/tokens", {"description": "script", "expiresAt": "2999-01-01T00:00:00Z"})
    assert made.status_code == 201
    token = made.json()["accessToken"]
    listed = client.get("/api/tokens").json()
    assert listed[0]["tokenId"] == made.json()["tokenId"]
    assert listed[0]["expiresAt"] == "2999-01-01T00:00:00.000Z"
    assert token not in json.dumps(listed)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/login-info").json()["loginId"] == "reader"


@pytest.mark.parametrize(
    "body",
    [
        {"description": 5},
        {"description": "x" * 256},
        {"expiresAt": "2001-01-01T00:00:00Z"},
        {"expiresAt": "soon"},
        {"expires": "2999-01-01T00:00:00Z"},
        [],
    ],
)
def test_wrong_token_bodies(world: World, body: Any) -> None:
    answer = world.client("reader").post("/api/tokens", body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_body"
    assert AccessToken.objects.filter(user=world.user("reader")).count() == 1


def test_provision_the_readme_example_twice(db: None, tmp_path: Path) -> None:
    file = tmp_path / "installation.yaml"
    file.write_text(README_EXAMPLE)
    command("provision", str(file))
    before = (User.objects.get().password, Project.objects.get().updated_at)
    command("provision", str(file))
    user = User.objects.get()
    assert before == (user.password, Project.objects.get().updated_at)
    assert user.email == "bob@example.com"
    assert user.check_password("optional")
    assert user.privileges == {"personalInfoView", "downloadVolume"}
    assert user.domains == {"vega.example"}
    visible = Project.objects.visible_to(user, "write").get()
    assert visible.project_id == "8883fdef6f5144f50eb2a83cd34baa44"
    assert not Project.objects.visible_to(user, "moderate").exists()


def test_provision_takes_away_what_is_no_longer_declared(db: None, tmp_path: Path) -> None:
    file = tmp_path / "installation.json"
    group = {"groupName": "g", "privileges": ["manageServer"], "domains": ["a", "b"]}
    user = {"userEmail": "a@example.com", "loginId": "a", "groups": ["g"]}
    file.write_text(json.dumps({"groups": [group], "users": [user]}))
    command("provision", str(file))
    group.update(privileges=["downloadVolume"], domains=["b"])
    file.write_text(json.dumps({"groups": [group]}))
    command("provision", str(file))
    row = User.objects.get()
    assert (row.privileges, row.domains) == ({"downloadVolume"}, {"b"})
    assert not row.has_usable_password()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "neither JSON nor YAML"),
        ('{"groups": [{"groupName": "g", "privileges": ["flying"]}]}', "groups[0].privileges"),
        ('{"groups": [{"groupName": "g", "roles": {"nowhere": ["read"]}}]}', "There is no project nowhere"),
        ('{"users": [{"userEmail": "no address", "loginId": "a"}]}', "users[0].userEmail"),
        (
            '{"users": [{"userEmail": "a@example.com", "loginId": "a", "groups": ["h"]}]}',
            "There is no group h",
        ),
        ('{"projects": [{"projectName": "p", "caseAttributesSchema": {"type": 5}}]}', "not a JSON Schema"),
        ('{"planets": []}', "planets"),
    ],
)
def test_a_wrong_declaration_changes_nothing(db: None, tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "installation"
    file.write_text(content)
    with pytest.raises(CommandError, match=".*") as refusal:
        command("provision", str(file))
    assert says in str(refusal.value)
    assert not User.objects.exists()
    assert not Group.objects.exists()


def test_login_info_full(world: World) -> None:
    info = world.client("everything").get("/api/login-info/full").json()
    group = Group.objects.get(name="everything")
    assert info == {
        "userEmail": "everything@example.com",
        "loginId": "everything",
        "description": "",
        "preferences": {},
        "groups": [{"groupId": group.pk, "groupName": "everything"}],
        "globalPrivileges": sorted(PRIVILEGES),
        "domains": [OTHER_DOMAIN, DOMAIN],
        "accessibleProjects": [
            {"projectId": PROJECT, "projectName": "Lungs", "roles": PROJECT_ROLES},
            {"projectId": OTHER_PROJECT, "projectName": "Other", "roles": PROJECT_ROLES},
        ],
    }
    nobody = world.client("nobody").get("/api/login-info/full").json()
    assert [nobody[name] for name in ("globalPrivileges", "domains", "accessibleProjects")] == [[], [], []]


def test_roles_of_several_groups_add_up(world: World) -> None:
    world.user("reader").groups.add(Group.objects.get(name="writer"), Group.objects.get(name="annotator"))
    info = world.client("reader").get("/api/login-info/full").json()
    assert [group["groupName"] for group in info["groups"]] == ["annotator", "reader", "writer"]
    assert info["accessibleProjects"] == [
        {"projectId": PROJECT, "projectName": "Lungs", "roles": ["read", "write", "viewPersonalInfo"]}
    ]


def test_preferences_are_merged(world: World) -> None:
    client = world.client("annotator")
    assert client.get("/api/preferences").json() == {}
    answer = client.patch("/api/preferences", {"theme": "dark", "personalInfoView": False, "nested": {"a": None}})
    assert answer.status_code == 200
    assert answer.json() == {"theme": "dark", "personalInfoView": False, "nested": {"a": None}}
    assert client.patch("/api/preferences", {}).json() == answer.json()
    answer = client.patch("/api/preferences", {"theme": None, "unknown": None, "nested": {"b": 1}})
    assert answer.json() == client.get("/api/preferences").json() == {"personalInfoView": False, "nested": {"b": 1}}
    assert client.get("/api/login-info").json()["preferences"] == answer.json()
    assert not world.user("annotator").wants_patient_info
    assert client.patch("/api/preferences", {"personalInfoView": None}).json() == {"nested": {"b": 1}}
    assert world.user("annotator").wants_patient_info
    assert world.client("reader").get("/api/preferences").json() == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "invalid_body"),
        ("dark", "invalid_body"),
        (None, "bad_request"),
        ({"personalInfoView": "yes"}, "invalid_body"),
        ({"personalInfoView": 0}, "invalid_body"),
        ({"big": "x" * 9980}, "bad_request"),
        ({"big": "é" * 5000}, "bad_request"),
    ],
)
def test_wrong_preferences(world: World, body: Any, code: str) -> None:
    client = world.client("reader")
    client.patch("/api/preferences", {"theme": "dark"})
    answer = client.patch("/api/preferences", json.dumps(body), content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["code"] in {code, "invalid_body"}
    assert client.get("/api/preferences").json() == {"theme": "dark"}


@pytest.mark.django_db(transaction=True)
def test_simultaneous_changes_of_preferences_all_remain() -> None:
    world = make_world()
    start = threading.Barrier(5)

    def write(number: int) -> None:
        client = world.client("reader")
        start.wait()
        for k in range(3):
            assert client.patch("/api/preferences", {f"{number}.{k}": k}).status_code == 200
        connections.close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.user("reader").preferences == {f"{number}.{k}": k for number in range(5) for k in range(3)}


def test_projects_as_published(world: World) -> None:
    (project,) = world.client("reader").get("/api/projects").json()
    assert project == world.client("reader").get(f"/api/projects/{PROJECT}").json()
    assert list(project) == [
        "projectId",
        "projectName",
        "icon",
        "description",
        "windowPriority",
        "windowPresets",
        "tags",
        "caseAttributesSchema",
        "labelAttributesSchema",
        "labelValues",
        "createdAt",
        "updatedAt",
    ]
    assert project["tags"] == [{"caption": "happy", "color": "#ff0000"}]


def test_requests_can_be_bounded(world: World, settings: Any) -> None:
    settings.CASESTORE_REQUESTS_PER_MINUTE = 3
    cache.clear()
    answers = [world.client("reader").get("/api/cases") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "throttled"
    assert 0 < int(answers[3]["Retry-After"]) <= 61
    # Others are not hindered, nor anybody where there is no bound.
    assert world.client("annotator").get("/api/cases").status_code == 200
    settings.CASESTORE_REQUESTS_PER_MINUTE = 0
    assert world.client("reader").get("/api/cases").status_code == 200
