"""`manage.py import_circus`: what a dump of the original server's database says is here, as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from django.apps import apps
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from cases.models import Case, Revision
from casestore.accounts.models import AccessToken, User
from casestore.accounts.services import digest_of
from casestore.search.values import iso_milliseconds
from tests.dumps import case, date, group, import_circus, revision, series, user, write_lines

PROJECT, OTHER = "8883fdef6f5144f50eb2a83cd34baa44", "01other0project00000000000"
TOKEN = "wHoLongAgoMadeThis.Token-0123456789"
PATIENT = {
    "patientId": "P-4711",
    "patientName": "Secret^Patient",
    "birthDate": "1970-01-31",
    "age": 45.5,
    "sex": "F",
    "size": 1.7,
    "weight": 70,
}
POINT = {
    "name": "p",
    "type": "point",
    "data": {"location": [1, 2.5, 3], "color": "#ff0000", "alpha": 1},
    "attributes": {},
}


def hashed(password: str, kind: str = "2y") -> str:
    return f"${kind}{bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()[3:]}"


def collections() -> dict[str, list[dict[str, Any]]]:
    """A small installation in which every field is used."""
    rights = {"privileges": ["personalInfoView", "downloadVolume"], "domains": ["vega.example"]}
    first = revision("1.1", creator="bob@example.com", date=date("2021-03-01T10:00:00.123Z"), description="")
    second = revision(
        "1.2",
        "1.1",
        date=date("2021-04-01T00:00:00.000Z"),
        attributes={"stage": 2, "when": date("2021-04-01T00:00:00.000Z"), "deep": [{"x": None}]},
        status="for-review",
        labels=[POINT, {"type": "ellipsoid", "data": {"min": [0, 0, 0], "max": [1, 1, 1]}}],
    )
    alice = user(
        "alice",
        7,
        password=hashed("alice's password"),
        description="An annotator",
        preferences={"personalInfoView": True, "theme": "dark"},
        createdAt=date("2020-01-01T00:00:00.000Z"),
        lastLoginIp="10.0.0.1",
        myLists=[
            {
                "myListId": "01list0of0cases",
                "resourceType": "clinicalCases",
                "name": "To do",
                "public": False,
                "editors": [
                    {"type": "group", "groupId": 8},
                    {"type": "user", "userEmail": "Bob@example.com"},
                ],
                "createdAt": date("2021-05-01T00:00:00.000Z"),
            },
            {
                "myListId": "01list0of0series",
                "resourceType": "series",
                "name": "Series",
                "public": True,
                "editors": [],
                "createdAt": date("2021-05-02T00:00:00.000Z"),
            },
        ],
    )
    return {
        "projects": [
            {
                "_id": {"$oid": "5f0e"},
                "projectId": PROJECT,
                "projectName": "Lungs",
                "icon": "lung",
                "description": "All of them",
                "windowPriority": "preset,dicom",
                "windowPresets": [{"label": "lung", "level": -600, "width": 1500}],
                "tags": [{"caption": "happy", "color": "#ff0000"}],
                "caseAttributesSchema": {"type": "object"},
                "labelAttributesSchema": {},
                "createdAt": date("2019-01-01T00:00:00.000Z"),
                "updatedAt": date("2019-02-01T00:00:00.000Z"),
            },
            {"projectId": OTHER, "projectName": "Other"},
        ],
        "groups": [
            group(7, "annotators", [PROJECT], roles=["read", "write", "viewPersonalInfo"], **rights),
            group(8, "lookers", [PROJECT, OTHER], roles=["read"]),
        ],
        "users": [
            alice,
            user("bob", 8, password=hashed("bob's password", "2a")),
            user("carol", 7, 8, password=hashed("carol's password"), loginEnabled=False),
            user("dave", password=""),
        ],
        "series": [
            series("1.1", patientInfo=PATIENT, seriesDate=date("2020-02-03T04:05:06.789Z"), parameters={"kvp": 120}),
            series("1.2", images="1-8,10,12", manufacturer="M", modelName="m", stationName="S", bodyPart="CHEST"),
            series("1.3", patientInfo={"patientId": "", "age": 0}),
        ],
        "clinicalCases": [
            case(
                "yjio7f9eiqc5jf3rzk782v91fx",
                PROJECT,
                first,
                second,
                tags=["b", "a", "", "b"],
                createdAt=date("2021-03-02T00:00:00.001Z"),
                updatedAt=date("2021-06-01T00:00:00.999Z"),
            ),
            case("case 2 ü", PROJECT, revision("1.3"), createdAt=None, updatedAt=None),
            case("case-3", OTHER, revision("1.1")),
        ],
        "myLists": [
            {
                "myListId": "01list0of0cases",
                "items": [
                    {"resourceId": "case 2 ü", "createdAt": date("2021-05-03T00:00:00.000Z")},
                    {"resourceId": "yjio7f9eiqc5jf3rzk782v91fx", "createdAt": date("2021-05-04T00:00:00.007Z")},
                    {"resourceId": "case-3", "createdAt": date("2021-05-01T00:00:00.000Z")},
                ],
            },
        ],
        "tokens": [
            {
                "accessToken": TOKEN,
                "accessTokenExpiresAt": date("2999-12-31T00:00:00.000Z"),
                "userId": "alice@example.com",
                "permanentTokenId": "tokenid",
                "permanentTokenDescription": "laptop",
            },
            {
                "accessToken": "of-bob-by-login-id",
                "accessTokenExpiresAt": {"$date": {"$numberLong": "8640000000000000"}},
                "userId": "bob",
            },
            {
                "accessToken": "of-bob-and-expired",
                "accessTokenExpiresAt": date("2020-01-01T00:00:00.000Z"),
                "userId": "bob@example.com",
            },
            {"accessToken": "of-carol-who-is-out", "userId": "carol"},
        ],
    }


def client(token: str = TOKEN) -> APIClient:
    found = APIClient(raise_request_exception=False)
    found.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return found


def get(path: str, token: str = TOKEN) -> Any:
    answer: Any = client(token).get(f"/api/{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def everything() -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, without the date that storing a blob again renews."""
    return {
        model._meta.label: [
            {name: value for name, value in row.items() if name != "stored_at"}
            for row in model._default_manager.order_by("pk").values()
        ]
        for label in ("accounts", "auth", "cases", "mylists", "tasks")
        for model in apps.get_app_config(label).get_models()
    }


