"""Label voxels: PUT and GET /api/blob/:sha1."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from cases.models import Blob
from tests.conftest import Web
from tests.world import World

DATA = bytes(range(256))
SHA1 = hashlib.sha1(DATA).hexdigest()


def put(world: World, data: bytes, sha1: str = SHA1, by: str = "annotator", **options: Any) -> Any:
    return world.client(by).put(f"/api/blob/{sha1}", data, content_type="application/octet-stream", **options)


def test_put_get(world: World) -> None:
    assert put(world, DATA).status_code == 201
    answer = world.client("annotator").get(f"/api/blob/{SHA1}")
    assert answer.content == DATA
    assert answer["Content-Type"] == "application/octet-stream"
    assert put(world, DATA).status_code == 201
    assert Blob.objects.get().size == 256


def test_who_stored_it_may_read_it(world: World) -> None:
    put(world, DATA)
    assert world.client("reader").get(f"/api/blob/{SHA1}").status_code == 404
    put(world, DATA, by="reader")
    assert world.client("reader").get(f"/api/blob/{SHA1}").status_code == 200


def test_gzip(world: World) -> None:
    assert put(world, gzip.compress(DATA), HTTP_CONTENT_ENCODING="gzip").status_code == 201
    assert world.client("annotator").get(f"/api/blob/{SHA1}").content == DATA


@pytest.mark.parametrize(
    ("data", "sha1", "encoding"),
    [
        (b"", hashlib.sha1(b"").hexdigest(), "identity"),
        (DATA, "0" * 40, "identity"),
        (DATA, SHA1.upper(), "identity"),
        (DATA, SHA1[:-1], "identity"),
        (DATA, "../../etc", "identity"),
        (DATA, SHA1, "gzip"),
        (gzip.compress(DATA)[:-1], SHA1, "gzip"),
        (gzip.compress(DATA) + b"x", SHA1, "gzip"),
        (gzip.compress(b"", mtime=0), hashlib.sha1(b"").hexdigest(), "gzip"),
        (DATA, SHA1, "br"),
    ],
)
def test_refused(world: World, storage: Path, data: bytes, sha1: str, encoding: str) -> None:
    answer = put(world, data, sha1, HTTP_CONTENT_ENCODING=encoding)
    assert answer.status_code in {400, 404}, answer.content
    assert answer.status_code == 400 or "/" in sha1
    assert not Blob.objects.exists()
    assert not list(storage.rglob("*")) or not any(path.is_file() for path in storage.rglob("*"))


def test_size_limit_counts_decoded_bytes(world: World, settings: Any) -> None:
    settings.CASESTORE_MAX_BLOB = 1000
    exact, over = bytes(1000), bytes(1001)
    assert put(world, exact, hashlib.sha1(exact).hexdigest()).status_code == 201
    for data, encoding in ((over, "identity"), (gzip.compress(bytes(10**7)), "gzip")):
        sha1 = hashlib.sha1(over).hexdigest()
        answer = put(world, data, sha1, HTTP_CONTENT_ENCODING=encoding)
        # Ten million zero bytes are some ten thousand compressed: over the limit before they are decoded.
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_unknown(world: World) -> None:
    for sha1 in ("0" * 40, "x"):
        assert world.client("everything").get(f"/api/blob/{sha1}").status_code == 404


def test_who_sends_a_refused_body_hears_why(web: Web) -> None:
    """A client that reads the answer only when it has sent everything, as most do."""
    connection = http.client.HTTPConnection(web.url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": "Bearer wrong", "Content-Type": "application/octet-stream"}
    connection.request("PUT", f"/api/blob/{SHA1}", bytes(20 * 2**20), headers)
    with connection.getresponse() as answer:
        assert (answer.status, json.loads(answer.read())["code"]) == (401, "not_authenticated")
    connection.close()
