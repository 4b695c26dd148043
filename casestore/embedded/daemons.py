"""Processes that outlive the command that started them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from casestore.embedded.errors import EmbeddedError

LOG_LIMIT = 10 * 2**20

# setsid forks, so that the server belongs to no command and leaves no zombie with it; the shell notes the number
# of the process that the server is about to become.
NOTE_PID = 'echo $$ >"$0" && exec "$@"'


def server_environment() -> dict[str, str]:
    """Nothing of ours: the servers need no secrets, and PG* variables would change how they behave."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Daemon:
    """A server known by the number in `pidfile` and, because numbers are used again, by a word of its command line."""

    pidfile: Path
    marker: str
    logfile: Path

    def start(self, command: Sequence[str], folder: Path) -> None:
        rotate(self.logfile)
        self.pidfile.unlink(missing_ok=True)
        with open(self.logfile, "ab") as log:
            self.logfile.chmod(0o600)
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", NOTE_PID, str(self.pidfile), *command],
                cwd=folder,
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        deadline = time.monotonic() + 10
        while not read_pid(self.pidfile):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{command[0]} did not start; see {self.logfile}.")
            time.sleep(0.005)

    def pid(self, *others: Path) -> int | None:
        """The running server's process, from our own note or from `others`, files that it writes itself."""
        for path in (self.pidfile, *others):
            number = read_pid(path)
            if number and self.is_ours(number):
                return number
        return None

    def is_ours(self, number: int) -> bool:
        return is_alive(number) and self.marker in command_line(number)

    def stop(self, number: int, *steps: tuple[signal.Signals, float]) -> None:
        """Sends each signal in turn until the process is gone, waiting so many seconds after each."""
        for name, seconds in (*steps, (signal.SIGKILL, 10.0)):
            if not self.is_ours(number):
                break
            os.kill(number, name)
            deadline = time.monotonic() + seconds
            while is_alive(number) and time.monotonic() < deadline:
                time.sleep(0.01)
        self.pidfile.unlink(missing_ok=True)

    def log_from(self, offset: int) -> str:
        try:
            with open(self.logfile, "rb") as file:
                file.seek(offset)
                return file.read(100_000).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def log_size(self) -> int:
        return self.logfile.stat().st_size if self.logfile.exists() else 0


def relative(program: Path, folder: Path) -> str:
    """The program as seen from the folder that it will run in: a list of processes need not show where we lie."""
    return os.path.relpath(os.path.realpath(program), os.path.realpath(folder))


def rotate(path: Path) -> None:
    """Keeps one older log, so that logs do not grow for ever."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_name(path.name + ".1"))


def read_pid(path: Path) -> int | None:
    try:
        first = path.read_text(errors="replace").split("\n", 1)[0].strip()
    except OSError:
        return None
    return int(first) if re.fullmatch(r"[1-9][0-9]{0,9}", first) else None


def is_alive(number: int) -> bool:
    """A zombie is dead: its parent, perhaps a container's first process, just never looked."""
    try:
        state = Path(f"/proc/{number}/stat").read_text(errors="replace")
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] not in {"Z", "X"}


def is_taken(number: int) -> bool:
    """Whether a process has this number, be it a zombie."""
    return Path(f"/proc/{number}").exists()


def running() -> Iterator[int]:
    """The numbers of all processes."""
    for name in os.listdir("/proc"):
        if name.isdigit() and is_alive(int(name)):
            yield int(name)


def command_line(number: int) -> str:
    # World-readable, unlike the working directory: root in a container may not look at another user's process.
    try:
        return os.fsdecode(Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" "))
    except OSError:
        return ""
