"""Set-up shared by all tests: a small world of users with every role, and a storage of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.core.files.storage import default_storage
from django.db import connection

from casestore.embedded.places import ROOT
from casestore.supervisor import WEB, WORKER, worker_pool
from tests.asking import ask
from tests.world import World, make_world

# The same examples in every run, so that a change that breaks nothing never fails; HYPOTHESIS_PROFILE=search looks
# for new ones.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


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
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS[1:]]


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture
def cases(world: World, tmp_path: Path) -> list[str]:
    """Three cases on series of their own, the first with labels that overlap."""
    from tests.packing import make_cases

    return make_cases(world, tmp_path)


@pytest.fixture(scope="session")
def dicom_folder() -> Path:
    """Real DICOM series; CI always has them."""
    folder = os.environ.get("CASESTORE_DICOM")
    path = Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared" / "dicom"
    if not (path / "manifest.json").exists():
        pytest.skip(f"the real DICOM series are not at {path}; CASESTORE_DICOM names another folder")
    return path


@pytest.fixture(scope="session")
def worker_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CASESTORE_HOME of the worker; its storage is shared with the tests that use it."""
    return tmp_path_factory.mktemp("worker")


def our_database() -> str:
    """Of this process's tests, for a server that they start.

    What looks at tasks now and then may meet the test's end, when all tables are emptied at once. Of the two it finds
    that they wait for each other first, and gives way.
    """
    url = os.environ["DATABASE_URL"].replace("/casestore?", f"/{connection.settings_dict['NAME']}?")
    return f"{url}&options=-c%20deadlock_timeout%3D50ms"


@pytest.fixture(scope="session")
def running_worker(django_db_setup: None, worker_home: Path) -> Iterator[Path]:
    """A real Celery worker on this process's database and broker number; its log."""
    log = worker_home / "worker.log"
    environment = os.environ | {
        "CASESTORE_HOME": str(worker_home),
        "DATABASE_URL": our_database(),
    }
    command = [sys.executable, "-m", *WORKER, f"--pool={worker_pool()}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while b" ready." not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    yield log
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def worker(running_worker: Path, worker_home: Path, settings: Any, transactional_db: None, storage: Path) -> Path:
    """Tasks of this test are done by a real worker. The worker's log."""
    options = {"location": worker_home / "storage"}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}
    return running_worker


@dataclass
class Web:
    url: str

    def curl(self, *words: str, token: str, check: bool = True) -> bytes:
        command = ["curl", "-sS", "-H", f"Authorization: Bearer {token}", *words]
        return subprocess.run(command, capture_output=True, check=check).stdout


@contextmanager
def web_server(home: Path, **more: str) -> Iterator[Web]:
    """The web server of `make run`, on this process's database and the storage in `home`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "CASESTORE_HOME": str(home),
        "DATABASE_URL": our_database(),
        **more,
    }
    log = home / "web.log"
    command = [sys.executable, "-m", *WEB, f"--bind=127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    web = Web(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 60
    while True:
        try:
            ask(f"{web.url}/api/health", timeout=5)
            break
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    try:
        yield web
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def running_web(django_db_setup: None, worker_home: Path) -> Iterator[Web]:
    with web_server(worker_home) as web:
        yield web


@pytest.fixture
def web(running_web: Web, worker_home: Path, settings: Any, transactional_db: None, storage: Path) -> Web:
    options = {"location": worker_home / "storage"}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}
    return running_web
