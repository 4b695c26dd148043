"""The README's configuration in a real nginx, in front of the real web server."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group

from casestore.embedded.places import ROOT
from tests.conftest import Web, web_server
from tests.test_downloads import address, finished_task
from tests.test_reports import finish, make_task
from tests.world import DOMAIN, World, make_world

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(not NGINX or not OPENSSL, reason="needs nginx and openssl")

DATA = os.urandom(3_456_789)
# Around the server: what an installation may have there, and what must not get in the way.
AROUND = """
daemon off; pid {home}/pid; error_log {home}/error.log; {user}
events {{}}
http {{
    access_log {home}/access.log; sendfile on; gzip on; gzip_types *;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    {server}
}}
"""


def configuration(home: Path, storage: Path, listen: str, backend: str) -> str:
    """The README's, with addresses and places of this test."""
    (server,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for written, here in (
        ("listen 443 ssl", f"listen {listen} ssl"),
        ("/etc/ssl/", f"{home}/"),
        ("/var/log/nginx/", f"{home}/"),
        ("http://127.0.0.1:8000", backend),
        ("/data/casestore/storage/", f"{storage}/"),
    ):
        assert written in server
        server = server.replace(written, here)
    # Workers of a root's nginx are somebody else's, unless it is told.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    return AROUND.format(home=home, user=user, server=server)


@pytest.fixture(scope="module")
def proxy(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Web, Path]]:
    home = tmp_path_factory.mktemp("nginx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    files = ("-keyout", f"{home}/cases.example.key", "-out", f"{home}/cases.example.pem")
    command = [str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=cases.example", *files]
    subprocess.run(command, check=True, capture_output=True)
    url = f"https://{listen}"
    more = {
        "CASESTORE_HTTPS": "1",
        "CASESTORE_TRUSTED_ORIGINS": url,
        "CASESTORE_ACCEL_REDIRECT": "/protected/",
        "CASESTORE_REPORT_SECONDS": "4",
    }
    with web_server(home, **more) as web:
        (home / "nginx.conf").write_text(configuration(home, home / "storage", listen, web.url))
        log = home / "error.log"
        process = subprocess.Popen([str(NGINX), "-e", str(log), "-c", str(home / "nginx.conf")])
        try:
            deadline = time.monotonic() + 30
            while subprocess.run(["curl", "-ksf", f"{url}/api/health"], capture_output=True, check=False).returncode:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield Web(url), home
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def web(proxy: tuple[Web, Path], settings: Any, transactional_db: None, storage: Path) -> Web:
    options = {"location": proxy[1] / "storage"}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}
    return proxy[0]


def ask(url: str, *words: str, token: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers with names in small letters, and body."""
    usual = ("-sSk", "-D", "/dev/stderr", "-H", "Expect:", "-H", f"Authorization: Bearer {token}")
    answer = subprocess.run(["curl", *usual, *words, url], capture_output=True, check=False)
    first, *lines = answer.stderr.decode().split("\r\n")
    headers = {name.lower(): value for name, colon, value in (line.partition(": ") for line in lines) if colon}
    return int(first.split()[1]), headers, answer.stdout


@pytest.fixture
def world(web: Web) -> World:
    return make_world()


def test_downloads(web: Web, world: World) -> None:
    task, token = finished_task(world, DATA), world.tokens["everything"]
    url, etag = web.url + address(task), f'"{task.sha256}"'
    part, other = ("-H", "Range: bytes=5-9"), '"0"'
    whole = {
        "etag": etag,
        "content-type": "application/gzip",
        "content-disposition": f'attachment; filename="{task.task_id}.tar.gz"',
        "cache-control": "private, no-store",
    }
    asked: list[tuple[tuple[str, ...], int, bytes]] = [
        (("--compressed",), 200, DATA),
        (("-I", "-o", "/dev/null"), 200, b""),
        (part, 206, DATA[5:10]),
        (("-H", "Range: bytes=-7"), 206, DATA[-7:]),
        (("-H", "Range: bytes=5-9,20-30"), 200, DATA),
        ((*part, "-H", f"If-Range: {etag}"), 206, DATA[5:10]),
        ((*part, "-H", f"If-Range: {other}"), 200, DATA),
        ((*part, "-H", f"If-Match: {etag}"), 206, DATA[5:10]),
        (("-H", f"If-None-Match: {other}"), 200, DATA),
    ]
    for words, status, data in asked:
        got, headers, body = ask(url, *words, token=token)
        assert (got, body) == (status, data), words
        assert headers.items() >= whole.items(), words
        assert headers["content-length"] == str(len(body if "-I" not in words else DATA)), words
        if body == DATA[5:10]:
            assert headers["content-range"] == f"bytes 5-9/{len(DATA)}"
        # What nginx sent itself lacks what casestore alone says.
        assert ("allow" in headers) == ("-I" in words or f"If-Match: {etag}" in words), words
    for words, status in (
        (("-H", f"If-None-Match: {etag}"), 304),
        (("-H", f"If-Match: {other}"), 412),
        (("-H", f"Range: bytes={len(DATA)}-"), 416),
    ):
        assert ask(url, *words, token=token)[0] == status


def test_who_may_not_download(web: Web, world: World) -> None:
    task = finished_task(world, DATA, by="annotator")
    url, token = web.url + address(task), world.tokens["annotator"]
    assert ask(url, token=token)[0] == 200
    for other in (world.tokens["reader"], ""):
        assert ask(url, token=other)[0] == 401
    inside = f"/protected/{task.result_key}"
    for path in (inside, f"/api/..{inside}", f"/api/%2e%2e{inside}"):
        assert ask(web.url + path, "--path-as-is", token=token)[0] == 404, path
    Group.objects.get(name="annotator").project_roles.filter(role="read").delete()
    status, _, body = ask(url, token=token)
    assert (status, json.loads(body)["code"]) == (401, "insufficient_privilege")


def test_a_download_goes_on_after_a_cut(web: Web, world: World, tmp_path: Path) -> None:
    task, target = finished_task(world, DATA), tmp_path / "archive"
    words = ["curl", "-sSk", "-H", f"Authorization: Bearer {world.tokens['everything']}", "-o", str(target)]
    cut = subprocess.Popen([*words, "--limit-rate", "200k", web.url + address(task)])
    while not target.exists() or not target.stat().st_size:
        assert cut.poll() is None
        time.sleep(0.01)
    cut.kill()
    cut.wait()
    assert 0 < target.stat().st_size < len(DATA)
    subprocess.run([*words, "-C", "-", web.url + address(task)], check=True)
    assert target.read_bytes() == DATA


def test_events_arrive_at_once(web: Web, world: World) -> None:
    task = make_task(world)
    command = ["curl", "-skN", "-H", f"Authorization: Bearer {world.tokens['reader']}", f"{web.url}/api/tasks/report"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stream:
        assert stream.stdout is not None

        def heard(name: bytes) -> bool:
            return any(line == b"event: " + name + b"\n" for line in iter(stream.stdout.readline, b""))  # type: ignore[union-attr]

        # Were events kept back until the stream ends, the second would not be in it.
        assert heard(b"progress")
        finish(task)
        assert heard(b"finish")
        # It ends by itself: a stream left behind would look at tables that are being emptied.
        assert stream.wait(30) == 0


def test_addresses(web: Web, world: World) -> None:
    """Links lead back through nginx, and may be as long as they may be without it."""
    for _ in range(3):
        make_task(world)
    token, url = world.tokens["reader"], f"{web.url}/api/tasks?limit=1"
    for length in (10, 40_000):
        wanted = quote(json.dumps({"status": {"$ne": "x" * length}}))
        status, headers, body = ask(f"{url}&filter={wanted}", token=token)
        (following,) = re.findall('<([^<>]*)>; rel="next"', headers["link"])
        assert following.startswith(web.url + "/api/tasks?")
        status, headers, again = ask(following, token=token)
        assert status == 200
        assert json.loads(body) != json.loads(again) != []
    for more, expected in ((0, 200), (1, 414)):
        filling = "x" * (65_536 + more - len("GET /api/health?x= HTTP/1.1"))
        assert ask(f"{web.url}/api/health?x={filling}")[0] == expected


def test_logs_hold_no_filter(web: Web, world: World, proxy: tuple[Web, Path], tmp_path: Path) -> None:
    wanted = quote(json.dumps({"patientInfo.patientName": "Milou"}))
    url, token = f"{web.url}/api/cases?filter={wanted}", world.tokens["everything"]
    too_large = tmp_path / "large"
    too_large.write_bytes(bytes(22 * 2**20))
    assert ask(url, token=token)[0] == 200
    assert ask(f"{url[:-3]}", token=token)[0] == 400
    assert ask(f"{url}&x={'x' * 80_000}", token=token)[0] == 414
    assert ask(url, "-T", str(too_large), token=token)[0] == 413
    logs = list(proxy[1].rglob("*.log"))
    assert {path.name for path in logs} >= {"access.log", "error.log", "web.log"}
    assert [path.name for path in logs if "Milou" in path.read_text()] == []


def test_uploads(web: Web, world: World, tmp_path: Path) -> None:
    large, url = tmp_path / "large", f"{web.url}/api/series/domain/{DOMAIN}"
    with large.open("wb") as file:
        file.truncate(64 * 2**20)
    token = world.tokens["everything"]
    assert ask(url, "-F", f"files=@{large}", token=token)[0] == 201
    # Refused before it is sent, and told why every time.
    for _ in range(5):
        status, _, body = ask(url, "-F", f"files=@{large}", token="wrong")
        assert (status, json.loads(body)["code"]) == (401, "not_authenticated")
    # Any other body has its bound.
    assert ask(f"{web.url}/api/blob/{'0' * 40}", "-T", str(large), token=token)[0] == 413
    large.write_bytes(bytes(20 * 2**20))
    kind = ("-H", "Content-Type: application/octet-stream")
    status, _, body = ask(f"{web.url}/api/blob/{'0' * 40}", *kind, "-T", str(large), token=token)
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
