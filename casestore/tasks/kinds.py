"""What the tasks of one Celery task have in common. The apps that have tasks say so here when they are ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casestore.accounts.models import User
    from casestore.tasks.models import Task


@dataclass(frozen=True, slots=True)
class Kind:
    """`at_once`: how many of an owner's tasks run at a time; the others wait, the oldest runs first.

    `check_download` raises InsufficientPrivilege where the user may not, or no longer, have what the task made. Without
    one, nobody may.
    """

    at_once: Callable[[], int] | None = None
    check_download: Callable[[User, Task], None] | None = None


_KINDS: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    """`name` is the Celery task's."""
    _KINDS[name] = kind


def kind_of(name: str) -> Kind:
    return _KINDS.get(name, Kind())


def names() -> list[str]:
    return sorted(_KINDS)
