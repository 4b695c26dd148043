"""What a pattern costs PostgreSQL, which makes a finite automaton of it, all repetitions written out.

Measured on PostgreSQL 18: within these bounds a pattern is compiled in less than a tenth of a second and a hundred
megabytes. Beyond them both grow fast, up to errors that are no longer the client's.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import reduce

from casestore.search.regex.characters import ANY, Ranges
from casestore.search.regex.reading import too_large
from casestore.search.regex.tree import Choice, Edge, Look, Node, Repeat, Set, children

MAX_STATES = 5000
MAX_ARCS = 100_000
# States times characters that are told apart: the size of its tables.
MAX_TABLE = 1_000_000
# Anchors, word boundaries and lookarounds that can meet in one place: the automaton doubles with each.
MAX_EDGES = 8
MAX_NESTED_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """States and arcs; arcs that lead into the part, and states that can be its last.

    `edges_through`, `edges_before`, `edges_after`, `edges`: how many edges can meet when it matches nothing, at its
    beginning, at its end, and anywhere.
    """

    states: int = 0
    arcs: int = 0
    first: int = 0
    last: int = 0
    nullable: bool = True
    edges_through: int = 0
    edges_before: int = 0
    edges_after: int = 0
    edges: int = 0

    def then(self, other: Cost) -> Cost:
        return Cost(
            states=self.states + other.states,
            arcs=self.arcs + other.arcs + self.last * other.first,
            first=self.first + (other.first if self.nullable else 0),
            last=other.last + (self.last if other.nullable else 0),
            nullable=self.nullable and other.nullable,
            edges_through=self.edges_through + other.edges_through if self.nullable and other.nullable else 0,
            edges_before=max(self.edges_before, self.edges_through + other.edges_before if self.nullable else 0),
            edges_after=max(other.edges_after, other.edges_through + self.edges_after if other.nullable else 0),
            edges=max(self.edges, other.edges, self.edges_after + other.edges_before),
        )

    def otherwise(self, other: Cost) -> Cost:
        return Cost(
            states=self.states + other.states,
            arcs=self.arcs + other.arcs,
            first=self.first + other.first,
            last=self.last + other.last,
            nullable=self.nullable or other.nullable,
            edges_through=max(self.edges_through, other.edges_through),
            edges_before=max(self.edges_before, other.edges_before),
            edges_after=max(self.edges_after, other.edges_after),
            edges=max(self.edges, other.edges),
        )

    def times(self, count: int) -> Cost:
        done, power = Cost(), self
        while count:
            if count & 1:
                done = done.then(power)
            power = power.then(power)
            count >>= 1
        return done

    def up_to(self, count: int) -> Cost:
        """Each only after the one before it, if one cannot be empty."""
        if self.nullable or count < 2:
            return replace(self, nullable=True).times(count)
        return replace(
            self,
            states=self.states * count,
            arcs=self.arcs * count + self.last * self.first * (count - 1),
            last=self.last * count,
            nullable=True,
            edges=max(self.edges, self.edges_after + self.edges_before),
        )


def check_cost(tree: Node) -> None:
    """Raises RegexRefused for what would grow too large."""
    cuts = sorted({cut for ranges in _ranges(tree) for first, last in ranges for cut in (first, last + 1)})
    cost = _cost(tree, cuts, looks=0)
    if cost.edges > MAX_EDGES:
        raise too_large(f"more than {MAX_EDGES} anchors, word boundaries or lookarounds can meet in one place")
    if cost.states > MAX_STATES or cost.arcs > MAX_ARCS or cost.states * len(cuts) > MAX_TABLE:
        raise too_large("it has too many characters, with all repetitions written out")


def _ranges(tree: Node) -> set[Ranges]:
    found: set[Ranges] = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Set):
            found.add(node.ranges)
        pending.extend(children(node))
    return found


def _cost(node: Node, cuts: list[int], looks: int) -> Cost:
    if isinstance(node, Set):
        # An arc for each kind of character.
        pieces = (bisect_left(cuts, last + 1) - bisect_left(cuts, first) for first, last in node.ranges)
        arcs = 1 if node.ranges == ANY else sum(pieces)
        return Cost(states=1, arcs=arcs, first=arcs, last=1, nullable=False)
    if isinstance(node, Edge):
        return Cost(states=1, arcs=1, first=1, last=1, edges_through=1, edges_before=1, edges_after=1, edges=1)
    if isinstance(node, Look):
        if looks == MAX_NESTED_LOOKS:
            raise too_large(f"lookarounds are nested more than {MAX_NESTED_LOOKS} deep")
        inner = _cost(node.part, cuts, looks + 1)
        edges = max(1, inner.edges)
        return Cost(inner.states + 1, inner.arcs + 1, first=1, last=1, edges_through=1, edges_before=1, edges_after=1,
                    edges=edges)  # fmt: skip
    if isinstance(node, Repeat):
        part = _cost(node.part, cuts, looks)
        more = part.up_to(2) if node.most is None else part.up_to(node.most - node.least)
        return part.times(node.least).then(more)
    parts = [_cost(part, cuts, looks) for part in children(node)]
    if isinstance(node, Choice):
        return reduce(Cost.otherwise, parts)
    return reduce(Cost.then, parts, Cost())