def without_dates_of_rows() -> dict[str, Any]:
    """All rows, without what differs between two imports: keys, and dates that the dump does not have."""

    def clean(row: dict[str, Any]) -> dict[str, Any]:
        made_here = {name for name in row if name in {"id", "created_at", "updated_at", "token_id", "password"}}
        return {name: value for name, value in row.items() if name not in made_here and not name.endswith("_id")}

    return {label: [clean(row) for row in rows] for label, rows in everything().items() if "auth" not in label}


@pytest.fixture
def dump(db: None, tmp_path: Path) -> Path:
    return write_lines(tmp_path / "dump", **collections())


@pytest.fixture
def imported(dump: Path) -> str:
    return import_circus(dump)


def test_what_it_says(imported: str) -> None:
    volume = "revisions[1].series[0].partialVolumeDescriptor"
    assert imported.splitlines() == [
        f"noted   clinicalCases.json:1 yjio7f9eiqc5jf3rzk782v91fx: {volume}: The series has no image 9.",
        "projects.json: 2 imported, 0 changed, 0 unchanged, 0 refused.",
        "groups.json: 2 imported, 0 changed, 0 unchanged, 0 refused.",
        "users.json: 4 imported, 0 changed, 0 unchanged, 0 refused.",
        "series.json: 3 imported, 0 changed, 0 unchanged, 0 refused.",
        "clinicalCases.json: 3 imported, 0 changed, 0 unchanged, 0 refused; 1 noted.",
        "myLists.json: 1 imported, 0 changed, 0 unchanged, 0 refused.",
        "users.json (myLists): 1 imported, 0 changed, 0 unchanged, 0 refused.",
        "tokens.json: 4 imported, 0 changed, 0 unchanged, 0 refused.",
        "Left out, as there is no place for it here: users.lastLoginIp (1).",
    ]


