"""Where things are: the data folder, and the short folder for sockets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from casestore.embedded.errors import EmbeddedError

ROOT = Path(__file__).resolve().parents[2]

# A socket's path is limited to 107 bytes. What follows the temporary folder takes up to 55 of them.
LONGEST_BASE = 50


def home() -> Path:
    """CASESTORE_HOME, or `.casestore`; absolute, and relative to the project's folder when relative."""
    path = Path(os.environ.get("CASESTORE_HOME") or ".casestore").expanduser()
    return path if path.is_absolute() else ROOT / path


@dataclass(frozen=True)
class Places:
    """The folders of one data folder. `prepare` makes them, readable by nobody else."""

    home: Path

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def valkey(self) -> Path:
        return self.home / "valkey"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def run(self) -> Path:
        return self.home / "run"

    def prepare(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.log, self.run):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise EmbeddedError(f"The data folder {self.home} cannot be made: {error.strerror}.") from error

    def sockets(self) -> Path:
        """The folder for sockets; made when missing.

        It is written down, because another process may have another TMPDIR and must find the same servers.
        """
        record = self.run / "sockets"
        with contextlib.suppress(OSError, EmbeddedError):
            if (noted := Path(record.read_text())).is_dir():
                return private_directory(noted)
        path = private_directory(socket_directory(self.home))
        record.write_text(str(path))
        return path

    def forget_sockets(self) -> None:
        """Removes the folder for sockets, once no server uses it."""
        record = self.run / "sockets"
        with contextlib.suppress(OSError):
            Path(record.read_text()).rmdir()
            record.unlink()


def socket_directory(home: Path) -> Path:
    """A short path of its own for each data folder and user; the servers' quoting rules see plain characters only."""
    base = tempfile.gettempdir()
    if len(base) > LONGEST_BASE or not re.fullmatch(r"/[A-Za-z0-9._/-]*", base):
        base = "/tmp"  # noqa: S108 - the folder inside is made private and its owner is checked
    name = hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:12]
    return Path(base) / f"casestore-{os.geteuid()}-{name}"


def private_directory(path: Path) -> Path:
    """Makes `path` with mode 0700. What somebody else put there is refused: whoever owns it could read our data."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise EmbeddedError(f"{path} belongs to somebody else; remove it, or set TMPDIR to a folder of your own.")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path
