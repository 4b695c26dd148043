"""`manage.py provision FILE`: declares what an installation consists of."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cases.provisioning import provision, read_declaration
from casestore.errors import CasestoreError


class Command(BaseCommand):
    help = "Makes domains, projects, groups and users as a YAML or JSON file declares them. Idempotent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="a YAML or JSON file; the README shows one")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            provision(read_declaration(options["file"]))
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from None
        except (CasestoreError, UnicodeDecodeError) as error:
            raise CommandError(f"{options['file']}: {error}") from None
        self.stderr.write(self.style.SUCCESS("The installation is as declared."))
