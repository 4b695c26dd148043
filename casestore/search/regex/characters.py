"""Sets of characters, as ranges of code points: sorted, with gaps between them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import cache, lru_cache

Ranges = tuple[tuple[int, int], ...]

LAST = 0x10FFFF


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    gaps = []
    following = 0
    for first, last in ranges:
        if following < first:
            gaps.append((following, first - 1))
        following = last + 1
    if following <= LAST:
        gaps.append((following, LAST))
    return tuple(gaps)


ANY: Ranges = ((0, LAST),)
NEWLINE: Ranges = ((0x0A, 0x0A),)
DIGIT: Ranges = ((0x30, 0x39),)
UPPER: Ranges = ((0x41, 0x5A),)
LOWER: Ranges = ((0x61, 0x7A),)
ALPHA: Ranges = UPPER + LOWER
WORD = union((*ALPHA, *DIGIT, (0x5F, 0x5F)))
SPACE: Ranges = ((0x09, 0x0D), (0x20, 0x20))
HORIZONTAL: Ranges = (
    (0x09, 0x09), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200A),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
VERTICAL: Ranges = ((0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029))

# Without PCRE's option UCP these are ASCII.
CLASSES: dict[str, Ranges] = {"d": DIGIT, "w": WORD, "s": SPACE, "h": HORIZONTAL, "v": VERTICAL}
CLASSES |= {name.upper(): complement(ranges) for name, ranges in CLASSES.items()}
POSIX: dict[str, Ranges] = {
    "alnum": DIGIT + ALPHA,
    "alpha": ALPHA,
    "ascii": ((0x00, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": DIGIT,
    "graph": ((0x21, 0x7E),),
    "lower": LOWER,
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": SPACE,
    "upper": UPPER,
    "word": WORD,
    "xdigit": (*DIGIT, (0x41, 0x46), (0x61, 0x66)),
}


@cache
def _orbits() -> dict[int, frozenset[int]]:
    """Every character that has a case, with all that are the same but for the case (Unicode's simple folding)."""
    found: dict[int, set[int]] = {}
    for code in range(0x1FFFF):
        character = chr(code)
        # The dotless i has a capital, which it does not fold to.
        for other in (character.lower(), character.upper()) if code != 0x131 else ():
            if len(other) == 1 and other != character:
                orbit = found.get(code, {code}) | found.get(ord(other), {ord(other)})
                found |= dict.fromkeys(orbit, orbit)
    return {code: frozenset(orbit) for code, orbit in found.items()}


@cache
def _cased() -> list[int]:
    return sorted(_orbits())


def cased(ranges: Ranges) -> list[int]:
    """Those of the characters that have a case."""
    codes = _cased()
    return [code for first, last in ranges for code in codes[bisect_left(codes, first) : bisect_left(codes, last + 1)]]


@lru_cache(maxsize=1024)
def folded(ranges: Ranges) -> Ranges:
    """The characters in whichever case."""
    orbits = _orbits()
    inside = cased(ranges)
    others = frozenset().union(*(orbits[code] for code in inside)).difference(inside)
    return union([*ranges, *((code, code) for code in others)]) if others else ranges
