"""Reading a pattern: what follows a backslash, and character classes."""

from __future__ import annotations

import re

from casestore.search.regex.characters import CLASSES, LAST, POSIX, Ranges, complement, folded, union
from casestore.search.regex.tree import RegexRefused

_SIMPLE = {"a": 0x07, "e": 0x1B, "f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09}
_OCTAL = re.compile("[0-7]{1,3}")
_TWO_HEX = re.compile("[0-9A-Fa-f]{0,2}")
_BRACED_HEX = re.compile(r"\{([0-9A-Fa-f]+)\}")
_BRACED_OCTAL = re.compile(r"\{([0-7]+)\}")
_NAMED_HEX = re.compile(r"\{U\+([0-9A-Fa-f]+)\}")
_POSIX = re.compile(r"\[([:.=])((?:(?!\1\]|\[\1)[^\]])*)\1\]")
_HYPHEN = ord("-")


def invalid(what: str) -> RegexRefused:
    """What PCRE does not compile either."""
    return RegexRefused(f"the regular expression is not valid: {what}.")


def unsupported(what: str) -> RegexRefused:
    """What PCRE has and this server has not."""
    return RegexRefused(f"the regular expression uses what cannot be searched with here: {what}.")


def too_large(what: str) -> RegexRefused:
    return RegexRefused(f"the regular expression is too large: {what}.")


class Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def more(self) -> bool:
        return self.at < len(self.text)

    def next_is(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def accept(self, text: str) -> bool:
        found = self.next_is(text)
        self.at += len(text) * found
        return found

    def take(self, missing: str) -> str:
        if not self.more():
            raise invalid(missing)
        self.at += 1
        return self.text[self.at - 1]

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def until(self, end: str) -> str | None:
        """What stands before `end`, which is passed over; None if there is none."""
        place = self.text.find(end, self.at)
        if place < 0:
            return None
        found = self.text[self.at : place]
        self.at = place + len(end)
        return found

    def quoted(self) -> str:
        r"""What follows `\Q`: up to `\E`, or the end."""
        found = self.until(r"\E")
        if found is None:
            found, self.at = self.text[self.at :], len(self.text)
        return found


def escaped_character(reader: Reader, letter: str) -> int | None:
    """The one character that an escape stands for, its letter just read; None if it is another kind of escape."""
    if letter in _SIMPLE:
        return _SIMPLE[letter]
    if letter == "x":
        if reader.next_is("{"):
            return _code_point(reader.match(_BRACED_HEX), 16)
        found = reader.match(_TWO_HEX)
        return int(found[0] or "0", 16) if found else 0
    if letter == "o":
        return _code_point(reader.match(_BRACED_OCTAL), 8)
    if letter == "N" and reader.next_is("{U+"):
        return _code_point(reader.match(_NAMED_HEX), 16)
    if letter == "0":
        reader.at -= 1
        return octal(reader)
    if letter == "c":
        control = reader.take(r"\c ends the pattern")
        if not " " <= control <= "~":
            raise invalid(r"\c is not followed by a printable ASCII character")
        return ord(control.upper()) ^ 0x40
    return None if letter.isascii() and letter.isalnum() else ord(letter)


def octal(reader: Reader) -> int:
    found = reader.match(_OCTAL)
    assert found is not None
    return int(found[0], 8)


def _code_point(found: re.Match[str] | None, base: int) -> int:
    if found is None:
        raise invalid(r"\x, \o or \N{U+ is not followed by digits in braces")
    # Long runs of zeros are legal; longer numbers are too large whatever they are.
    digits = found[1].lstrip("0")
    code = int(digits or "0", base) if len(digits) < 10 else LAST + 1
    if code > LAST or 0xD800 <= code <= 0xDFFF:
        raise invalid("there is no such character as one that is written as a number")
    return code


# One character of a class: its code, or None for a hyphen that may stand for a range; or several.
_Item = int | None | Ranges


def read_class(reader: Reader, *, caseless: bool) -> Ranges:
    """The characters of a class whose bracket was just read."""
    if _POSIX.match(reader.text, reader.at - 1):
        raise invalid("a POSIX class stands outside brackets")
    negated = reader.accept("^")
    items = _items(reader, caseless=caseless)
    singles: list[tuple[int, int]] = []
    several: list[tuple[int, int]] = []
    index = 0
    while index < len(items):
        item = items[index]
        is_range = index + 2 < len(items) and items[index + 1] is None
        if isinstance(item, tuple):
            if is_range:
                raise invalid("a range of a class begins with more than one character")
            several += item
        else:
            first = last = _HYPHEN if item is None else item
            if is_range:
                end = items[index + 2]
                if isinstance(end, tuple):
                    raise invalid("a range of a class ends with more than one character")
                last = _HYPHEN if end is None else end
                index += 2
            if first > last:
                raise invalid("a range of a class is out of order")
            singles.append((first, last))
        index += 1
    ranges = union(singles)
    ranges = union([*(folded(ranges) if caseless else ranges), *several])
    return complement(ranges) if negated else ranges


def _items(reader: Reader, *, caseless: bool) -> list[_Item]:
    items: list[_Item] = []
    while True:
        if posix := reader.match(_POSIX):
            items.append(_posix(posix, caseless=caseless))
            continue
        character = reader.take("a bracket is not closed")
        if character == "]" and items:
            return items
        if character == "-":
            items.append(None)
        elif character != "\\":
            items.append(ord(character))
        elif reader.accept("Q"):
            items += map(ord, reader.quoted())
        elif not reader.accept("E"):
            items.append(_escaped(reader))


def _posix(found: re.Match[str], *, caseless: bool) -> Ranges:
    name = found[2].removeprefix("^")
    if found[1] != ":" or name not in POSIX:
        raise invalid("there is no such POSIX class")
    if caseless and name in {"upper", "lower"}:
        name = "alpha"
    return complement(POSIX[name]) if found[2].startswith("^") else POSIX[name]


def _escaped(reader: Reader) -> _Item:
    letter = reader.take("a backslash ends the pattern")
    if letter in CLASSES:
        return CLASSES[letter]
    if letter == "b":
        return 0x08
    if letter in "pP":
        raise unsupported(PROPERTY)
    if letter in "1234567":
        reader.at -= 1
        return octal(reader)
    if letter in "89":
        return ord(letter)
    found = escaped_character(reader, letter)
    if found is None:
        raise invalid("a class holds an escape that means nothing in it")
    return found


PROPERTY = r"a Unicode property (\p); list characters and ranges"
