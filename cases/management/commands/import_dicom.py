"""`manage.py import_dicom --domain DOMAIN PATH…`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from cases.services.series_import import import_dicom
from casestore.accounts.models import Domain


class Command(BaseCommand):
    help = "Imports DICOM files, folders, and zip and tar archives of them. Importing again changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--domain", required=True, help="the domain that the series belong to")
        parser.add_argument("paths", metavar="PATH", nargs="+", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        domain = Domain.objects.filter(name=options["domain"]).first()
        if domain is None:
            raise CommandError(f'There is no domain "{options["domain"]}"; `manage.py provision` declares domains.')
        for path in options["paths"]:
            if not path.exists():
                raise CommandError(f"{path}: no such file or folder.")
        console = Console(file=sys.stderr)
        with (
            TemporaryDirectory(prefix="casestore-import-", dir=settings.FILE_UPLOAD_TEMP_DIR) as spool,
            Progress(console=console, disable=not console.is_terminal) as bar,
        ):
            reading = bar.add_task("Importing", total=None)
            report = import_dicom(
                options["paths"],
                domain=domain,
                spool=Path(spool),
                on_progress=lambda done, total: bar.update(reading, completed=done, total=total),
            )
        for name, reason in report.refused:
            self.stdout.write(f"refused  {name}: {reason}")
        for series_uid in sorted(report.series):
            self.stdout.write(f"imported {series_uid}")
        self.stdout.write(report.summary())
        if report.refused and not (report.imported or report.skipped):
            raise CommandError("Nothing could be imported.")
