"""A command of Django's in a process of its own; prints its peak memory in MB last."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from benchmarks.__main__ import peak_of

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "casestore.settings")
execute_from_command_line(["manage.py", *sys.argv[1:]])
print(peak_of(os.getpid()))
