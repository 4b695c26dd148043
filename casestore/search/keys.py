"""What can be searched: an explicit table of keys with type, place and privilege. Plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

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

    def find(self, name: str) -> Key | None:
        if name in self.keys:
            return self.keys[name]
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


def _is_hostile(path: tuple[str, ...]) -> bool:
    return any(part.startswith("$") or "\0" in part or not part.isprintable() for part in path)


@dataclass(frozen=True, slots=True)
class Relation:
    """Related rows whose keys are `table`: how to find them is the translator's business."""

    table: KeyTable


def table(*keys: Key, open_keys: Mapping[str, Key] | None = None, **relations: Relation) -> KeyTable:
    names = {key.name: key for key in keys}
    return KeyTable(names, open_keys or {}, {name.replace("__", "."): r for name, r in relations.items()})
