"""Patterns into trees: PCRE2 10.42's grammar, token by token."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from casestore.search.regex.characters import ANY, CLASSES, NEWLINE, Ranges, complement, folded
from casestore.search.regex.reading import (
    PROPERTY,
    Reader,
    escaped_character,
    invalid,
    octal,
    read_class,
    too_large,
    unsupported,
)
from casestore.search.regex.tree import (
    EMPTY,
    Choice,
    Edge,
    Group,
    Look,
    Node,
    Reference,
    Repeat,
    Sequence,
    Set,
    atomic,
    choice,
    length,
    sequence,
)

MAX_LENGTH = 2500
MAX_DEPTH = 100
# PCRE's own bounds.
_MAX_COUNT = 65535
_MAX_NAME = 32

_COUNT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_DIGITS = re.compile("[0-9]+")
_NUMBER = re.compile(r"([+-]?)([0-9]+)")
_OPTIONS = re.compile(r"(\^?)([A-Za-z]*)(-?)([A-Za-z]*)([:)])")
# What the option x leaves out: Unicode's "pattern white space".
_SPACE = re.compile("[\t\n\v\f\r \u0085\u200e\u200f\u2028\u2029]+")
_LOOKS = {"=": (True, False), "!": (True, True), "<=": (False, False), "<!": (False, True)}
# What may follow `(?` and has no equal in PostgreSQL.
_CALL = "a call of a group"
_UNSUPPORTED = {
    "|": "a branch reset, (?|",
    "*": "a non-atomic lookahead",
    "<*": "a non-atomic lookbehind",
    "(": "a conditional group, (?(",
    "C": "a callout",
    "R": "recursion",
    "&": _CALL,
    "P>": _CALL,
}
_UNSUPPORTED_ESCAPES = {"p": PROPERTY, "P": PROPERTY, "X": r"\X", "C": r"\C"}
_ANY_BUT_NEWLINE = complement(NEWLINE)
_NEWLINES = Choice(
    (
        Sequence((Set(((0x0D, 0x0D),)), Set(NEWLINE))),
        Set(((0x0A, 0x0C), (0x85, 0x85), (0x2028, 0x2029))),
        Sequence((Set(((0x0D, 0x0D),)), Look(Set(NEWLINE), ahead=True, negative=True))),
    )
)
_EDGES = {
    "A": Edge.START,
    # Where the search begins.
    "G": Edge.START,
    "Z": Edge.BEFORE_FINAL_NEWLINE,
    "z": Edge.END,
    "b": Edge.WORD,
    "B": Edge.NO_WORD,
}


@dataclass(slots=True)
class _Open:
    """A group that is not yet closed."""

    options: frozenset[str]
    look: tuple[bool, bool] | None = None
    is_atomic: bool = False
    number: int | None = None
    branches: list[Node] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)

    def node(self) -> Node:
        branches = [*self.branches, sequence(_flat(self.items))]
        if self.look is not None:
            ahead, negative = self.look
            if not ahead and any(length(branch) is None for branch in branches):
                raise invalid("a lookbehind can match texts of different lengths")
            return Look(choice(branches), ahead, negative)
        node = choice(branches)
        if self.is_atomic:
            found = atomic(node)
            if found is None:
                raise unsupported("an atomic group, (?>")
            return found
        return node if self.number is None else Group(self.number, node)


def _flat(items: list[Node]) -> Iterator[Node]:
    for item in items:
        yield from item.parts if isinstance(item, Sequence) else (item,)


def parse(pattern: str, options: str) -> Node:
    """The tree of a pattern. Raises RegexRefused."""
    if len(pattern) > MAX_LENGTH:
        raise too_large(f"it is longer than {MAX_LENGTH} characters")
    if "\0" in pattern or any("\ud800" <= character <= "\udfff" for character in pattern):
        raise invalid("it holds a NUL character or half of a surrogate pair")
    return _Parser(pattern, frozenset(options)).parse()


def _number(digits: str) -> int:
    """Exact as far as numbers mean anything here."""
    return int(digits.lstrip("0")[:9] or "0")


class _Parser:
    def __init__(self, pattern: str, options: frozenset[str]) -> None:
        self.reader = Reader(pattern)
        self.options = options
        self.stack = [_Open(options)]
        self.groups = 0
        self.closed: set[int] = set()
        self.names: dict[str, int] = {}
        # Whether a quantifier may follow.
        self.repeatable = False

    def parse(self) -> Node:
        while self.reader.more():
            self._token()
        if len(self.stack) > 1:
            raise invalid("a parenthesis is not closed")
        return self.stack[0].node()

    def _token(self) -> None:
        if self._leave_out():
            return
        character = self.reader.take("")
        if character == "\\":
            self._escape()
        elif character == "(":
            self._open()
        elif character == ")":
            self._close()
        elif character == "|":
            self.stack[-1].branches.append(sequence(_flat(self.stack[-1].items)))
            self.stack[-1].items = []
            self.repeatable = False
        elif character == "[":
            self._add(Set(read_class(self.reader, caseless="i" in self.options)))
        elif character == "^":
            self._add_edge(Edge.START_OF_LINE if "m" in self.options else Edge.START)
        elif character == "$":
            self._add_edge(Edge.END_OF_LINE if "m" in self.options else Edge.BEFORE_FINAL_NEWLINE)
        elif character == ".":
            self._add(Set(ANY if "s" in self.options else _ANY_BUT_NEWLINE))
        elif (count := self._count(character)) is not None:
            self._repeat(*count)
        else:
            self._add_character(ord(character))

    def _leave_out(self) -> bool:
        """Passes over white space or a comment, if the option x is on."""
        if "x" not in self.options or not self.reader.more():
            return False
        if self.reader.accept("#"):
            if self.reader.until("\n") is None:
                self.reader.at = len(self.reader.text)
            return True
        return self.reader.match(_SPACE) is not None

    def _add(self, node: Node) -> None:
        self.stack[-1].items.append(node)
        self.repeatable = True

    def _add_edge(self, edge: Edge) -> None:
        self.stack[-1].items.append(edge)
        self.repeatable = False

    def _add_character(self, code: int) -> None:
        ranges: Ranges = ((code, code),)
        self._add(Set(folded(ranges) if "i" in self.options else ranges))

    # Quantifiers

    def _count(self, character: str) -> tuple[int, int | None] | None:
        """The bounds, if this is a quantifier; a brace may be just that."""
        if character in "*+?":
            return int(character == "+"), 1 if character == "?" else None
        if character != "{":
            return None
        found = _COUNT.match(self.reader.text, self.reader.at - 1)
        if found is None:
            return None
        self.reader.at = found.end()
        least = _number(found[1])
        most = least if not found[2] else _number(found[3]) if found[3] else None
        if max(least, most or 0) > _MAX_COUNT:
            raise invalid("a quantifier holds a number that is too large")
        if most is not None and most < least:
            raise invalid("the numbers of a quantifier are out of order")
        return least, most

    def _repeat(self, least: int, most: int | None) -> None:
        if not self.repeatable:
            raise invalid("a quantifier follows nothing that can be repeated")
        items = self.stack[-1].items
        node: Node = Repeat(items.pop(), least, most)
        while self.reader.accept(r"\E") or self._leave_out():
            pass
        if self.reader.accept("+"):
            found = atomic(node)
            if found is None:
                raise unsupported("a possessive quantifier, other than on a single character or class")
            node = found
        else:
            self.reader.accept("?")
        items.append(node)
        self.repeatable = False

    # Groups

    def _open(self) -> None:
        reader = self.reader
        if reader.accept("*"):
            raise unsupported("a verb, (*")
        if not reader.accept("?"):
            self._push(number=None if "n" in self.options else self._new_group())
        elif reader.accept("#"):
            if reader.until(")") is None:
                raise invalid("a comment is not closed")
        elif reader.accept("P="):
            self._refer_to_name(")")
        elif not self._open_special():
            self._set_options()

    def _open_special(self) -> bool:
        reader = self.reader
        for start, look in _LOOKS.items():
            if reader.accept(start):
                self._push(look=look)
                return True
        if reader.accept(">"):
            self._push(is_atomic=True)
            return True
        for start, what in _UNSUPPORTED.items():
            if reader.next_is(start):
                raise unsupported(what)
        if reader.match(_NUMBER):
            raise unsupported(_CALL)
        for start, end in (("P<", ">"), ("<", ">"), ("'", "'")):
            if reader.accept(start):
                self._push(number=self._new_group(self._name(end)))
                return True
        return False

    def _push(
        self,
        *,
        look: tuple[bool, bool] | None = None,
        is_atomic: bool = False,
        number: int | None = None,
        options_after: frozenset[str] | None = None,
    ) -> None:
        if len(self.stack) > MAX_DEPTH:
            raise too_large(f"parentheses are nested more than {MAX_DEPTH} deep")
        self.stack.append(_Open(self.options if options_after is None else options_after, look, is_atomic, number))
        self.repeatable = False

    def _close(self) -> None:
        if len(self.stack) == 1:
            raise invalid("a parenthesis is closed that was not opened")
        group = self.stack.pop()
        self.options = group.options
        if group.number is not None:
            self.closed.add(group.number)
        self._add(group.node())

    def _new_group(self, name: str | None = None) -> int:
        self.groups += 1
        if name is not None:
            if name in self.names:
                raise invalid("two groups have the same name")
            self.names[name] = self.groups
        return self.groups

    def _name(self, end: str) -> str:
        name = self.reader.until(end) or ""
        if not name or len(name.encode()) > _MAX_NAME or unicodedata.category(name[0]) == "Nd":
            raise invalid("the name of a group is missing, too long, or begins with a digit")
        kinds = {unicodedata.category(character) for character in name if character != "_"}
        if not all(kind == "Nd" or kind[0] == "L" for kind in kinds):
            raise invalid("the name of a group holds more than letters, digits and underscores")
        return name

    def _set_options(self) -> None:
        found = self.reader.match(_OPTIONS)
        if found is None or (found[1] and found[3]):
            raise invalid("nothing that is known follows (?")
        none, switched_on, _, switched_off, end = found.groups()
        for letter in switched_on + switched_off:
            if letter not in "imnsxUJ":
                raise invalid("nothing that is known follows (?")
        if "J" in switched_on or "xx" in switched_on:
            raise unsupported("the options J and xx")
        before = self.options
        self.options = ((frozenset() if none else before) | set(switched_on)) - set(switched_off)
        if end == ":":
            self._push(options_after=before)
        else:
            self.repeatable = False

    # Escapes

    def _escape(self) -> None:
        reader = self.reader
        letter = reader.take("a backslash ends the pattern")
        if letter == "Q":
            for character in reader.quoted():
                self._add_character(ord(character))
        elif letter in CLASSES:
            self._add(Set(CLASSES[letter]))
        elif letter in _EDGES:
            self._add_edge(_EDGES[letter])
        elif letter == "R":
            self._add(_NEWLINES)
        elif letter == "K":
            self._keep_out()
        elif letter in "gk" or letter in "123456789":
            reader.at -= 1
            self._refer()
        elif letter in _UNSUPPORTED_ESCAPES:
            raise unsupported(_UNSUPPORTED_ESCAPES[letter])
        elif letter != "E" and (code := escaped_character(reader, letter)) is not None:
            self._add_character(code)
        elif letter == "N" and (not reader.next_is("{") or _COUNT.match(reader.text, reader.at)):
            self._add(Set(_ANY_BUT_NEWLINE))
        elif letter != "E":
            raise invalid("a backslash stands before a letter that has no meaning there")

    def _keep_out(self) -> None:
        r"""`\K` moves the start of what was matched: whether there is a match is the same."""
        if any(group.look is not None for group in self.stack):
            raise invalid(r"\K stands in a lookahead or lookbehind")
        self.stack[-1].items.append(EMPTY)
        self.repeatable = False

    def _refer(self) -> None:
        reader = self.reader
        if reader.accept("k"):
            for start, end in (("{", "}"), ("<", ">"), ("'", "'")):
                if reader.accept(start):
                    self._refer_to_name(end)
                    return
            raise invalid(r"\k is not followed by a name")
        if not reader.accept("g"):
            self._digits()
            return
        if reader.next_is("<") or reader.next_is("'"):
            raise unsupported(_CALL)
        braced = reader.accept("{")
        found = reader.match(_NUMBER)
        if found is None and braced:
            self._refer_to_name("}")
        elif found is None or (braced and not reader.accept("}")):
            raise invalid(r"\g is not followed by a number or a name")
        else:
            number = _number(found[2])
            self._refer_to(self.groups + 1 - number if found[1] == "-" else number + bool(found[1]) * self.groups)

    def _digits(self) -> None:
        """A reference, or a character in octal: PCRE decides by the number of groups so far."""
        digits = _DIGITS.match(self.reader.text, self.reader.at)
        assert digits is not None
        number = _number(digits[0])
        if number < 10 or digits[0][0] in "89" or number <= self.groups:
            self.reader.at = digits.end()
            self._refer_to(number)
        else:
            self._add_character(octal(self.reader))

    def _refer_to_name(self, end: str) -> None:
        self._refer_to(self.names.get(self._name(end), 0))

    def _refer_to(self, number: int) -> None:
        if number not in self.closed:
            raise invalid("a reference goes to a group that is not there, or does not end before it")
        self._add(Reference(number, caseless="i" in self.options))
