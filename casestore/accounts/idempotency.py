"""`Idempotency-Key`: a POST that is sent again because its answer was lost is answered again, not done again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import orjson
from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from casestore.accounts.authentication import user_of
from casestore.accounts.models import IdempotentAnswer
from casestore.errors import BadRequest, IdempotencyKeyReused, Unavailable
from casestore.json_text import dump

Post = Callable[..., Response]

KEPT_HEADERS = ("ETag", "Location")
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


def idempotent(post: Post) -> Post:
    """A view's `post` that does its work once for each key of a user, for a day.

    The key's row is written in the transaction of the work: who comes with the same key meanwhile waits for its end,
    and a refusal or failure leaves no row. Not for answers that hold a secret: they are stored.
    """

    @wraps(post)
    def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return post(view, request, *args, **kwargs)
        if not _KEY.match(key):
            raise BadRequest("Idempotency-Key must be 1 to 255 visible ASCII characters.")
        wanted = {"user": user_of(request), "key": key}
        digest = _digest_of(request)
        try:
            with transaction.atomic():
                row, new = IdempotentAnswer.objects.get_or_create(**wanted, defaults={"digest": digest})
                if not new:
                    return _replay(row, digest)
                response = post(view, request, *args, **kwargs)
                _keep(row, response)
                return response
        except Unavailable:
            # What the work queued could not be handed on after its commit: this answer is a refusal too.
            IdempotentAnswer.objects.filter(**wanted).delete()
            raise

    return answer


def _digest_of(request: Request) -> str:
    content = b"".join(_file_digests(request)) if request.content_type.startswith("multipart/") else request.body
    return hashlib.sha256(
        b"\0".join([str(request.method).encode(), request.get_full_path().encode(), content])
    ).hexdigest()


def _file_digests(request: Request) -> Iterator[bytes]:
    """Of what was uploaded: the bodies of two requests with the same files differ in their boundaries."""
    for _, files in request.FILES.lists():
        for file in files:
            digest = hashlib.sha256()
            for chunk in file.chunks():
                digest.update(chunk)
            yield digest.digest()


def _replay(row: IdempotentAnswer, digest: str) -> Response:
    if row.digest != digest:
        raise IdempotencyKeyReused("This Idempotency-Key was used for another request.")
    headers = {**row.headers, "Idempotent-Replayed": "true"}
    return Response(orjson.loads(row.body) if row.body else None, status=row.status, headers=headers)


def _keep(row: IdempotentAnswer, response: Response) -> None:
    row.status = response.status_code
    row.body = "" if response.data is None else dump(response.data).decode()
    row.headers = {name: response[name] for name in KEPT_HEADERS if name in response}
    row.save(update_fields=["status", "body", "headers"])
