"""What became of the cases of an export, as far as it is.

What its manifest says of a case, which may be thousands of files, is a row of the database, written once; a worker
holds, and a checkpoint repeats, only what the end of the task needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from casestore.json_text import dump
from casestore.tasks.models import Task
from exports.models import PackedCase

BRIEF = ("caseId", "folder", "revisionIndex", "status", "reason", "revisionDate", "bytes")
# Rows that are fetched at once: each may have megabytes.
AT_ONCE = 10


class Ledger:
    """`cases` has what is kept of each case, in their order, with `warned`: whether its geometry has warnings."""

    def __init__(self, task: Task, cases: list[dict[str, Any]]) -> None:
        self.cases = cases
        self._task = task
        self._unsaved: list[PackedCase] = []

    def forget(self) -> None:
        """What an attempt noted whose archive is lost."""
        PackedCase.objects.filter(task=self._task).delete()

    def add(self, told: dict[str, Any]) -> None:
        """`told` is what the manifest says of the next case, and `bytes`."""
        text = dump({name: value for name, value in told.items() if name != "bytes"}, indent=True).decode()
        self._unsaved.append(PackedCase(task=self._task, position=len(self.cases), told=text))
        brief = {name: told[name] for name in BRIEF if name in told}
        self.cases.append(brief | {"warned": any(series["warnings"] for series in told.get("series", []))})

    def save(self) -> None:
        """In the transaction that keeps the checkpoint."""
        PackedCase.objects.bulk_create(self._unsaved)
        self._unsaved.clear()

    def told(self) -> Iterator[str]:
        """What was saved of each case, as indented JSON."""
        rows = PackedCase.objects.filter(task=self._task).order_by("position")
        yield from rows.values_list("told", flat=True).iterator(chunk_size=AT_ONCE)

    @property
    def bytes(self) -> int:
        return sum(case.get("bytes", 0) for case in self.cases)

    @property
    def packed(self) -> list[dict[str, Any]]:
        return [case for case in self.cases if case["status"] == "packed"]

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [case for case in self.cases if case["status"] == "failed"]
