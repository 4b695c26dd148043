"""`make run`: the embedded servers, migrations, the demo, the web server and a worker, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from casestore.embedded import EmbeddedError, home, revive, servers
from casestore.embedded.daemons import rotate
from casestore.embedded.locks import Lock
from casestore.embedded.places import ROOT, Places

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ASKS_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A child that keeps dying is not started for ever.
MOST_DEATHS, WITHIN = 5, 60.0
READY_WITHIN = 120.0
# No query string: a filter may hold a patient's name.
ACCESS_LOG = '%(t)s "%(m)s %(U)s" %(s)s %(B)s bytes %(D)s us'

WEB = (
    "gunicorn",
    "casestore.wsgi:application",
    "--workers=2",
    "--threads=8",
    "--timeout=120",
    "--graceful-timeout=8",
    "--keep-alive=20",
    "--config=python:casestore.web_server",
    # It would lie in the user's own folder, the same for all servers.
    "--no-control-socket",
    "--access-logfile=-",
    f"--access-logformat={ACCESS_LOG}",
)
# Seen from the project's folder, where everything runs.
PYTHON = os.path.relpath(sys.executable, ROOT) if Path(sys.executable).is_relative_to(ROOT) else sys.executable
WORKER = (
    "celery",
    "--app=casestore.celery",
    "worker",
    "--concurrency=2",
    "--loglevel=INFO",
    "--without-gossip",
    "--without-mingle",
    "--hostname=casestore@%h",
)


class Stop(BaseException):
    """A signal asked us to stop."""


class CannotRun(Exception):
    """A sentence for the person at the terminal."""


@dataclass
class Child:
    """A process of ours in a session of its own: Ctrl-C reaches us alone, and we stop it in order."""

    name: str
    module: Sequence[str]
    environment: dict[str, str]
    logfile: Path
    steps: Sequence[tuple[float, signal.Signals]]
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)

    def start(self) -> None:
        rotate(self.logfile)
        with self.logfile.open("ab") as log, unheard():
            self.logfile.chmod(0o600)
            self.process = subprocess.Popen(
                [PYTHON, "-m", *self.module],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare_child,  # noqa: PLW1509  this process has one thread
            )

    def revive(self) -> None:
        """Starts it again when it has died. Raises CannotRun when it dies too often."""
        if self.process is None or self.process.poll() is None:
            return
        self.kill_group()
        now = time.monotonic()
        self.deaths = [*(death for death in self.deaths if now - death < WITHIN), now]
        if len(self.deaths) >= MOST_DEATHS:
            raise CannotRun(f"The {self.name} died {MOST_DEATHS} times within a minute; see {self.logfile}.")
        say(f"The {self.name} died (status {self.process.returncode}) and is started again; see {self.logfile}.")
        self.start()

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Waits for the end of what was asked to stop; then insists."""
        if self.process is None:
            return
        for seconds, number in self.steps:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
                break
            self.process.send_signal(number)
        self.process.wait()
        self.kill_group()

    def kill_group(self) -> None:
        """Ends what it left behind, as a killed server cannot stop its own children; returns when they are gone."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-self.process.pid, 0)


def prepare_child() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKS_TO_STOP)


def adopt_orphans(yes: bool = True) -> None:
    """Makes the children of a child that dies ours, so that their end can be waited for (prctl(2)), or no more."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes))


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Signals wait: a child that is started is also known, and so stopped."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKS_TO_STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKS_TO_STOP)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    for number in ASKS_TO_STOP:
        signal.signal(number, stop)
    try:
        run()
    except Stop:
        say("casestore has stopped. The data are kept; `make run` starts it again.")
        return 0
    except (CannotRun, EmbeddedError) as error:
        print(f"casestore: {error}", file=sys.stderr)
        return 1


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Leaves by way of every `finally`. Signals come twice, from the terminal and from make: only one is heard."""
    for name in ASKS_TO_STOP:
        signal.signal(name, signal.SIG_IGN)
    raise Stop


def run() -> NoReturn:
    host, port = address()
    places = Places(Path(os.path.abspath(home())))
    places.prepare()
    with alone(places), servers(places.home) as running:
        environment = {
            **os.environ,
            **running.environment,
            "CASESTORE_HOME": str(places.home),
            "DJANGO_SETTINGS_MODULE": "casestore.settings",
            "PYTHONUNBUFFERED": "1",
        }
        say("Preparing the database ...")
        manage(environment, "migrate", "--no-input", "--verbosity=0")
        demo = load_demo(environment)
        children = [
            Child(
                "worker",
                (*WORKER, f"--pool={worker_pool()}", "--beat"),
                environment,
                places.log / "worker.log",
                WORKER_STEPS,
            ),
            Child(
                "web server",
                (*WEB, f"--bind={bracketed(host)}:{port}"),
                environment,
                places.log / "web.log",
                WEB_STEPS,
            ),
        ]
        # After the servers have started, which belong to nobody and are stopped in their own way.
        adopt_orphans()
        try:
            for child in children:
                child.start()
            url = f"http://{bracketed(reachable(host))}:{port}"
            wait_until_ready(url, children)
            say(banner(url, demo, places, running.embedded))
            trouble = ""
            while True:
                time.sleep(0.5)
                trouble = revive_servers(places, running.embedded, trouble)
                for child in children:
                    child.revive()
        finally:
            for child in children:
                child.ask_to_stop()
            for child in children:
                child.stop()


def revive_servers(places: Places, embedded: Sequence[str], told: str) -> str:
    """Starts servers again that have died; a disk that is full now may have room later. What went wrong, said once."""
    # As at first, they belong to nobody: as ours they would be zombies when they die again.
    adopt_orphans(False)
    try:
        for name in revive(places.home, embedded):
            say(f"The {name} died and is started again; see {places.log}.")
    except EmbeddedError as error:
        if str(error) != told:
            say(str(error))
        time.sleep(2.0)
        return str(error)
    finally:
        adopt_orphans()
    return ""


WEB_STEPS = ((10.0, signal.SIGKILL),)
# A worker first finishes what it does; then it gives its tasks back to the broker.
WORKER_STEPS = ((8.0, signal.SIGQUIT), (5.0, signal.SIGKILL))


def worker_pool() -> str:
    """Processes, unless this machine has no shared memory for the semaphores that they need."""
    try:
        # The semaphore of a "spawn" context would start a process that outlives us for a moment.
        multiprocessing.get_context("fork").Lock()
    except OSError:
        return "threads"
    return "prefork"


def address() -> tuple[str, int]:
    """HOST and PORT. Raises CannotRun where they cannot be listened on."""
    host = os.environ.get("HOST") or "127.0.0.1"
    text = os.environ.get("PORT") or "8000"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise CannotRun(f"PORT must be a number from 1 to 65535, not {text!r}.")
    try:
        family = socket.getaddrinfo(host, int(text), type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(text)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotRun(f"{host}:{text} cannot be listened on ({reason}). Another port: PORT=8001 make run") from None
    return host, int(text)


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def reachable(host: str) -> str:
    """Where a browser on this machine finds a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  not bound here


