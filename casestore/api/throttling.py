"""A bound on requests, where an installation wants one: 429 with `Retry-After` beyond it."""

from __future__ import annotations

from django.conf import settings
from rest_framework.throttling import UserRateThrottle


class PerUserThrottle(UserRateThrottle):
    """So many requests a minute of each user, and of each address that names none. Each web process counts its own."""

    scope = "user"

    def get_rate(self) -> str | None:
        limit = settings.CASESTORE_REQUESTS_PER_MINUTE
        return f"{limit}/min" if limit else None
