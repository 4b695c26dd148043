"""`manage.py purge_bin`: what the hourly task does, at once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from cases.services.bin import purge_bin


class Command(BaseCommand):
    help = "Deletes for good the cases that have lain in the bin for CASESTORE_BIN_DAYS (0: never)."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stderr.write(self.style.SUCCESS(f"Purged {purge_bin()} cases."))
