"""Gunicorn's settings that its command line cannot say, and its answers to what never reaches Django."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from gunicorn import glogging, util
from gunicorn.http import errors, message, parser
from gunicorn.workers.gthread import ThreadWorker

from casestore.json_text import dump
from casestore.logs import PlainFormatter

# A filter travels in the request line. Gunicorn knows 8190 bytes at most, or no limit at all, by which anybody could
# fill its memory.
message.MAX_REQUEST_LINE = 65_536
limit_request_line = message.MAX_REQUEST_LINE
# Who sends a body that is refused hears why only if it is read meanwhile; nginx makes a 502 of it otherwise. Gunicorn
# reads 64 kB. This is every body but an upload, and of an upload enough for its sender to see the answer; a thread is
# kept by it for 5 seconds at most.
parser._DRAIN_MAX_BYTES = 32 * 2**20

# Status, reason, code and sentence; the first that fits.
Refusal = tuple[int, str, str, str]
REFUSALS: dict[type[Exception], Refusal] = {
    errors.LimitRequestLine: (
        414,
        "URI Too Long",
        "uri_too_long",
        f"The request line, which holds the filter, is longer than {limit_request_line} bytes.",
    ),
    errors.LimitRequestHeaders: (
        431,
        "Request Header Fields Too Large",
        "headers_too_large",
        "There are too many header fields, or too large ones.",
    ),
    errors.UnsupportedTransferCoding: (
        501,
        "Not Implemented",
        "unsupported_transfer_coding",
        "The transfer coding is not known here.",
    ),
    errors.ExpectationFailed: (417, "Expectation Failed", "expectation_failed", "Only 100-continue can be expected."),
    errors.ParseException: (400, "Bad Request", "bad_request", "The request is malformed."),
}
FAILED: Refusal = (500, "Internal Server Error", "server_error", "The server failed; its log says why.")
# Parse errors by their class, but it was ours that was parsed.
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)


class Worker(ThreadWorker):
    """Gunicorn's own answers are HTML and quote the request, as its log does: a filter may hold a patient's name."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        refusal = FAILED
        if not isinstance(exc, OURS):
            refusal = next((refusal for kind, refusal in REFUSALS.items() if isinstance(exc, kind)), FAILED)
        status, reason, code, sentence = refusal
        if refusal is FAILED:
            self.log.error("A request failed.", exc_info=exc)
        else:
            self.log.warning("A request was refused with %d: %s.", status, type(exc).__name__)
        body = dump({"error": sentence, "code": code})
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            util.write_nonblock(client, head.encode() + body)


class Logger(glogging.Logger):
    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(PlainFormatter(self.error_fmt, self.datefmt))


worker_class = Worker
logger_class = Logger
