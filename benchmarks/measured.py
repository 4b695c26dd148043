"""A command of Django's in a process of its own; prints its seconds, without Python's start, and its peak in MB."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def peak_of(pid: int) -> float:
    """Peak resident memory in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    import django
    from django.core.management import call_command, get_commands, load_command_class

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "casestore.settings")
    django.setup()
    # Loaded before, as SimpleITK is.
    command = load_command_class(get_commands()[sys.argv[1]], sys.argv[1])
    start = time.perf_counter()
    call_command(command, *sys.argv[2:])
    print(time.perf_counter() - start, peak_of(os.getpid()))
