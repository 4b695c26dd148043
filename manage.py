#!/usr/bin/env python3
"""Django's commands, with the embedded servers running for as long as the command does."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

# Commands that never ask the database or the broker; they need not wait for servers to start.
WITHOUT_SERVERS = {
    "check",
    "collectstatic",
    "compilemessages",
    "diffsettings",
    "findstatic",
    "help",
    "makemessages",
    "spectacular",
    "verify_export",
    "startapp",
    "version",
}


def needs_servers(arguments: list[str]) -> bool:
    return bool(arguments) and arguments[0] not in WITHOUT_SERVERS and not {"-h", "--help", "--version"} & {*arguments}


def terminate(number: int, frame: FrameType | None) -> None:
    """Leaves by way of every `finally`, so that the servers are stopped too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "casestore.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here; run `make` once, then .venv/bin/python manage.py.")
    from casestore.embedded import EmbeddedError, home, servers

    if not needs_servers(sys.argv[1:]) or (os.environ.get("DATABASE_URL") and os.environ.get("CELERY_BROKER_URL")):
        execute_from_command_line(sys.argv)
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        with servers(home()) as running:
            os.environ.update(running.environment)
            execute_from_command_line(sys.argv)
    except EmbeddedError as error:
        sys.exit(f"casestore: {error}")


if __name__ == "__main__":
    main()