def test_a_case_is_as_it_was(imported: str) -> None:
    said = collections()["clinicalCases"][0]
    got = get("cases/yjio7f9eiqc5jf3rzk782v91fx")
    for made in said["revisions"]:
        made["date"] = made["date"]["$date"]
    said["revisions"][1]["attributes"]["when"] = "2021-04-01T00:00:00.000Z"
    assert got == {
        "caseId": "yjio7f9eiqc5jf3rzk782v91fx",
        "projectId": PROJECT,
        "revisions": said["revisions"],
        "patientInfo": PATIENT,
        "tags": ["b", "a", "", "b"],
        "domains": ["vega.example"],
        "createdAt": "2021-03-02T00:00:00.001Z",
        "updatedAt": "2021-06-01T00:00:00.999Z",
    }
    listed = {item["caseId"]: item for item in get("cases")}
    assert listed.keys() == {"yjio7f9eiqc5jf3rzk782v91fx", "case 2 ü"}
    assert listed["yjio7f9eiqc5jf3rzk782v91fx"]["latestRevision"] == said["revisions"][1]
    assert list(Revision.objects.filter(case__case_id=got["caseId"]).values_list("index", flat=True)) == [0, 1]
    found = get('cases?filter={"latestRevision.labels.name":"p","patientInfo.age":45.5,"revisionCount":2}')
    assert [item["caseId"] for item in found] == ["yjio7f9eiqc5jf3rzk782v91fx"]


def test_missing_dates_come_from_the_revisions(imported: str) -> None:
    got = get("cases/case%202%20%C3%BC")
    assert (got["createdAt"], got["updatedAt"]) == ("2022-01-01T12:00:00.000Z", "2022-01-01T12:00:00.000Z")
    assert got["patientInfo"] == {"patientId": "", "age": 0}


def test_projects_and_series_are_as_they_were(imported: str) -> None:
    said = collections()
    (got,) = get("projects")
    assert {name: got[name] for name in said["projects"][0] if name != "_id"} == {
        **{name: value for name, value in said["projects"][0].items() if name != "_id"},
        "createdAt": "2019-01-01T00:00:00.000Z",
        "updatedAt": "2019-02-01T00:00:00.000Z",
    }
    found = {item["seriesUid"]: item for item in get("series")}
    assert found["1.1"]["patientInfo"] == PATIENT
    assert found["1.1"]["seriesDate"] == "2020-02-03T04:05:06.789Z"
    assert found["1.1"]["parameters"] == {"kvp": 120}
    assert found["1.2"] == {
        "seriesUid": "1.2",
        "studyUid": "1.2.3.4",
        "width": 8,
        "height": 6,
        "images": "1-8,10,12",
        "seriesDate": None,
        "modality": "CT",
        "seriesDescription": "",
        "bodyPart": "CHEST",
        "stationName": "S",
        "modelName": "m",
        "manufacturer": "M",
        "parameters": {},
        "domain": "vega.example",
        "createdAt": "2022-01-01T12:00:00.000Z",
        "updatedAt": "2022-01-01T12:00:00.000Z",
    }


def test_users_may_what_they_might(imported: str) -> None:
    got = get("login-info/full")
    assert got == {
        "userEmail": "alice@example.com",
        "loginId": "alice",
        "description": "An annotator",
        "preferences": {"personalInfoView": True, "theme": "dark"},
        "groups": [{"groupId": 7, "groupName": "annotators"}],
        "globalPrivileges": ["downloadVolume", "personalInfoView"],
        "domains": ["vega.example"],
        "accessibleProjects": [
            {"projectId": PROJECT, "projectName": "Lungs", "roles": ["read", "write", "viewPersonalInfo"]}
        ],
    }
    assert {item["caseId"] for item in get("cases", "of-bob-by-login-id")} == {
        "yjio7f9eiqc5jf3rzk782v91fx",
        "case 2 ü",
        "case-3",
    }
    assert not any("patientInfo" in item for item in get("cases", "of-bob-by-login-id"))


def test_a_group_made_later_gets_another_number(imported: str) -> None:
    assert Group.objects.get(pk=8).name == "lookers"
    assert Group.objects.create(name="new").pk > 8


