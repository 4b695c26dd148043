"""A parsed regular expression: without options, names and comments, since all of these have done their work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from casestore.search.regex.characters import Ranges


class RegexRefused(ValueError):
    """A sentence that names the construct, and never quotes the pattern, which may hold a patient's name."""


@dataclass(frozen=True, slots=True)
class Set:
    """One character of these."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times; None is without end. Greedy or lazy: whether there is a match is the same."""

    part: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """Captured, for references to `number`."""

    number: int
    part: Node


@dataclass(frozen=True, slots=True)
class Reference:
    """The text that the group matched, in the same or in whichever case."""

    number: int
    caseless: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What matches `part` stands here, or does not: after this place or before it."""

    part: Node
    ahead: bool
    negative: bool


class Edge(Enum):
    """A place, as PostgreSQL writes it."""

    START = "^"
    END = "$"
    BEFORE_FINAL_NEWLINE = r"(?=\n?$)"
    # Not behind the newline at the very end.
    START_OF_LINE = r"(?:^|(?<=\n)(?=.))"
    END_OF_LINE = r"(?=\n|$)"
    WORD = r"\y"
    NO_WORD = r"\Y"


Node = Set | Sequence | Choice | Repeat | Group | Reference | Look | Edge
EMPTY = Sequence(())


def sequence(parts: Iterable[Node]) -> Node:
    several = tuple(parts)
    return several[0] if len(several) == 1 else Sequence(several)


def choice(parts: Iterable[Node]) -> Node:
    several = tuple(parts)
    return several[0] if len(several) == 1 else Choice(several)


def children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Sequence | Choice):
        return node.parts
    return (node.part,) if isinstance(node, Repeat | Group | Look) else ()


def length(node: Node) -> int | None:
    """How many characters it always takes; None if that varies."""
    if isinstance(node, Set):
        return 1
    if isinstance(node, Look | Edge):
        return 0
    lengths = [length(part) for part in children(node)]
    if None in lengths or isinstance(node, Reference):
        return None
    known = [one for one in lengths if one is not None]
    if isinstance(node, Sequence):
        return sum(known)
    if isinstance(node, Choice) and len(set(known)) > 1:
        return None
    if isinstance(node, Repeat):
        return known[0] * node.least if node.least == node.most else None
    return known[0]


def atomic(node: Node) -> Node | None:
    """A node that matches what PCRE finds first and takes no other way later; None if there is no such node."""
    if isinstance(node, Repeat) and isinstance(node.part, Set):
        # All that there are, so none may follow, unless the most have been taken.
        no_more = Look(node.part, ahead=True, negative=True)
        if node.most is None:
            return Sequence((node, no_more))
        if node.least == node.most:
            return node
        fewer = Repeat(node.part, node.least, node.most - 1)
        return Choice((Repeat(node.part, node.most, node.most), Sequence((fewer, no_more))))
    if isinstance(node, Sequence) and node.parts:
        *before, last = node.parts
        found = atomic(last)
        return sequence([*before, found]) if found is not None and all(map(_has_one_way, before)) else None
    return node if _has_one_way(node) else None


def _has_one_way(node: Node) -> bool:
    if isinstance(node, Set | Look | Edge):
        return True
    if isinstance(node, Repeat):
        return isinstance(node.part, Look) or (node.least == node.most and _has_one_way(node.part))
    return isinstance(node, Sequence | Group) and all(map(_has_one_way, children(node)))
