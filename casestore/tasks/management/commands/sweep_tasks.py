"""Removes what tasks left behind, as the hourly sweep does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from casestore.tasks.sweeping import sweep, sweep_spool


class Command(BaseCommand):
    help = "Removes expired results, old tasks, and files of tasks that nothing refers to."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--now",
            action="store_true",
            help="files too that were made just now; only while nobody uploads anything",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        grace = timedelta(0) if options["now"] else None
        removed = sweep(grace=grace) + sweep_spool()
        self.stdout.write(f"{removed} files and tasks removed.")