def test_tokens_keep_working_and_only_their_digests_are_here(imported: str) -> None:
    assert client("of-bob-and-expired").get("/api/cases").status_code == 401
    assert client("of-carol-who-is-out").get("/api/cases").status_code == 401
    assert client("unknown-token").get("/api/cases").status_code == 401
    (mine,) = get("tokens")
    assert (mine["tokenId"], mine["description"]) == ("tokenid", "laptop")
    assert mine["expiresAt"] == "2999-12-31T00:00:00.000Z"
    assert AccessToken.objects.get(token_id="tokenid").digest == digest_of(TOKEN)
    assert AccessToken.objects.get(digest=digest_of("of-bob-by-login-id")).expires_at is None
    assert TOKEN not in str(everything())
    assert TOKEN not in imported


@pytest.mark.parametrize("login", ["alice", "Alice@example.com"])
def test_passwords_keep_working(imported: str, login: str) -> None:
    alice = User.objects.get(login_id="alice")
    assert alice.password.startswith("bcrypt$$2y$")
    assert Client().post("/api-auth/login/", {"username": login, "password": "alices password"}).status_code == 200
    assert User.objects.get(login_id="alice").password == alice.password
    for _ in range(2):
        browser = Client()
        assert browser.post("/api-auth/login/", {"username": login, "password": "alice's password"}).status_code == 302
        assert browser.get("/api/login-info").json()["loginId"] == "alice"
        # As ours are stored, from the first login on.
        assert not User.objects.get(login_id="alice").password.startswith("bcrypt")


def test_who_cannot_log_in(imported: str) -> None:
    for login, password in (("carol", "carol's password"), ("dave", ""), ("dave", "x")):
        answer = Client().post("/api-auth/login/", {"username": login, "password": password})
        assert answer.status_code == 200, login
    assert not User.objects.get(login_id="dave").has_usable_password()


def test_lists_are_as_they_were(imported: str) -> None:
    got = get("mylists/01list0of0cases")
    assert got == {
        "myListId": "01list0of0cases",
        "name": "To do",
        "resourceType": "clinicalCases",
        "public": False,
        "editors": [{"type": "group", "groupId": 8}, {"type": "user", "userEmail": "bob@example.com"}],
        "userEmail": "alice@example.com",
        # The third case is in a project that she may not read.
        "itemsCount": 2,
        "resourceIds": ["yjio7f9eiqc5jf3rzk782v91fx", "case 2 ü"],
        "createdAt": "2021-05-01T00:00:00.000Z",
        "updatedAt": "2021-05-04T00:00:00.007Z",
    }
    assert [item["caseId"] for item in get("cases/list/01list0of0cases", "of-bob-by-login-id")] == [
        "yjio7f9eiqc5jf3rzk782v91fx",
        "case 2 ü",
        "case-3",
    ]
    other = get("mylists/01list0of0series", "of-bob-by-login-id")
    assert (other["public"], other["resourceIds"], other["updatedAt"]) == (True, [], "2021-05-02T00:00:00.000Z")


@pytest.mark.parametrize(
    ("path", "total"), [("cases", 2), ("cases/list/01list0of0cases", 2), ("series", 3), ("tasks", 0)]
)
def test_clients_of_the_original_server_get_its_envelope(imported: str, settings: Any, path: str, total: int) -> None:
    assert len(get(path)) == total
    settings.CASESTORE_ENVELOPE = True
    got = get(path)
    assert list(got) == ["items", "totalItems", "page"]
    assert (len(got["items"]), got["totalItems"], got["page"]) == (total, total, 1)
    assert len(get(f"{path}?envelope=0")) == total


def test_a_second_run_changes_nothing(dump: Path) -> None:
    import_circus(dump)
    before = everything()
    said = import_circus(dump)
    assert everything() == before
    assert " 0 imported, 0 changed, 3 unchanged, 0 refused" in said
    assert "tokens.json: 0 imported, 0 changed, 4 unchanged, 0 refused." in said
    # Nor one after somebody has logged in, and used a token.
    Client().post("/api-auth/login/", {"username": "alice", "password": "alice's password"})
    get("cases")
    before = everything()
    import_circus(dump)
    assert everything() == before


