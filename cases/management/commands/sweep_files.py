"""`manage.py sweep_files`: what the hourly and the daily task do, at once, and what they never came to do."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from cases.services.blob_sweeping import sweep_blobs
from cases.services.sweeping import sweep_files


class Command(BaseCommand):
    help = (
        "Removes files that nothing refers to, and label voxels that no label has referred to for CASESTORE_BLOB_DAYS"
        " (0: these never)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{sweep_files(ever=True) + sweep_blobs()} files and blobs removed.")
