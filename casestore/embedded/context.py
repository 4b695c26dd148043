"""Running the servers as long as somebody uses them.

Every user of a data folder's servers holds a shared lock; starting and stopping happen under an exclusive one. Who
leaves last stops the servers. The kernel drops the locks of a killed process, so nobody has to clean up after it: the
servers it left behind are used by the next command, and stopped when that ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from casestore.embedded.locks import Lock, exclusively
from casestore.embedded.places import Places
from casestore.embedded.postgres import Postgres
from casestore.embedded.valkey import Valkey


@dataclass(frozen=True)
class Servers:
    """The addresses for the environment, and which of them are embedded."""

    environment: dict[str, str]
    embedded: tuple[str, ...] = field(default=())


@contextlib.contextmanager
def servers(home: Path, *, durable: bool = True) -> Iterator[Servers]:
    """Runs the servers whose address the environment does not give, under `home`, until the block ends.

    Servers that run already are used. `durable=False` trades safety after a power cut for speed: for tests.
    Raises EmbeddedError with a sentence when a server cannot run. The environment itself is not changed.
    """
    given = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "CELERY_BROKER_URL")}
    if all(given.values()):
        yield Servers(given)
        return
    places = Places(Path(os.path.abspath(home)))
    places.prepare()
    users = Lock(places.run / "users.lock")
    owner = os.getpid()
    try:
        with exclusively(places.run / "transition.lock"):
            users.shared()
            postgres, valkey = Postgres(places, durable=durable), Valkey(places, durable=durable)
            environment = dict(given)
            if not given["DATABASE_URL"]:
                postgres.ensure()
                environment["DATABASE_URL"] = postgres.url
            if not given["CELERY_BROKER_URL"]:
                valkey.ensure()
                environment["CELERY_BROKER_URL"] = valkey.url
        yield Servers(environment, tuple(name for name, value in given.items() if not value))
    finally:
        # A forked child that unwinds through here is not the one that came in.
        if os.getpid() == owner:
            leave(places, users, durable=durable)


def revive(home: Path, embedded: Sequence[str]) -> list[str]:
    """Starts those of the `embedded` servers again that have died; what they are called. For who is in `servers`.

    Raises EmbeddedError where one cannot run; it may be tried again.
    """
    places = Places(Path(os.path.abspath(home)))
    known: dict[str, tuple[str, Postgres | Valkey]] = {
        "DATABASE_URL": ("database", Postgres(places)),
        "CELERY_BROKER_URL": ("broker", Valkey(places)),
    }
    revived = []
    for name, server in (known[variable] for variable in embedded):
        if server.pid() is None:
            with exclusively(places.run / "transition.lock"):
                server.ensure()
            revived.append(name)
    return revived


def leave(places: Places, users: Lock, *, durable: bool) -> None:
    """Stops the servers if nobody else uses them."""
    with exclusively(places.run / "transition.lock"):
        if users.try_exclusive():
            Valkey(places, durable=durable).stop()
            Postgres(places, durable=durable).stop()
            places.forget_sockets()
        users.release()
