"""Trees as PostgreSQL's "advanced regular expressions"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from casestore.search.regex.characters import LAST, Ranges, cased, complement
from casestore.search.regex.cost import check_cost
from casestore.search.regex.reading import unsupported
from casestore.search.regex.tree import (
    Choice,
    Edge,
    Group,
    Look,
    Node,
    Reference,
    Repeat,
    Sequence,
    Set,
    children,
)

# The most that PostgreSQL takes in a quantifier.
_MOST = 255
_NOTHING = r"[^\u0001-\U0010FFFF]"


@dataclass(frozen=True, slots=True)
class Translated:
    """`pattern` is for the operator `~`. `prefix`: it holds for the texts that begin so; `infix`: that contain this."""

    pattern: str
    prefix: str | None = None
    infix: str | None = None


def written(tree: Node) -> Translated:
    """The tree in PostgreSQL's syntax. Raises RegexRefused for what it cannot do, or only at great cost."""
    check_cost(tree)
    numbers = _captures(tree)
    pattern = "".join(_Writer(numbers).pieces(tree))
    if numbers:
        return Translated(pattern)
    return Translated(pattern, *_literal(tree))


def _literal(tree: Node) -> tuple[str | None, str | None]:
    """The prefix or the infix that is all that the pattern says."""
    parts = list(tree.parts) if isinstance(tree, Sequence) else [tree]
    # Where nothing holds them, these may as well match nothing.
    while parts and _may_be_empty(parts[-1]):
        parts.pop()
    while parts and _may_be_empty(parts[0]):
        parts.pop(0)
    is_prefix = bool(parts) and parts[0] is Edge.START
    characters = [_single(part) for part in parts[is_prefix:]]
    if None in characters:
        return None, None
    text = "".join(chr(code) for code in characters if code is not None)
    return (text, None) if is_prefix and text else (None, text)


def _may_be_empty(node: Node) -> bool:
    return isinstance(node, Repeat) and node.least == 0


def _single(node: Node) -> int | None:
    """The one character that this is. NUL is in no text."""
    if isinstance(node, Set) and len(node.ranges) == 1:
        ((first, last),) = node.ranges
        return first if first == last and first else None
    return None


# References


def _captures(tree: Node) -> dict[int, int]:
    """The groups that are referred to, and their new numbers.

    PostgreSQL divides a text among the parts of a sequence in every way, but each part only in the first way that it
    finds; and it goes wrong about repetitions of nothing. So a group must be a part of the sequence that its
    reference is in, where the division says what it matched, and no more.
    """
    groups = {node.number: node for node in _all(tree) if isinstance(node, Group)}
    used = set(_used(tree, groups, frozenset()))
    return {old: new for new, old in enumerate((number for number in groups if number in used), 1)}


def _used(node: Node, groups: Mapping[int, Group], in_sequence: frozenset[int]) -> Iterator[int]:
    """The groups that are referred to; `in_sequence` are those that may be."""
    if isinstance(node, Reference):
        if node.number not in in_sequence:
            raise unsupported("a reference to a group that is repeated, optional, an alternative, or in another group")
        inner = list(_all(groups[node.number]))
        if any(isinstance(part, Edge | Look) for part in inner):
            raise unsupported("a reference to a group with anchors, word boundaries or lookarounds")
        if node.caseless and any(isinstance(part, Set) and cased(part.ranges) for part in inner):
            raise unsupported("a reference to letters in whichever case (option i)")
        yield node.number
    for part in children(node):
        used = list(_used(part, groups, in_sequence))
        if used and isinstance(node, Look):
            raise unsupported("a reference in a lookahead or lookbehind")
        if used and isinstance(node, Repeat) and _is_nullable(part, groups):
            raise unsupported("a repetition of a reference that may be to nothing")
        yield from used
        if isinstance(node, Sequence) and isinstance(part, Group):
            in_sequence |= {part.number}


def _all(node: Node) -> Iterator[Node]:
    yield node
    for part in children(node):
        yield from _all(part)


def _is_nullable(node: Node, groups: Mapping[int, Group]) -> bool:
    if isinstance(node, Reference):
        node = groups[node.number]
    if isinstance(node, Set):
        return False
    parts = (_is_nullable(part, groups) for part in children(node))
    if isinstance(node, Choice):
        return any(parts)
    return (isinstance(node, Repeat) and node.least == 0) or isinstance(node, Look) or all(parts)


# Syntax


@dataclass(frozen=True, slots=True)
class _Writer:
    numbers: dict[int, int]

    def pieces(self, node: Node) -> Iterator[str]:
        if isinstance(node, Set):
            yield _set(node.ranges)
        elif isinstance(node, Edge):
            yield node.value
        elif isinstance(node, Sequence):
            for part in node.parts:
                yield from self._enclosed(part) if isinstance(part, Choice) else self.pieces(part)
        elif isinstance(node, Choice):
            for index, part in enumerate(node.parts):
                yield "|" if index else ""
                yield from self.pieces(part)
        elif isinstance(node, Repeat):
            yield from self._repeat(node)
        elif isinstance(node, Group):
            yield from self._enclosed(node.part, "(" if node.number in self.numbers else "(?:")
        elif isinstance(node, Look):
            yield from self._enclosed(node.part, f"(?{'' if node.ahead else '<'}{'!' if node.negative else '='}")
        else:
            # A digit may follow.
            yield f"(?:\\{self.numbers[node.number]})"

    def _enclosed(self, node: Node, start: str = "(?:") -> Iterator[str]:
        yield start
        yield from self.pieces(node)
        yield ")"

    def _repeat(self, node: Repeat) -> Iterator[str]:
        atom = "".join(self.pieces(node.part) if isinstance(node.part, Set) else self._enclosed(node.part))
        counts = list(_counts(node.least, node.most))
        if len(counts) > 1 and any(isinstance(part, Group) and part.number in self.numbers for part in _all(node)):
            raise unsupported(f"a reference within what is repeated more than {_MOST} times")
        for count in counts:
            yield f"{atom}{count}"


def _counts(least: int, most: int | None) -> Iterator[str]:
    """Quantifiers one after the other that together mean least to most."""
    if most is None and least <= _MOST:
        yield {0: "*", 1: "+"}.get(least, f"{{{least},}}")
        return
    while least > _MOST:
        yield f"{{{_MOST}}}"
        least, most = least - _MOST, None if most is None else most - _MOST
    if most is None:
        yield f"{{{least},}}"
        return
    while True:
        here = min(most, _MOST)
        yield f"{{{least},{here}}}"
        least, most = 0, most - here
        if not most:
            return


def _set(ranges: Ranges) -> str:
    others = complement(ranges)
    if not others:
        return "."
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1] != 0:
        return _character(ranges[0][0])
    if ranges and ranges[-1][1] == LAST:
        members = "".join(_members(others))
        return f"[^{members}]" if members else "."
    members = "".join(_members(ranges))
    return f"[{members}]" if members else _NOTHING


def _members(ranges: Ranges) -> Iterator[str]:
    for first, last in ranges:
        first = max(first, 1)  # no text holds NUL
        if first == last:
            yield _character(first)
        elif first < last:
            yield f"{_character(first)}-{_character(last)}"


def _character(code: int) -> str:
    """One that means itself, within brackets and without."""
    character = chr(code)
    if character.isalnum() and not 0xD800 <= code <= 0xDFFF:
        return character
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
