"""`make run` as a stranger meets it: what it prints works, it stops without a trace, and its data stay."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import psutil
import psycopg
import pytest

from casestore.embedded.places import ROOT, Places
from tests.asking import ask

WITHIN = 120.0
README = (ROOT / "README.md").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(home: Path, **more: str) -> dict[str, str]:
    """A stranger's: none of the test run's own addresses."""
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG"} or k.startswith("PIP_")}
    return {**kept, "CASESTORE_HOME": str(home), **more}


class Running:
    """A `make run` in a session of its own."""

    def __init__(self, home: Path, *command: str, cwd: Path = ROOT, **more: str) -> None:
        self.home, self.port, self.cwd = home, free_port(), cwd
        self.log = home.with_name(home.name + f".{self.port}.log")
        self.environment = environment(home, **more)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command or ["make", "run"],
                cwd=cwd,
                env={**self.environment, "PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{self.port}"

    def wait(self) -> str:
        """What it has printed when it is ready."""
        deadline = time.monotonic() + WITHIN
        while "Ctrl-C stops it." not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)
        return self.text()

    def text(self) -> str:
        return self.log.read_text()

    def token(self) -> str:
        return re.findall(r"Demo token:  (\S+)", self.text())[-1]

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token()}"})
        return json.loads(ask(request)[1])

    def manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, cwd=self.cwd, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """Everything that this run started: its descendants, and the servers, which have none."""
        found = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        for name in ("postgres", "valkey"):
            note = self.home / "run" / f"{name}.pid"
            if note.exists() and psutil.pid_exists(int(note.read_text())):
                server = psutil.Process(int(note.read_text()))
                found += [server, *server.children(recursive=True)]
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM, *, group: bool = True) -> None:
        started = self.processes()
        (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.wait(60)
        left = [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert not left, left
        assert not Path(Places(self.home).run / "sockets").exists()


@contextmanager
def running(home: Path, *command: str, **options: Any) -> Iterator[Running]:
    run = Running(home, *command, **options)
    try:
        run.wait()
        yield run
    finally:
        if run.process.poll() is None:
            run.stop()


def printed_curls(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.match(r" *curl ", line)]


def readme_commands() -> list[str]:
    """The shell blocks of the README that talk to a server, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    found = [block for block in blocks if "curl" in block]
    assert found
    return found


def test_the_first_run(tmp_path: Path) -> None:
    with running(tmp_path / "home") as run:
        text = run.text()
        assert f"http://127.0.0.1:{run.port}/" in text
        for role in ("reader", "annotator", "moderator", "administrator"):
            assert re.search(rf"  {role} +\S+@casestore.example +\S+", text)
        lines = printed_curls(text)
        assert len(lines) >= 2
        for line in lines:
            done = subprocess.run(["bash", "-c", line.replace("curl ", "curl -sSf ")], capture_output=True, check=False)
            assert done.returncode == 0, (line, done.stderr)
            json.loads(done.stdout)

        cases = run.get("/api/cases")
        assert len(cases) >= 3
        volumes = [e["partialVolumeDescriptor"] for c in cases for e in c["latestRevision"]["series"]]
        assert any(volume["delta"] < 0 for volume in volumes)
        kinds = [label["type"] for c in cases for e in c["latestRevision"]["series"] for label in e["labels"]]
        assert kinds.count("voxel") >= 6
        assert len(run.get("/api/series")) == 3
        # A filter may be long, but not without end.
        assert run.get(f"/api/cases?filter={quote(json.dumps({'tags': 'x' * 60_000}))}") == []
        with pytest.raises(HTTPError) as refused:
            run.get(f"/api/cases?filter={quote(json.dumps({'tags': 'x' * 70_000}))}")
        assert refused.value.code == 414

        # The scheduler of what is done hourly.
        deadline = time.monotonic() + WITHIN
        while "beat: Starting" not in (run.home / "log" / "worker.log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)

        # The README's lines, each block as it would be pasted.
        script = "set -eo pipefail\n" + "\n".join(readme_commands())
        filled = {"CASESTORE": run.url, "TOKEN": run.token(), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash", "-c", script.replace("curl ", "curl -f ")],
            cwd=tmp_path,
            env=filled,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("*.tar.gz")), done.stdout
        cases = run.get("/api/cases")
        assert cases[0]["tags"] == ["readme"]

        # Commands find the running servers; standard output is the token and nothing else.
        token = run.manage("create_token", "reader@casestore.example", "--description", "test").strip()
        assert re.fullmatch(r"cst_[A-Za-z0-9_-]{43}", token)

        # Another one beside it.
        with running(tmp_path / "other home") as other:
            assert other.get("/api/cases")[0]["caseId"] not in {case["caseId"] for case in cases}
            second = Running(tmp_path / "home")
            assert second.process.wait(60) != 0
            assert "runs already on" in second.text()
        run.stop(signal.SIGINT)

    # After Ctrl-C the data are there, and loading the demo again changes nothing.
    with running(tmp_path / "home") as run:
        assert [c["caseId"] for c in run.get("/api/cases")] == [c["caseId"] for c in cases]
        # Everything is killed at once, as by a power cut.
        for process in [*run.processes(), psutil.Process(run.process.pid)]:
            if process.is_running():
                process.kill()
        run.process.wait(10)
    with running(tmp_path / "home") as run:
        assert [c["caseId"] for c in run.get("/api/cases")] == [c["caseId"] for c in cases]
        # Only `make` is told, and twice.
        os.kill(run.process.pid, signal.SIGTERM)
        run.stop(group=True)


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "home") as run:
        (web,) = [
            p
            for p in psutil.Process(run.process.pid).children(recursive=True)
            if "gunicorn" in " ".join(p.cmdline()) and "gunicorn" not in " ".join(p.parent().cmdline())
        ]
        orphans = web.children()
        assert orphans
        web.kill()
        deadline = time.monotonic() + WITHIN
        while "is started again" not in run.text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # The dead server's own children are gone: they would have answered beside the new one.
        assert not [p for p in orphans if p.is_running()]
        while True:
            try:
                assert run.get("/api/cases")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_servers_that_die_are_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "home") as run:
        before = run.get("/api/cases")
        # What was started again must come back as what was started first does.
        for deaths in (2, 4):
            for name in ("valkey", "postgres"):
                os.kill(int((run.home / "run" / f"{name}.pid").read_text()), signal.SIGKILL)
            deadline = time.monotonic() + WITHIN
            while run.text().count("died and is started again") < deaths:
                assert time.monotonic() < deadline, run.text()
                time.sleep(0.1)
            while True:
                try:
                    assert run.get("/api/cases") == before
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
        # The worker found its way back to both.
        header = {"Authorization": f"Bearer {run.token()}", "Content-Type": "application/json"}
        body = json.dumps({"caseIds": [before[0]["caseId"]]}).encode()
        request = urllib.request.Request(run.url + "/api/cases/export-mhd", body, header)
        task_id = json.loads(ask(request)[1])["taskId"]
        while (task := run.get(f"/api/tasks/{task_id}"))["status"] == "processing":
            assert time.monotonic() < deadline, task
            time.sleep(0.1)
        assert task["status"] == "finished", task


