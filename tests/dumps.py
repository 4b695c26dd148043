"""Dumps of the original server's database, as files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management import call_command

DATE = "2022-01-01T12:00:00.000Z"
NAMES = ["read", "write", "addSeries", "viewPersonalInfo", "moderate"]


def write_lines(folder: Path, **collections: Iterable[dict[str, Any]]) -> Path:
    """As mongoexport writes them: a record on a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in collections.items():
        lines = (json.dumps(record, ensure_ascii=False) for record in records)
        (folder / f"{name}.json").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def date(text: str = DATE) -> dict[str, str]:
    return {"$date": text}


def group(number: int, name: str, projects: Iterable[str] = (), *, roles: Iterable[str] = NAMES, **more: Any) -> Any:
    lists = {f"{role}Projects": list(projects) if role in roles else [] for role in NAMES}
    return {"groupId": number, "groupName": name, "privileges": [], "domains": [], **lists, **more}


def user(name: str, *groups: int, **more: Any) -> dict[str, Any]:
    return {
        "userEmail": f"{name}@example.com",
        "loginId": name,
        "password": "",
        "groups": list(groups),
        "preferences": {},
        "loginEnabled": True,
        "myLists": [],
        **more,
    }


def series(uid: str, domain: str = "vega.example", **more: Any) -> dict[str, Any]:
    return {
        "seriesUid": uid,
        "studyUid": "1.2.3.4",
        "width": 8,
        "height": 6,
        "images": "1-10",
        "modality": "CT",
        "seriesDescription": "",
        "domain": domain,
        "parameters": {},
        "createdAt": date(),
        **more,
    }


def revision(*uids: str, labels: Iterable[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """The labels are in the first series."""
    entries: list[dict[str, Any]] = [
        {"seriesUid": uid, "partialVolumeDescriptor": {"start": 1, "end": 10, "delta": 1}, "labels": []} for uid in uids
    ]
    if entries:
        entries[0]["labels"] = list(labels)
    return {
        "creator": "alice@example.com",
        "date": date(),
        "description": "d",
        "attributes": {},
        "status": "draft",
        "series": entries,
        **more,
    }


def case(case_id: str, project: str, *revisions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "caseId": case_id,
        "projectId": project,
        "tags": [],
        "domains": ["vega.example"],
        "createdAt": date(),
        "updatedAt": date(),
        "latestRevision": revisions[-1],
        "revisions": list(revisions),
        **more,
    }


def import_circus(folder: Path) -> str:
    """What it prints."""
    out = io.StringIO()
    call_command("import_circus", str(folder), stdout=out)
    return out.getvalue()
