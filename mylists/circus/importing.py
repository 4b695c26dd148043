"""What all collections have in common: batches, transactions, what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from django.db import DatabaseError, DataError, IntegrityError, connection, transaction
from psycopg import errors

from casestore.dumps.files import READERS, read_records
from casestore.dumps.records import Record, Unreadable
from casestore.errors import CasestoreError
from mylists.circus.checking import Checker, DumpSerializer
from mylists.circus.report import Outcome, Place, Report, presentable

# Records of one transaction: as many as make its cost small beside theirs, and no more than memory bears.
BATCH = 200
BATCH_BYTES = 2**22

# A file, how much of it is done, and of how much: bytes of a file of records, files of a folder.
Progress = Callable[[str, int, int], None]


class Importer:
    """Imports one collection. Reports never hold patient information, passwords or tokens."""

    kind: ClassVar[type[DumpSerializer]]
    identity: ClassVar[str]  # the member that a report calls a record by

    def __init__(self, report: Report) -> None:
        self.report = report
        self.checker = Checker(self.kind, report.unknown)

    def prepare(self, values: Sequence[dict[str, Any]]) -> None:
        """Called in the transaction of a batch, before its records are put."""

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        """Called in a savepoint. Raises CasestoreError for what cannot be imported."""
        raise NotImplementedError

    def refused(self, value: dict[str, Any]) -> None:
        """Called after the savepoint of a record was rolled back."""


def files_of(folder: Path, collection: str) -> list[Path]:
    return [path for suffix in READERS if (path := folder / f"{collection}{suffix}").is_file()]


def import_files(paths: Sequence[Path], importer: Importer, report: Report, on_progress: Progress) -> None:
    """Raises OSError for a file that cannot be read."""
    for path in paths:
        report.count(path.name, Outcome.IMPORTED, 0)
        for batch in _batches(path.name, read_records(path, _told(path, on_progress)), report):
            _import_batch(batch, importer, report)


def _told(path: Path, on_progress: Progress) -> Callable[[int], None]:
    total = path.stat().st_size
    return lambda done: on_progress(path.name, done, total)


def _batches(
    file: str, found: Iterator[Record | Unreadable], report: Report
) -> Iterator[list[tuple[Place, dict[Any, Any]]]]:
    batch: list[tuple[Place, dict[Any, Any]]] = []
    size = 0
    for record in found:
        place = Place(file, record.line)
        if isinstance(record, Unreadable):
            report.refuse(place, record.reason)
            continue
        batch.append((place, record.value))
        size += record.size
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _import_batch(batch: Sequence[tuple[Place, dict[Any, Any]]], importer: Importer, report: Report) -> None:
    checked = []
    for place, raw in batch:
        place = Place(place.file, place.line, presentable(raw.get(importer.identity)))
        try:
            checked.append((place, *importer.checker.check(raw)))
        except CasestoreError as error:
            report.refuse(place, str(error))
    if not checked:
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            # A reference to nothing is then an error of the record that has it, not of the batch.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        importer.prepare([value for _, value, _ in checked])
        for place, value, notes in checked:
            put_record(importer.put, value, place, notes, report, importer.refused)


def put_record(
    put: Callable[[dict[str, Any], Place, list[str]], Outcome],
    value: dict[str, Any],
    place: Place,
    notes: list[str],
    report: Report,
    on_refusal: Callable[[dict[str, Any]], None] = lambda value: None,
) -> None:
    """One record in its savepoint: all of it or nothing, and the report says which."""
    try:
        with transaction.atomic():
            outcome = put(value, place, notes)
    except CasestoreError as error:
        report.refuse(place, str(error))
    except DatabaseError as error:
        reason = _reason(error)
        if reason is None:
            raise
        report.refuse(place, reason)
    else:
        report.count(place.file, outcome)
        report.note(place, notes)
        return
    on_refusal(value)


def _reason(error: DatabaseError) -> str | None:
    """Why the database refuses this record; None where something else is wrong. Its own message quotes values."""
    cause = error.__cause__
    if isinstance(error, IntegrityError | DataError) and isinstance(cause, errors.Error):
        name = cause.diag.constraint_name
        return f"The database refuses it ({type(cause).__name__}{f', {name}' if name else ''})."
    if isinstance(cause, errors.ProgramLimitExceeded):
        return "A value is too long for an index of the database."
    return None
