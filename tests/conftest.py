"""Set-up shared by all tests: a small world of users with every role, and a storage of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from tests.world import World, make_world


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> Path:
    """Every test has its own, empty storage."""
    location = tmp_path / "storage"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": {"location": location}},
    }
    assert Path(default_storage.location) == location
    return location


@pytest.fixture(autouse=True)
def fast_passwords(settings: Any) -> None:
    """A password is as slow to check as it should be; the tests check many."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture(scope="session")
def dicom_folder() -> Path:
    """Real DICOM series; CI always has them."""
    folder = os.environ.get("CASESTORE_DICOM")
    path = Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared" / "dicom"
    if not (path / "manifest.json").exists():
        pytest.skip(f"the real DICOM series are not at {path}; CASESTORE_DICOM names another folder")
    return path
