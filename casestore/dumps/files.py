"""The records of a file, one after another, whatever the form of the file. Plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from casestore.dumps.json_records import json_records
from casestore.dumps.records import Record, Unreadable
from casestore.dumps.yaml_records import yaml_records

READERS = {".json": json_records, ".jsonl": json_records, ".yaml": yaml_records, ".yml": yaml_records}


def read_records(path: Path, on_read: Callable[[int], None] = lambda position: None) -> Iterator[Record | Unreadable]:
    """JSON (one array, or records one after another, on a line each or not) or YAML (a list, or documents).

    `on_read` is told how many bytes of the file were read. Only one record is in memory. Raises OSError.
    """
    with path.open("rb") as file:
        for found in READERS[path.suffix](file):
            on_read(file.tell())
            yield found
