"""Placeholder until the translator is written."""

from __future__ import annotations

from dataclasses import dataclass

COLLATION = "C"


class RegexRefused(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Translated:
    pattern: str
    prefix: str | None = None
    infix: str | None = None


def translate(pattern: str, options: str = "") -> Translated:
    return Translated(pattern)
