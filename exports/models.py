"""What is remembered of exported files, so that it need not be computed for every export."""

from __future__ import annotations

from django.db import models

from casestore import clock


class ContentDigest(models.Model):
    """SHA-256 of a file whose content follows from `key`, a digest of all that it is made of."""

    key = models.CharField(max_length=64, primary_key=True)
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.key
