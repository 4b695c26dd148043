"""The embedded PostgreSQL after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casestore.embedded.places import Places
from casestore.embedded.postgres import DATABASE, Postgres


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    places = Places(tmp_path)
    places.prepare()
    made = Postgres(places, durable=False)
    made.ensure()
    yield made
    made.stop()
    places.forget_sockets()


def crash(postgres: Postgres) -> str:
    """What its note says then, once nothing of it runs."""
    number = postgres.pid()
    assert number is not None
    note = (postgres.data / "postmaster.pid").read_text()
    os.kill(number, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while postgres.leaves_children() or postgres.pid():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return note


def renumber(postgres: Postgres, note: str, number: int) -> None:
    (postgres.data / "postmaster.pid").write_text("\n".join([str(number), *note.split("\n")[1:]]))


def test_its_number_is_that_of_a_zombie(postgres: Postgres) -> None:
    """A process whose parent does not look at its end, as the first one of many containers."""
    with subprocess.Popen([sys.executable, "-c", ""]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        renumber(postgres, crash(postgres), zombie.pid)
        postgres.ensure()
        with postgres.connect(DATABASE) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_its_number_is_that_of_another_program(postgres: Postgres) -> None:
    renumber(postgres, crash(postgres), os.getpid())
    postgres.ensure()
    with postgres.connect(DATABASE) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_what_it_leaves_behind_is_seen(postgres: Postgres) -> None:
    assert postgres.leaves_children()
    crash(postgres)
    assert not postgres.leaves_children()
