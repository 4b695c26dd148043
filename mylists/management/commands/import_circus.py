"""`manage.py import_circus DIR`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress, TaskID

from mylists.circus.dump import COLLECTIONS, import_dump, is_dump
from mylists.circus.report import Report


class Command(BaseCommand):
    help = (
        "Imports a dump of the original server's MongoDB: projects, groups, users, series, clinicalCases, myLists and "
        "tokens, as .json, .jsonl, .yaml or .yml; also the folders blobs/ and dicom/. Any may be missing. Says what is "
        "wrong and imports the rest; importing again changes nothing. Exit status 1: a file could not be read, or "
        "nothing in the dump could be imported."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", metavar="DIR", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        report = Report(self.stdout.write)
        console = Console(file=sys.stderr)
        try:
            if not is_dump(folder):
                raise CommandError(f"{folder}: there is no file of a dump here: {', '.join(COLLECTIONS)}.")
            with Progress(console=console, disable=not console.is_terminal) as bar:
                if console.is_terminal and self.stdout.isatty():
                    # Above the bars, which would be drawn over them.
                    report.say = lambda line: bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
                shown: dict[str, TaskID] = {}

                def advance(name: str, done: int, total: int) -> None:
                    if name not in shown:
                        shown[name] = bar.add_task(name)
                    bar.update(shown[name], completed=done, total=total)

                import_dump(folder, report, advance)
        except OSError as error:
            raise CommandError(f"{error.filename or folder}: {error.strerror or 'it cannot be read'}") from None
        finally:
            for line in report.summary():
                self.stdout.write(line)
        if report.failed:
            raise CommandError("Nothing could be imported.")
