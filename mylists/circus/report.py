"""What became of the records: a line for each that needs one, as it happens, and sums at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from casestore import ids


class Outcome(StrEnum):
    IMPORTED = "imported"
    CHANGED = "changed"  # what was here got something that it had not
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: in a file, on a line; `name` is its id, where it has a presentable one."""

    file: str
    line: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}{f' {self.name}' if self.name else ''}"


class Report:
    """Counts by file. Lines are said at once: of a large dump they are many."""

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self.say = say
        self.counts: dict[str, Counter[Outcome]] = {}
        self.noted: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.unread: list[str] = []

    def count(self, file: str, outcome: Outcome, number: int = 1) -> None:
        self.counts.setdefault(file, Counter())[outcome] += number

    def refuse(self, place: Place, reason: str) -> None:
        self.count(place.file, Outcome.REFUSED)
        self.say(f"refused {place}: {reason}")

    def note(self, place: Place, notes: Iterable[str]) -> None:
        for text in notes:
            self.noted[place.file] += 1
            self.say(f"noted   {place}: {text}")

    def total(self, *outcomes: Outcome) -> int:
        return sum(counts[outcome] for counts in self.counts.values() for outcome in outcomes)

    @property
    def failed(self) -> bool:
        """Whether there was something to import, and none of it is here now."""
        return 0 < self.total(Outcome.REFUSED) == self.total(*Outcome)

    def summary(self) -> list[str]:
        lines = []
        for file, counts in self.counts.items():
            sums = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
            noted = self.noted[file]
            lines.append(f"{file}: {sums}{f'; {noted} noted' if noted else ''}.")
        if self.unknown:
            members = ", ".join(f"{name} ({count})" for name, count in sorted(self.unknown.items()))
            lines.append(f"Left out, as there is no place for it here: {members}.")
        if self.unread:
            lines.append(f"Not read: {', '.join(self.unread)}.")
        return lines


def presentable(name: object) -> str:
    """An id as it may stand in a line of a report."""
    return name if isinstance(name, str) and name.isprintable() and len(name) <= 4 * ids.MAX_LENGTH else ""
