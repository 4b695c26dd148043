"""Perl-compatible regular expressions (PCRE2 with UTF, without UCP) in the syntax of PostgreSQL's engine. Plain Python.

The pattern is parsed completely (`parser`) into a tree in which each atom is a set of characters, and written out anew
(`written`). So PostgreSQL sees neither options nor case folding nor classes that a locale could change, and any
collation would do; "C" is there everywhere, and quick. What has no equal there is refused by name. So is what PCRE
does not compile, and what would grow too large.
"""

from __future__ import annotations

from casestore.search.regex.parser import parse
from casestore.search.regex.tree import RegexRefused
from casestore.search.regex.written import Translated, written

# The collation to match under.
COLLATION = "C"

__all__ = ["COLLATION", "RegexRefused", "Translated", "translate"]


def translate(pattern: str, options: str = "") -> Translated:
    """The same regular expression for PostgreSQL; `options` are of i, m, s, x and u. Raises RegexRefused."""
    return written(parse(pattern, options))
