"""What can be searched: an explicit table of keys with type, place and privilege. Plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from casestore.search.values import SearchError, shown

MAX_PATH = 20
MAX_KEY = 200


class Kind(Enum):
    STRING = "string"
    NUMBER = "number"
    DATE = "date"
    BOOLEAN = "boolean"
    STRINGS = "array of strings"
    JSON = "any"


@dataclass(frozen=True, slots=True)
class Key:
    """`column` is a field as the ORM names it; `path` leads into a JSON column; `nullable`: it may be missing."""

    name: str
    kind: Kind
    column: str
    nullable: bool = True
    patient: bool = False
    path: tuple[str, ...] = ()
    help: str = ""


@dataclass(frozen=True, slots=True)
class KeyTable:
    """`keys` by name; `open` are prefixes with anything behind them; `relations` are arrays of documents."""

    keys: Mapping[str, Key]
    open: Mapping[str, Key] = field(default_factory=dict)
    relations: Mapping[str, Relation] = field(default_factory=dict)
    sees_patients: bool = True

    def for_user(self, *, sees_patients: bool) -> KeyTable:
        """Without the keys on patients, for those who may not know that they are there."""
        return replace(self, sees_patients=sees_patients)

    def with_keys(self, *keys: Key) -> KeyTable:
        return replace(self, keys={**self.keys, **{key.name: key for key in keys}})

    def described(self) -> Iterator[tuple[str, str]]:
        """Every key and its type, for people."""
        yield from ((key.name, key.kind.value) for key in self.keys.values())
        yield from ((f"{prefix}.<key>", key.kind.value) for prefix, key in self.open.items())
        for prefix, relation in self.relations.items():
            yield prefix, "array, for $elemMatch"
            yield from ((f"{prefix}.{name}", kind) for name, kind in relation.table.described())

    def find(self, name: str) -> Key | None:
        if name in self.keys:
            key = self.keys[name]
            return None if key.patient and not self.sees_patients else key
        for prefix, key in self.open.items():
            if name.startswith(f"{prefix}."):
                path = tuple(name[len(prefix) + 1 :].split("."))
                if all(path) and len(path) <= MAX_PATH and len(name) <= MAX_KEY and not _is_hostile(path):
                    return replace(key, name=name, path=path)
        return None

    def find_in_relation(self, name: str) -> tuple[str, Key] | None:
        """The relation and, in it, the key that `name` leads to."""
        for prefix, relation in self.relations.items():
            if name.startswith(f"{prefix}."):
                key = relation.table.find(name[len(prefix) + 1 :])
                return None if key is None else (prefix, key)
        return None

    def unknown(self, name: str, where: str) -> SearchError:
        if not self.sees_patients and name.startswith("patientInfo"):
            return SearchError(f'{where}: searching by patientInfo needs the "personalInfoView" privilege.')
        return SearchError(f"{where}: {shown(name)} is not a key that can be searched.")


def _is_hostile(path: tuple[str, ...]) -> bool:
    return any(part.startswith("$") or "\0" in part or not part.isprintable() for part in path)


@dataclass(frozen=True, slots=True)
class Relation:
    """Related rows, searched by the keys of `table`. `rows` makes the queryset, which refers to the outer row."""

    table: KeyTable
    rows: Callable[[], Any]


def table(*keys: Key, open_keys: Mapping[str, Key] | None = None, **relations: Relation) -> KeyTable:
    names = {key.name: key for key in keys}
    return KeyTable(names, open_keys or {}, {name.replace("__", "."): r for name, r in relations.items()})
