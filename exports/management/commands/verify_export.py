"""`manage.py verify_export FILE…`: whether archives are what their manifests promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exports.verify import verify


class Command(BaseCommand):
    help = "Checks all that exported archives say of themselves."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")

    def handle(self, *args: Any, files: list[Path], **options: Any) -> None:
        wrong = 0
        for path in files:
            problems = verify(path)
            wrong += bool(problems)
            for problem in problems:
                self.stdout.write(f"{path}: {problem}")
            if not problems:
                self.stdout.write(f"{path}: as promised")
        if wrong:
            raise CommandError(f"{wrong} of {len(files)} archives are not what they promise.")
