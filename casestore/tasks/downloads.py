"""Answers that hold a file: resumable (RFC 9110), from the disk, through nginx, or from an object storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import http_date, parse_http_date_safe

from casestore.errors import NotFound, PreconditionFailed, RangeNotSatisfiable
from casestore.storage import is_local
from casestore.tasks.models import Task
from casestore.tasks.ranges import Unsatisfiable, requested_range

BLOCK = 2**20
# An object storage's address works for so long; it is used at once.
PRESIGNED_SECONDS = 300


def download(request: HttpRequest, task: Task) -> HttpResponseBase:
    """The result of a finished task. Raises NotFound, PreconditionFailed and RangeNotSatisfiable."""
    if not default_storage.exists(task.result_key):
        raise NotFound("This task has no file to download.")
    if not is_local(default_storage):
        return _presigned(request, task)
    return _from_disk(request, task)


def _disposition(task: Task) -> str:
    # An id and an extension of ours: nothing to quote or to encode.
    return f'attachment; filename="{task.file_name}"'


def _presigned(request: HttpRequest, task: Task) -> HttpResponse:
    """The client fetches the file, or a range of it, from the object storage itself."""
    parameters = {
        "ResponseContentDisposition": _disposition(task),
        "ResponseContentType": task.download_file_type,
    }
    # The method is part of what is signed.
    method = "HEAD" if request.method == "HEAD" else "GET"
    storage: Any = default_storage
    address = storage.url(task.result_key, parameters=parameters, expire=PRESIGNED_SECONDS, http_method=method)
    return HttpResponse(status=302, headers={"Location": address})


def _from_disk(request: HttpRequest, task: Task) -> HttpResponseBase:
    try:
        modified = default_storage.get_modified_time(task.result_key)
        size = default_storage.size(task.result_key)
    except FileNotFoundError:
        raise NotFound("This task has no file to download.") from None
    # A result never changes, so the digest of its bytes is as strong as a validator can be.
    etag = f'"{task.sha256 or hashlib.sha256(task.result_key.encode()).hexdigest()}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": http_date(modified.timestamp()),
        "Content-Disposition": _disposition(task),
    }
    unmet = get_conditional_response(request, etag, int(modified.timestamp()), HttpResponse(headers=headers))
    assert unmet is not None
    if unmet.status_code == 412:
        raise PreconditionFailed("The file is not the one that the request is about.")
    if unmet.status_code == 304:
        return unmet
    start, stop = 0, size
    status = 200
    if request.method == "GET" and "Range" in request.headers and _is_about(request, etag, modified):
        try:
            part = requested_range(request.headers["Range"], size)
        except Unsatisfiable:
            raise RangeNotSatisfiable(f"The file has {size} bytes; the range lies outside.", size=size) from None
        if part is not None:
            start, stop = part
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers |= {"Content-Type": task.download_file_type, "Content-Length": str(stop - start)}
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    # nginx would hold If-Match against a validator of its own.
    if settings.CASESTORE_ACCEL_REDIRECT and "If-Match" not in request.headers:
        return _through_nginx(task, etag)
    try:
        file = default_storage.open(task.result_key)
    except FileNotFoundError:
        raise NotFound("This task has no file to download.") from None
    return StreamingHttpResponse(Part(file, start, stop), status=status, headers=headers)


def _through_nginx(task: Task, etag: str) -> HttpResponse:
    """nginx cuts the range out and sends it. It takes over these headers and no others; the ETag, as it is told to."""
    return HttpResponse(
        headers={
            "X-Accel-Redirect": settings.CASESTORE_ACCEL_REDIRECT + quote(task.result_key),
            "Content-Type": task.download_file_type,
            "Content-Disposition": _disposition(task),
            "ETag": etag,
        }
    )


def _is_about(request: HttpRequest, etag: str, modified: datetime) -> bool:
    """Whether `If-Range` (RFC 9110, 13.1.5) lets the range be sent: only the very same file may be gone on with."""
    condition = request.headers.get("If-Range")
    if condition is None:
        return True
    if condition.lstrip().startswith(('"', "W/")):
        return condition.strip() == etag
    return parse_http_date_safe(condition) == int(modified.timestamp())


class Part:
    """The bytes from `start` to `stop` of a file, a block at a time; closes it in the end."""

    def __init__(self, file: File[Any], start: int, stop: int) -> None:
        self._file, self._left = file, stop - start
        file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        while self._left > 0 and (block := self._file.read(min(BLOCK, self._left))):
            self._left -= len(block)
            yield block
        self.close()

    def close(self) -> None:
        self._file.close()
