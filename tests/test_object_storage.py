"""Files in an object storage: a real S3 server, real processes, downloads by a presigned redirect."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from cases.models import Blob
from cases.services.blob_sweeping import sweep_blobs
from cases.services.blobs import read_blob
from cases.services.sweeping import sweep_files
from casestore import clock, environment
from casestore.errors import NotFound
from tests.asking import ask
from tests.dicom import SERIES_UID, write_series
from tests.installation import Installation, wait_for
from tests.world import World

pytestmark = pytest.mark.slow

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
BUCKET, PREFIX = "casestore", "some/where"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an S3 server that keeps its objects in memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: ask(f"{url}/moto-api/", timeout=5))
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=server, region_name="us-east-1").Bucket(BUCKET)
    bucket.create()
    return bucket


@pytest.fixture
def installation(server: str, bucket: Any, tmp_path: Path) -> Iterator[Installation]:
    storage = f"s3://{BUCKET}/{PREFIX}?endpoint_url={server}&region=us-east-1"
    found = Installation(tmp_path / "home", CASESTORE_STORAGE=storage, **CREDENTIALS)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def curl(*words: str) -> bytes:
    return subprocess.run(["curl", "-sS", *words], capture_output=True, check=True).stdout


def test_an_export_through_an_object_storage(installation: Installation, bucket: Any, tmp_path: Path) -> None:
    def keys() -> set[str]:
        return {found.key.removeprefix(f"{PREFIX}/") for found in bucket.objects.all()}

    group = {"groupName": "g", "privileges": ["downloadVolume"], "domains": ["d"], "roles": {"p": ["read", "write"]}}
    declared = {
        "domains": ["d"],
        "projects": [{"projectId": "p", "projectName": "P"}],
        "groups": [group],
        "users": [{"userEmail": "a@example.com", "loginId": "a", "groups": ["g"]}],
    }
    (tmp_path / "world.yaml").write_text(json.dumps(declared))
    installation.manage("provision", str(tmp_path / "world.yaml"))
    token = installation.manage("create_token", "a@example.com").strip()
    write_series(tmp_path / "in")
    installation.manage("import_dicom", "--domain", "d", str(tmp_path / "in"))
    assert len([key for key in keys() if key.startswith("dicom/")]) == 5
    body = {"projectId": "p", "series": [{"seriesUid": SERIES_UID}]}
    case_id = installation.request("POST", "/api/cases", body, token)["caseId"]
    export = {"caseIds": [case_id]}
    task_id = installation.request("POST", "/api/cases/export-mhd", export, token)["taskId"]

    def ended() -> Any:
        found = installation.request("GET", f"/api/tasks/{task_id}", token=token)
        return found if found["status"] != "processing" else None

    task = wait_for(ended)
    assert task["status"] == "finished", task
    address = installation.url + task["downloadUrl"]
    authorised = ("-H", f"Authorization: Bearer {token}")
    data = curl("-L", *authorised, address)
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (task["sha256"], task["size"])
    # A cut download goes on, and the file has its own name and type.
    assert curl("-L", "-r", "100-", *authorised, address) == data[100:] != b""
    head = curl("-I", "-L", *authorised, address).decode().lower()
    assert f"content-length: {len(data)}" in head
    head = curl("-i", "-L", *authorised, address).decode(errors="replace")
    assert "HTTP/1.1 302" in head
    assert f'filename="{task_id}.tar.gz"' in head
    assert "application/gzip" in head
    assert "content-encoding" not in head.lower()
    assert b"401" in curl("-i", address)
    # What the archive's owner may not know, the address does not say.
    location = next(line for line in head.splitlines() if line.lower().startswith("location:"))
    assert "X-Amz-Expires=300" in location
    exports = {key for key in keys() if key.startswith("exports/")}
    assert len(exports) == 1
    # Garbage goes, results stay; then the result goes with its task.
    bucket.put_object(Key=f"{PREFIX}/exports/{'0' * 26}/part", Body=b"x")
    installation.manage("sweep_tasks")
    assert {key for key in keys() if key.startswith("exports/")} > exports
    installation.manage("sweep_tasks", "--now")
    assert {key for key in keys() if key.startswith("exports/")} == exports
    installation.request("DELETE", f"/api/tasks/{task_id}", token=token)
    assert not {key for key in keys() if key.startswith(("exports/", "uploads/"))}


def test_blobs_are_swept(world: World, server: str, bucket: Any, settings: Any) -> None:
    options = environment.storage(f"s3://{BUCKET}/{PREFIX}?endpoint_url={server}&region=us-east-1", Path())
    settings.STORAGES = {**settings.STORAGES, "default": options}
    masks = [np.full((2, 2, 2), n) for n in range(2)]
    gone, stays = (world.blob(mask) for mask in masks)
    Blob.objects.filter(pk=gone).update(stored_at=clock.now() - timedelta(days=31))
    row = Blob.objects.get(pk=gone)
    assert sweep_blobs() == 1
    assert [Path(found.key).name for found in bucket.objects.all()] == [stays]
    with pytest.raises(NotFound):
        read_blob(row)
    # A file that has lost its row stays while it is young, and its blob can be stored once more.
    Blob.objects.filter(pk=stays).delete()
    assert sweep_blobs() == 0
    assert world.blob(masks[1]) == stays
    assert world.blob(masks[0]) == gone
    assert {Path(found.key).name for found in bucket.objects.all()} == {gone, stays}


def test_files_that_go_while_they_are_swept(server: str, bucket: Any, world: World, settings: Any) -> None:
    """A volume that another worker replaces: that it is gone, an object storage says in its own way."""
    url = f"s3://{BUCKET}/{PREFIX}?endpoint_url={server}&region=us-east-1"
    settings.STORAGES = {**settings.STORAGES, "default": environment.storage(url, Path("home"))}
    for name in ("volumes/1/a.nrrd", "volumes/2/b.nrrd"):
        bucket.put_object(Key=f"{PREFIX}/{name}", Body=b"x")

    def remove(execute: Any, *query: Any) -> Any:
        bucket.delete_objects(Delete={"Objects": [{"Key": f"{PREFIX}/volumes/1/a.nrrd"}]})
        return execute(*query)

    with connection.execute_wrapper(remove):
        assert sweep_files() == 0
    assert [found.key for found in bucket.objects.all()] == [f"{PREFIX}/volumes/2/b.nrrd"]


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "http://x/y", "file://host/x", "file:x", "x", "s3://b?acl=public"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="CASESTORE_STORAGE"):
        environment.storage(url, Path("home"))


def test_addresses() -> None:
    assert environment.storage("", Path("home"))["OPTIONS"] == {"location": Path("home/storage")}
    assert environment.storage("file:///with%20space/x", Path("home"))["OPTIONS"] == {"location": "/with space/x"}
    assert environment.storage("s3://b/x/y/?region=eu-central-1", Path("home"))["OPTIONS"] == {
        "bucket_name": "b",
        "location": "x/y",
        "region_name": "eu-central-1",
        "endpoint_url": None,
    }