def test_stopped_while_a_child_starts(tmp_path: Path) -> None:
    with running(tmp_path / "home") as run:
        for process in psutil.Process(run.process.pid).children(recursive=True):
            if "gunicorn" in " ".join(process.cmdline()):
                process.kill()
        while "is started again" not in run.text():
            time.sleep(0.01)
        run.stop()


def test_servers_of_the_environment(tmp_path: Path) -> None:
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS elsewhere")
        connection.execute("CREATE DATABASE elsewhere")
    given = {
        "DATABASE_URL": url.replace("/casestore?", "/elsewhere?"),
        "CELERY_BROKER_URL": re.sub(r"virtual_host=\d+", "virtual_host=15", os.environ["CELERY_BROKER_URL"]),
    }
    with running(tmp_path / "home", **given) as run:
        assert run.get("/api/cases")
        assert not (tmp_path / "home" / "postgres").exists()
        assert not (tmp_path / "home" / "valkey").exists()
        assert "of the environment" in run.text()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE elsewhere WITH (FORCE)")


def test_a_folder_with_spaces_and_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces, 'quotes' and $signs" / ("long " * 30 + "x") / "casestore"
    assert len(str(folder)) > 200
    ignored = shutil.ignore_patterns(".git", ".venv", ".casestore", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, folder, ignore=ignored)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    command = [str(folder / ".venv/bin/python"), "-m", "casestore.supervisor"]
    with running(folder / ".casestore", *command, cwd=folder) as run:
        assert run.get("/api/cases")


@pytest.mark.parametrize(
    ("change", "says"),
    [({"PORT": "http"}, "PORT must be a number"), ({"PORT": "0"}, "PORT must be"), ({"PORT": "busy"}, "listened on")],
)
def test_wrong_ports(tmp_path: Path, change: dict[str, str], says: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = change["PORT"].replace("busy", str(busy.getsockname()[1]))
        command = [sys.executable, "-m", "casestore.supervisor"]
        variables = environment(tmp_path / "home", PORT=port)
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "postgres").exists()


def test_commands_start_the_servers_for_themselves(tmp_path: Path) -> None:
    """`manage.py` with nothing running: starts both servers, and leaves none behind."""
    variables = environment(tmp_path / "home")

    def manage(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)

    assert manage("migrate", "--verbosity=0").returncode == 0
    (tmp_path / "declared.yaml").write_text("users: [{userEmail: a@example.com, loginId: a}]")
    done = manage("provision", str(tmp_path / "declared.yaml"))
    assert (done.returncode, done.stdout) == (0, "")
    done = manage("create_token", "a@example.com")
    assert re.fullmatch(r"cst_\S+\n", done.stdout)
    assert manage("create_token", "nobody@example.com").returncode != 0
    notes = [tmp_path / "home" / "run" / f"{name}.pid" for name in ("postgres", "valkey")]
    assert not any(note.exists() for note in notes)