def canonical(value: Any) -> Any:
    """Extended JSON with the type of every number."""
    if isinstance(value, dict):
        if set(value) == {"$date"}:
            milliseconds = value["$date"]
            return (
                {"$date": {"$numberLong": str(iso_milliseconds(milliseconds))}}
                if isinstance(milliseconds, str)
                else value
            )
        return {name: canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return {"$numberDouble": str(value)} if isinstance(value, float) else {"$numberInt": str(value)}


def strict_yaml(value: Any) -> Any:
    """With dates as YAML has them."""
    if isinstance(value, dict):
        if set(value) == {"$date"} and isinstance(value["$date"], str):
            return yaml.safe_load(value["$date"])
        return {name: strict_yaml(member) for name, member in value.items()}
    return [strict_yaml(item) for item in value] if isinstance(value, list) else value


FORMS: dict[str, tuple[str, Callable[[list[Any]], str]]] = {
    "array": ("json", json.dumps),
    "pretty array": ("json", lambda records: json.dumps(records, indent=2)),
    "pretty objects": ("json", lambda records: "\n".join(json.dumps(record, indent=4) for record in records)),
    "jsonl": ("jsonl", lambda records: "\n".join(json.dumps(record) for record in records)),
    "canonical": ("json", lambda records: "\n".join(json.dumps(canonical(record)) for record in records)),
    "yaml": ("yaml", lambda records: yaml.safe_dump(strict_yaml(records), sort_keys=False, allow_unicode=True)),
    "documents": ("yml", lambda records: yaml.safe_dump_all(strict_yaml(records), sort_keys=False)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_imports_the_same(dump: Path, tmp_path: Path, form: str) -> None:
    import_circus(dump)
    expected = without_dates_of_rows()
    for model in ("mylists.MyList", "cases.Case", "cases.Series", "accounts.User", "auth.Group", "cases.Project"):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL casestore.deleting_case = 'on'")
        apps.get_model(model)._default_manager.all().delete()
    suffix, write = FORMS[form]
    other = tmp_path / "other"
    other.mkdir()
    for name, records in collections().items():
        (other / f"{name}.{suffix}").write_text(write(records), encoding="utf-8")
    assert "refused" not in import_circus(other).replace("0 refused", "")
    assert without_dates_of_rows() == expected


def test_any_file_may_be_missing(dump: Path) -> None:
    for name in collections():
        (dump / f"{name}.json").rename(dump / f"{name}.aside")
    with pytest.raises(CommandError, match="no file of a dump"):
        call_command("import_circus", str(dump))
    for name in collections():
        (dump / f"{name}.aside").rename(dump / f"{name}.json")
        said = import_circus(dump)
        assert f"{name}.json: " in said
        (dump / f"{name}.json").rename(dump / f"{name}.aside")
    # The groups of a user, and the editors of a list, are named by numbers of the dump that has the groups.
    assert User.objects.get(login_id="alice").groups.count() == 0
    assert Case.objects.count() == 3


def test_what_cannot_be_read(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no file of a dump"):
        call_command("import_circus", str(tmp_path / "nowhere"))
    (tmp_path / "users.json").write_text("nothing of the kind\n")
    (tmp_path / "jobs.json").write_text("{}")
    with pytest.raises(CommandError, match="Nothing could be imported"):
        import_circus(tmp_path)
    (tmp_path / "projects.json").write_text('{"projectId": "p"}\n')
    said = import_circus(tmp_path)
    assert "refused users.json:1: This is not an object." in said
    assert "projects.json: 1 imported" in said
    assert "Not read: jobs.json." in said
    (tmp_path / "series.json").mkdir()
    (tmp_path / "projects.json").unlink()
    (tmp_path / "projects.json").symlink_to(tmp_path / "missing")
    with pytest.raises(CommandError, match="Nothing could be imported"):
        import_circus(tmp_path)


def test_an_empty_dump_is_no_failure(db: None, tmp_path: Path) -> None:
    assert "0 imported, 0 changed, 0 unchanged, 0 refused" in import_circus(write_lines(tmp_path, users=[]))
