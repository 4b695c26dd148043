"""Making tokens and finding whom one speaks for; keeping preferences."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from casestore import clock
from casestore.accounts.models import AccessToken, IdempotentAnswer, User
from casestore.errors import BadRequest
from casestore.json_text import dump

PREFIX = "cst_"
# RFC 6750: b64token, one or more of these characters. Imported tokens of other servers have the same alphabet.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{8,512}=*\Z")
# A token used in a loop must not write a row each time.
LAST_USE_PRECISION = timedelta(minutes=1)
# How long a POST that is sent again is answered as the first time.
ANSWERS_KEPT = timedelta(hours=24)
# Preferences are read with the user at each request.
MAX_PREFERENCES = 10_000


def is_token(text: str) -> bool:
    """Whether a client can send it as a bearer token."""
    return _TOKEN.match(text) is not None


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(*, user: User, description: str = "", expires_at: datetime | None = None) -> tuple[AccessToken, str]:
    """Returns the row and the token itself, which is nowhere else and cannot be shown again."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = AccessToken.objects.create(user=user, digest=digest_of(token), description=description, expires_at=expires_at)
    return row, token


def find_token(token: str) -> AccessToken | None:
    """The valid token of an enabled user, with its user; None otherwise. Notes the use."""
    if not is_token(token):
        return None
    digest = digest_of(token)
    row = AccessToken.objects.select_related("user").filter(digest=digest).first()
    # The index finds a row by its digest, which tells an attacker nothing about the token; the comparison that
    # decides takes the same time wherever the digests differ.
    if row is None or not hmac.compare_digest(row.digest, digest):
        return None
    now = clock.now()
    if not row.user.is_active or (row.expires_at is not None and row.expires_at <= now):
        return None
    if row.last_used_at is None or now - row.last_used_at > LAST_USE_PRECISION:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USE_PRECISION)
        AccessToken.objects.filter(stale, pk=row.pk).update(last_used_at=now)
    return row


@transaction.atomic
def change_preferences(*, user: User, changes: dict[str, Any]) -> dict[str, Any]:
    """The preferences with these members set, and without those that are None. BadRequest where they grow too large."""
    # The lock lets simultaneous changes of different members all remain.
    row = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    merged = {name: value for name, value in (row.preferences | changes).items() if value is not None}
    if len(dump(merged)) > MAX_PREFERENCES:
        raise BadRequest(f"The preferences would be larger than {MAX_PREFERENCES} bytes.")
    row.preferences = merged
    row.save(update_fields=["preferences"])
    return merged


def purge_answers() -> int:
    """Forgets the answers to POSTs with an Idempotency-Key that are older than ANSWERS_KEPT; how many."""
    purged, _ = IdempotentAnswer.objects.filter(created_at__lt=clock.now() - ANSWERS_KEPT).delete()
    return purged
