"""A pytest plugin: a real PostgreSQL and a real Valkey for the run, in a folder of its own. Load it with `-p`.

It must come before pytest-django, which reads Django's settings early. Each process of a parallel run has a database
and a broker number of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from casestore.embedded import servers

_stack = contextlib.ExitStack()


def _start() -> None:
    home = Path(_stack.enter_context(tempfile.TemporaryDirectory(prefix="casestore-test-", ignore_cleanup_errors=True)))
    os.environ["CASESTORE_HOME"] = str(home)
    os.environ.update(_stack.enter_context(servers(home, durable=False)).environment)


if "PYTEST_XDIST_WORKER" not in os.environ:
    _start()
else:
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) + 1
    broker = os.environ["CELERY_BROKER_URL"]
    os.environ["CELERY_BROKER_URL"] = re.sub(r"virtual_host=\d+", f"virtual_host={number}", broker)


def pytest_unconfigure() -> None:
    _stack.close()
