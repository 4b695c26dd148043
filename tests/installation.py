"""An installation of its own, of real processes that can be killed: PostgreSQL, Valkey, web server, worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from casestore.embedded.places import ROOT, Places
from casestore.embedded.postgres import Postgres
from casestore.embedded.valkey import Valkey
from casestore.supervisor import WEB, WORKER, worker_pool
from tests.asking import ask

WITHIN = 60.0
# What a client sees while a server restarts.
AWAY = (OSError, http.client.HTTPException, json.JSONDecodeError)


class Installation:
    """`start` starts all of it, `stop` leaves nothing. The broker keeps nothing on disk: what it knew dies with it."""

    def __init__(self, home: Path, **more: str) -> None:
        self.places = Places(home)
        self.places.prepare()
        self.postgres = Postgres(self.places, durable=True)
        self.valkey = Valkey(self.places, durable=False)
        self.spool = home / "spool"
        self.spool.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CASESTORE_", "CELERY_"))}
        self.environment = {
            **kept,
            "CASESTORE_HOME": str(home),
            "CASESTORE_SPOOL": str(self.spool),
            "DATABASE_URL": self.postgres.url,
            "CELERY_BROKER_URL": self.valkey.url,
            "DJANGO_SETTINGS_MODULE": "casestore.settings",
            **more,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = home / "log" / "all.log"
        # Words before the worker's command.
        self.limits: list[str] = []

    @property
    def storage(self) -> Path:
        return self.places.home / "storage"

    def start(self) -> None:
        self.postgres.ensure()
        self.valkey.ensure()
        self.manage("migrate", "--verbosity=0")
        self.start_worker()
        self.spawn("web", [*WEB, f"--bind={self.url.removeprefix('http://')}"])
        wait_for(lambda: self.request("GET", "/api/health"))

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.valkey.stop()
        self.postgres.stop()
        self.places.forget_sockets()

    def manage(self, *words: str) -> str:
        command = [sys.executable, "-m", "django", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spawn(self, name: str, module: Sequence[str]) -> None:
        with self.log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [*(self.limits if name == "worker" else ()), sys.executable, "-m", *module],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start_worker(self) -> None:
        before = self.log.stat().st_size if self.log.exists() else 0
        self.spawn("worker", [*WORKER, f"--pool={worker_pool()}"])
        wait_for(lambda: b" ready." in self.log.read_bytes()[before:])

    # Faults. Each but the first is followed by the return of what was killed.

    def kill(self, name: str) -> None:
        """A process and everything that it started, as a container's end does."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_a_child_of_the_worker(self, choose: Callable[[Sequence[Any]], Any]) -> None:
        children = psutil.Process(self.processes["worker"].pid).children()
        if children:
            with contextlib.suppress(psutil.NoSuchProcess):
                choose(children).kill()

    def kill_the_worker(self) -> None:
        self.kill("worker")
        self.start_worker()

    def stop_the_worker(self) -> None:
        """It is asked to; how it ends is its own affair, but it must not take long."""
        process = self.processes["worker"]
        process.terminate()
        process.wait(30)
        self.kill("worker")
        self.start_worker()

    def kill_the_broker(self) -> None:
        number = self.valkey.pid()
        assert number is not None
        os.kill(number, signal.SIGKILL)
        self.valkey.ensure()

    def kill_the_database(self, number: signal.Signals) -> None:
        """SIGQUIT is an immediate shutdown; SIGKILL leaves its children behind for a moment."""
        postmaster = self.postgres.pid()
        assert postmaster is not None
        os.kill(postmaster, number)
        wait_for(lambda: not psutil.pid_exists(postmaster) or psutil.Process(postmaster).status() == "zombie")
        self.postgres.ensure()

    # Requests.

    def request(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        headers = {"Content-Type": kind, "Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        answered, text = ask(request)
        return json.loads(text) if text and answered["Content-Type"] == "application/json" else text or True


def wait_for(condition: Callable[[], Any], within: float = WITHIN) -> Any:
    """What the condition says at last; servers that restart meanwhile are no failure."""
    deadline = time.monotonic() + within
    while True:
        try:
            if found := condition():
                return found
        except AWAY as error:
            found = error
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
