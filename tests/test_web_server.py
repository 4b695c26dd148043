"""What is answered, and logged, of requests that never reach Django, and of failures."""

from __future__ import annotations

import json
import logging
import socket
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Web
from tests.world import World

NAME = "Doe^Jane"
CHUNKED = (
    "POST /api/cases HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        (f"GET /api/cases?filter={{x: {NAME}}} HTTP/1.1\r\nHost: {{host}}\r\n\r\n", 400, "bad_request"),
        (f"{NAME}\r\n\r\n", 400, "bad_request"),
        (f"GET /api/cases HTTP/{NAME}\r\nHost: {{host}}\r\n\r\n", 400, "bad_request"),
        (f"GET /api/cases HTTP/1.1\r\nHost: {{host}}\r\nX y: {NAME}\r\n\r\n", 400, "bad_request"),
        (f"GET /api/cases HTTP/1.1\r\nHost: {{host}}\r\nX: a\x00{NAME}\r\n\r\n", 400, "bad_request"),
        (f"GET /api/cases HTTP/1.1\r\nHost: {{host}}\r\nX: {NAME * 2000}\r\n\r\n", 431, "headers_too_large"),
        ("GET /api/cases HTTP/1.1\r\nHost: {host}\r\n" + f"X: {NAME}\r\n" * 200 + "\r\n", 431, "headers_too_large"),
        (f"GET /api/cases?filter={NAME * 10_000} HTTP/1.1\r\nHost: {{host}}\r\n\r\n", 414, "uri_too_long"),
        (
            f"POST /api/cases HTTP/1.1\r\nHost: {{host}}\r\nTransfer-Encoding: {NAME}\r\n\r\n",
            501,
            "unsupported_transfer_coding",
        ),
        (f"GET /api/cases HTTP/1.1\r\nHost: {{host}}\r\nExpect: {NAME}\r\n\r\n", 417, "expectation_failed"),
        # Django would take such a body for an empty one.
        (f"{CHUNKED}8\r\n{NAME}\r\n0\r\n\r\n", 411, "length_required"),
        (f"{CHUNKED}{NAME}\r\n", 411, "length_required"),
    ],
)
def test_a_malformed_request_is_refused_and_quoted_nowhere(
    web: Web, world: World, worker_home: Path, request_text: str, status: int, code: str
) -> None:
    log = worker_home / "web.log"
    before = log.stat().st_size
    host = urlsplit(web.url)
    text = request_text.replace("{host}", host.netloc).replace("{token}", world.tokens["everything"])
    with socket.create_connection((host.hostname, host.port), timeout=30) as connection:
        connection.sendall(text.encode())
        with HTTPResponse(connection) as answer:
            answer.begin()
            body = answer.read()
    assert answer.status == status, body
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(body).keys() == {"error", "code"}
    assert json.loads(body)["code"] == code
    assert NAME.encode() not in body
    logged = log.read_bytes()[before:].decode()
    assert NAME not in logged
    assert world.tokens["everything"] not in logged
    # A client's mistake is no failure of the server.
    assert "Traceback" not in logged
    assert "[ERROR]" not in logged


def test_the_log_says_where_a_request_failed_but_not_what_was_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    (handler,) = (one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler)
    try:
        try:
            int(NAME)
        except ValueError as error:
            raise LookupError(NAME) from error
    except LookupError as error:
        record = logging.LogRecord("django.request", logging.ERROR, "", 0, "Failed: %s", ("/api/cases",), None)
        record.exc_info = (type(error), error, error.__traceback__)
    told = handler.format(record)
    assert "django.request: Failed: /api/cases\n" in told
    assert NAME not in told
    assert told.index("int(NAME)") < told.index("builtins.ValueError") < told.index("builtins.LookupError")
    assert told.endswith("builtins.LookupError")
