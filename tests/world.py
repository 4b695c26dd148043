"""The world that API tests play in: two projects, two domains, a user for each role."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rest_framework.test import APIClient

from cases import label_bits
from cases.models import Case, Series
from cases.provisioning import provision
from casestore.accounts.models import Domain, User
from casestore.accounts.services import create_token

PROJECT = "8883fdef6f5144f50eb2a83cd34baa44"
OTHER_PROJECT = "01other0project00000000000"
DOMAIN = "vega.example"
OTHER_DOMAIN = "sirius.example"
PROJECT_ROLES = ["read", "write", "viewPersonalInfo", "moderate", "addSeries"]
PRIVILEGES = [
    "createProject",
    "deleteProject",
    "manageServer",
    "personalInfoView",
    "downloadVolume",
    "issueOnetime",
]
# The users: what their one group gives them.
USERS: dict[str, dict[str, Any]] = {
    "everything": {
        "privileges": PRIVILEGES,
        "domains": [DOMAIN, OTHER_DOMAIN],
        "roles": {PROJECT: PROJECT_ROLES, OTHER_PROJECT: PROJECT_ROLES},
    },
    "reader": {"domains": [DOMAIN], "roles": {PROJECT: ["read"]}},
    "annotator": {
        "privileges": ["personalInfoView", "downloadVolume"],
        "domains": [DOMAIN],
        "roles": {PROJECT: ["read", "write", "viewPersonalInfo"]},
    },
    # Sees patients of no project, although the global privilege is there.
    "viewer": {"privileges": ["personalInfoView"], "domains": [DOMAIN], "roles": {PROJECT: ["read"]}},
    # Writes without reading, reads without a domain.
    "writer": {"domains": [DOMAIN], "roles": {PROJECT: ["write"]}},
    "outsider": {
        "privileges": PRIVILEGES,
        "domains": [OTHER_DOMAIN],
        "roles": {OTHER_PROJECT: PROJECT_ROLES},
    },
    "nobody": {},
}
PATIENT = {
    "patient_id": "P-4711",
    "patient_name": "Secret^Patient",
    "patient_birth_date": "1970-01-31",
    "patient_age": 45.0,
    "patient_sex": "F",
}


@dataclass
class World:
    tokens: dict[str, str] = field(default_factory=dict)

    def user(self, name: str) -> User:
        return User.objects.get(login_id=name)

    def client(self, name: str | None) -> APIClient:
        client = APIClient(raise_request_exception=False)
        if name is not None:
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.tokens[name]}")
        return client

    def series(self, uid: str = "1.2.3", *, domain: str = DOMAIN, images: str = "1-10", **fields: Any) -> Series:
        """A series without stored images, 8 x 6 pixels: enough for whatever does not look at voxels."""
        return Series.objects.create(
            series_uid=uid, domain=Domain.objects.get(name=domain), width=8, height=6, images=images, **fields
        )

    def case(self, series_uid: str = "1.2.3", *, by: str = "everything", project: str = PROJECT, **fields: Any) -> Case:
        """A case made through the API."""
        body = {"projectId": project, "series": [{"seriesUid": series_uid}], **fields}
        answer = self.client(by).post("/api/cases", body)
        assert answer.status_code == 201, answer.content
        return Case.objects.get(case_id=answer.json()["caseId"])

    def blob(self, mask: np.ndarray, *, by: str = "everything") -> str:
        """Stores a mask (z, y, x) through the API and returns its SHA-1."""
        data = label_bits.pack(mask)
        sha1 = hashlib.sha1(data).hexdigest()
        answer = self.client(by).put(f"/api/blob/{sha1}", data, content_type="application/octet-stream")
        assert answer.status_code == 201, answer.content
        return sha1


def make_world() -> World:
    provision(
        {
            "domains": [DOMAIN, OTHER_DOMAIN],
            "projects": [
                {
                    "projectId": PROJECT,
                    "projectName": "Lungs",
                    "tags": [{"caption": "happy", "color": "#ff0000"}],
                },
                {"projectId": OTHER_PROJECT, "projectName": "Other"},
            ],
            "groups": [{"groupName": name, **what} for name, what in USERS.items()],
            "users": [
                {
                    "userEmail": f"{name}@example.com",
                    "loginId": name,
                    "groups": [name],
                    "password": f"{name}-pass",
                }
                for name in USERS
            ],
        }
    )
    world = World()
    for name in USERS:
        _, world.tokens[name] = create_token(user=world.user(name))
    return world


def revision(series: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {"description": "d", "attributes": {}, "status": "draft", "series": series, **changes}


def voxel_label(sha1: str | None, origin: list[int], size: list[int], **more: Any) -> dict[str, Any]:
    return {"type": "voxel", "data": {"voxels": sha1, "origin": origin, "size": size}, **more}
