"""The value that each label is painted with. Plain Python, no Django."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cases.label_dictionary import MAX_VALUE
from casestore.errors import CasestoreError

SHOWN = 80


def index_values(indices: Sequence[int]) -> list[int]:
    """Label i of its series is painted as i + 1."""
    return [_checked(index + 1) for index in indices]


def project_values(names: Sequence[str | None], dictionary: Mapping[str, int]) -> list[int]:
    """Each name's value in the project's dictionary; names match to the letter, several may share a value.

    Raises CasestoreError for a label that has none. Leaving it out instead would give a mask that looks complete and is
    not; nobody would learn of it before a network had been trained on it.
    """
    found = []
    for name in names:
        if not name:
            raise CasestoreError("A label without a name has no value in the project's label values.")
        value = dictionary.get(name)
        if value is None:
            shown = name if len(name) <= SHOWN else name[: SHOWN - 1] + "…"
            raise CasestoreError(f'The project\'s label values have no value for the label "{shown}".')
        found.append(_checked(value))
    return found


def element_type(values: Sequence[int]) -> str:
    """numpy name of the smallest type that holds the values: uint8, or uint16 where one exceeds 255."""
    return "uint16" if max(values, default=0) > 255 else "uint8"


def _checked(value: int) -> int:
    if not 0 < value <= MAX_VALUE:
        raise CasestoreError(f"A label cannot have the value {value}: values are 1 to {MAX_VALUE}.")
    return value