@contextlib.contextmanager
def alone(places: Places) -> Iterator[None]:
    """One `make run` for one data folder."""
    lock = Lock(places.run / "supervisor.lock")
    if not lock.try_exclusive():
        raise CannotRun(
            f"casestore runs already on {places.home}. Another one beside it: CASESTORE_HOME=… PORT=… make run"
        )
    try:
        yield
    finally:
        lock.release()


def manage(environment: dict[str, str], *words: str) -> str:
    """Runs a command of Django's; returns what it prints. Its errors go to the terminal. Raises CannotRun."""
    # In a session of its own, so that Ctrl-C does not print its stack; and gone when we go.
    process = subprocess.Popen(
        [PYTHON, "-m", "django", *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare_child,  # noqa: PLW1509  this process has one thread
    )
    try:
        output, _ = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise CannotRun(f"{words[0]} failed with status {process.returncode}; the message above says why.")
    return output


def load_demo(environment: dict[str, str]) -> dict[str, Any] | None:
    """The demo's logins and token; None where CASESTORE_DEMO=0."""
    if (os.environ.get("CASESTORE_DEMO") or "1") == "0":
        return None
    demo: dict[str, Any] = json.loads(manage(environment, "load_demo").strip().splitlines()[-1])
    return demo


def wait_until_ready(url: str, children: Sequence[Child]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    # Not by way of a proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        try:
            opener.open(f"{url}/api/health", timeout=10).close()
        except urllib.error.HTTPError as error:
            # It answers; a name that is not among the allowed hosts is the operator's to allow.
            with error:
                if error.code < 500:
                    return
        except OSError:
            pass
        else:
            return
        for child in children:
            child.revive()
        time.sleep(0.05)
    raise CannotRun(f"The web server does not answer; see {children[-1].logfile}.")


def banner(url: str, demo: dict[str, Any] | None, places: Places, embedded: Sequence[str]) -> str:
    lines = [
        "",
        f"casestore is ready:  {url}/",
        "",
        f"  API, in a browser  {url}/api/",
        f"  API, described     {url}/api/docs",
        f"  Admin              {url}/admin/",
        f"  Data and logs      {places.home}",
    ]
    if not embedded:
        lines.append("  Servers            DATABASE_URL and CELERY_BROKER_URL of the environment")
    if demo:
        width = max(len(user["email"]) for user in demo["users"])
        lines += ["", "Demo logins:"]
        lines += [f"  {user['role']:<14} {user['email']:<{width}}  {user['password']}" for user in demo["users"]]
        header = f"-H 'Authorization: Bearer {demo['token']}'"
        body = json.dumps({"caseIds": [demo["caseId"]]})
        lines += [
            "",
            f"Demo token:  {demo['token']}",
            "",
            "Try it: the cases, one of them, an export of it, and how far that is.",
            "",
            f"  curl {header} '{url}/api/cases?limit=2'",
            f"  curl {header} {url}/api/cases/{demo['caseId']}",
            f"  curl {header} --json '{body}' {url}/api/cases/export-mhd",
            f"  curl {header} {url}/api/tasks",
        ]
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])


if __name__ == "__main__":
    sys.exit(main())
