"""`manage.py load_demo`: what `make run` loads; prints what it shows as one line of JSON."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from cases.demo.loading import load_demo


class Command(BaseCommand):
    help = "Loads the demo installation and prints its logins and a fresh token as JSON. Idempotent."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(load_demo()))
