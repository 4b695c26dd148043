"""Perl-compatible regular expressions in PostgreSQL: each answer as PCRE's, or refused."""

from __future__ import annotations

import re
import string

import pytest
from django.db import connection
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from casestore.search.regex import COLLATION, RegexRefused, Translated, translate
from casestore.search.regex.characters import cased, folded
from tests.pcre import DoesNotCompile, Pcre, TooComplex

pytestmark = pytest.mark.django_db
EXAMPLES = 4 * settings().max_examples


def found(regex: Translated, texts: list[str]) -> list[bool]:
    """Which of the texts PostgreSQL finds; a prefix or an infix must find the same."""
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT array_agg(t.value COLLATE "{COLLATION}" ~ %s ORDER BY n) FROM unnest(%s::text[]) '
            "WITH ORDINALITY AS t(value, n)",
            [regex.pattern, texts],
        )
        ((answers,),) = cursor.fetchall()
    if regex.prefix is not None:
        assert [text.startswith(regex.prefix) for text in texts] == answers
    if regex.infix is not None:
        assert [regex.infix in text for text in texts] == answers
    return list(answers)


# pattern, options, texts that match, texts that do not
TABLE: list[tuple[str, str, list[str], list[str]]] = [
    # Ends
    (r"a$", "", ["a", "a\n", "ba"], ["a\nb", "a\n\n", "ab"]),
    (r"a$\n", "", ["a\n"], ["a", "a\nb"]),
    (r"a\Z", "m", ["a", "a\n"], ["a\nb", "a\n\n"]),
    (r"a\z", "m", ["a", "b\na"], ["a\n", "a\nb"]),
    (r"\Aa", "m", ["ab"], ["b\na"]),
    (r"\Ga", "", ["ab"], ["ba"]),
    (r"^a", "", ["ab"], ["ba", "b\na"]),
    (r"^a", "m", ["ab", "b\na"], ["ba"]),
    (r"a$", "m", ["a", "a\nb", "a\n\n"], ["ab"]),
    (r"^$", "", ["", "\n"], ["a", "\n\n", "a\n"]),
    (r"^$", "m", ["", "\n", "a\n\nb"], ["a", "a\n"]),
    (r"^", "m", ["", "\n", "a"], []),
    (r"$^", "", ["", "\n"], ["a", "\n\n"]),
    # The point and classes
    (r"^.$", "", ["a", "\r", "\u2028", "𠮷", "a\n"], ["", "\n", "ab"]),
    (r"^.$", "s", ["a", "\n"], [""]),
    (r"^\N$", "s", ["a"], ["\n"]),
    (r"^[^x]$", "", ["a", "\n"], ["x", ""]),
    (r"^[^a]*$", "", ["\n\n", ""], ["a", "b\na"]),
    (r"^\w+$", "", ["aZ_9"], ["é", "名", "-"]),
    (r"^\W$", "", ["é", "٣", "-"], ["a", "_"]),
    (r"^\d$", "", ["0", "9"], ["٣", "９", "a"]),
    (r"^\D$", "", ["٣", "\n"], ["0"]),
    (r"^\s$", "", [" ", "\t", "\v", "\r"], ["\u00a0", "\u0085", "\u3000", "a"]),
    (r"^\S$", "", ["\u00a0", "a"], [" "]),
    (r"^\h$", "", [" ", "\t", "\u00a0", "\u3000"], ["\n", "a"]),
    (r"^\v$", "", ["\n", "\v", "\u0085", "\u2028"], [" "]),
    (r"^[\H]$", "", ["\n", "a"], ["\t"]),
    (r"^[[:alpha:]]$", "", ["a", "Z"], ["é", "1"]),
    (r"^[[:^alpha:]]$", "", ["é", "1", "\n"], ["a"]),
    (r"^[^[:^digit:]]$", "", ["1"], ["a"]),
    (r"^[[:punct:][:cntrl:]]$", "", ["$", "+", "~", "\x7f"], ["a", " "]),
    (r"^[[:graph:]]$", "", ["!", "a"], [" ", "é"]),
    (r"^[]a]$", "", ["]", "a"], ["b"]),
    (r"^[^]a]$", "", ["b"], ["]", "a"]),
    (r"^[a\]\-z]$", "", ["a", "]", "-", "z"], ["b"]),
    (r"^[+--]$", "", ["+", ",", "-"], ["."]),
    (r"^[--a]$", "", ["-", "A", "a"], ["b", ","]),
    (r"^[a-c-e]$", "", ["b", "-", "e"], ["d"]),
    (r"^[\d-]$", "", ["5", "-"], ["a"]),
    (r"^[a\Q-]\E]$", "", ["a", "-", "]"], ["b"]),
    (r"^[\b]$", "", ["\b"], ["b"]),
    (r"^[\x41-\x{43}\101\n]$", "", ["A", "B", "C", "\n"], ["D"]),
    (r"^[:a]$", "", [":", "a"], ["b"]),
    (r"^[ぁ-ん]$", "", ["が"], ["ア"]),
    (r"^[\x{10000}-\x{10ffff}]$", "", ["𠮷", "🙂"], ["山", "\uffff"]),
    (r"^[^\x{e000}-\x{10ffff}]$", "", ["a"], ["\ue000", "🙂"]),
    (r"[^\x00-\x{10ffff}]", "", [], ["", "a"]),
    # Words
    (r"\bJOHN\b", "", ["JOHN", "a JOHN", "éJOHN"], ["JOHNS", "_JOHN"]),
    (r"\BO\B", "", ["JOHN"], ["O", "JO"]),
    (r"^\B$", "", [""], ["a"]),
    (r"a\b.\b", "s", ["a b"], ["ab", "a"]),
    # Characters
    (r"^\x41nn?$", "", ["Ann", "An"], ["\\x41nn"]),
    (r"^\x4$", "", ["\x04"], ["4"]),
    (r"^\x{5c71}\x{1F642}$", "", ["山🙂"], ["山"]),
    (r"^\N{U+5c71}\o{101}\101\0101$", "", ["山AA\b1"], []),
    (r"^\a\e\f\t\cA\c[$", "", ["\a\x1b\f\t\x01\x1b"], []),
    (r"^\é\_\-\/$", "", ["é_-/"], []),
    (r"^\Qa.b*\E+$", "", ["a.b*", "a.b**"], ["aab", "a.b*a.b*"]),
    (r"^a\Qb", "", ["ab"], ["a"]),
    (r"\n\R\x0d", "", ["\n\n\r", "\n\r\n\r"], ["\n\r"]),
    (r"^\R\n", "", ["\n\n", "\r\n\n"], ["\r\n"]),
    (r"^\R$", "", ["\r\n", "\r", "\n", "\u2028", "\x85"], ["\n\r", ""]),
    (r"a{,2}b{1c{", "", ["a{,2}b{1c{"], ["ab"]),
    # Case
    (r"^smith$", "i", ["SMITH", "Smith", "\u017fmith"], ["smit"]),
    (r"müller|ŁUKASZ", "i", ["MÜLLER", "łukasz"], ["MULLER", "mu\u0308ller"]),
    (r"^ß$", "i", ["ß", "ẞ"], ["ss", "SS", "s"]),
    (r"^ss$", "i", ["SS", "sS", "\u017fs"], ["ß", "ẞ"]),
    (r"^σ$", "i", ["σ", "ς", "Σ"], ["s"]),
    (r"^ς$", "i", ["σ", "ς", "Σ"], []),
    (r"^k$", "i", ["k", "K", "\u212a"], []),
    (r"^\u212a$", "i", ["k", "K", "\u212a"], []),
    (r"^å$", "i", ["å", "Å", "\u212b"], ["a"]),
    (r"^i$", "i", ["i", "I"], ["İ", "ı"]),
    (r"^İ$", "i", ["İ"], ["i", "I", "i\u0307"]),
    (r"^ı$", "i", ["ı"], ["i", "I"]),
    (r"^µ$", "i", ["µ", "μ", "Μ"], ["m"]),
    (r"^ǆ$", "i", ["ǆ", "ǅ", "Ǆ"], []),
    (r"^ａ$", "i", ["ａ", "Ａ"], ["a"]),
    (r"^ﬁ$", "i", ["ﬁ"], ["fi"]),
    (r"^Ꭰ$", "i", ["Ꭰ", "ꭰ"], []),
    (r"^[a-z]+$", "i", ["aZ\u212a\u017f"], ["é"]),
    (r"^[^k]$", "i", ["j"], ["k", "K", "\u212a"]),
    (r"^\w$", "i", ["k"], ["\u212a", "\u017f"]),
    (r"^[\w]$", "i", ["k"], ["\u212a"]),
    (r"^[[:upper:]]$", "i", ["a", "A"], ["é", "\u017f"]),
    (r"^[[:^lower:]]$", "i", ["1", "é"], ["a", "A"]),
    (r"^(\d)\1$", "i", ["11"], ["12"]),
    # Options within
    (r"(?i)^smith", "", ["SMITH"], ["asmith"]),
    (r"a(?i)b|c", "", ["aB", "C", "ab"], ["AB"]),
    (r"(a(?i)b)c", "", ["aBc"], ["ABc", "abC"]),
    (r"(?i:a)b", "", ["Ab"], ["AB"]),
    (r"(?-i)a(?i:b)", "i", ["aB"], ["AB"]),
    (r"(?^:a)b", "i", ["aB"], ["Ab"]),
    (r"(?s-i:A.)b", "i", ["A\nB"], ["a\nb"]),
    (r"(?m)^b", "", ["a\nb"], ["ab"]),
    ("(?x) a b # c\n d", "", ["abd"], ["a b"]),
    (r"(?U)a+?b", "", ["aab"], ["b"]),
    (r"(?n)(a)(?<b>c)\1", "", ["acc"], ["aca"]),
    # x
    ("^a n # comment\nz", "x", ["anz"], ["a n"]),
    (r"a\ b[ ]\#", "x", ["a b #"], ["ab #"]),
    ("a\u0085\u200e\u2028b", "x", ["ab"], []),
    ("a\u00a0b", "x", ["a\u00a0b"], ["ab"]),
    (r"^a + $", "x", ["aa"], ["a "]),
    (r"^(?#comment)a(?#)*$", "", ["aa", ""], ["b"]),
    # Repetition
    (r"^a{300}$", "", ["a" * 300], ["a" * 299, "a" * 301]),
    (r"^a{1,300}$", "", ["a", "a" * 300], ["", "a" * 301]),
    (r"^(?:ab){254,600}$", "", ["ab" * 254, "ab" * 600], ["ab" * 253, "ab" * 601]),
    (r"^a{256,}$", "", ["a" * 256, "a" * 999], ["a" * 255]),
    (r"^a{0}b{0,0}$", "", [""], ["a", "b"]),
    (r"^(?:a|)*?$", "", ["", "aaa"], ["b"]),
    (r"^(?:a?){2,3}$", "", ["", "aaa"], ["aaaa"]),
    (r"(?:^a|b)*c$", "", ["abc", "bc", "c"], ["d"]),
    (r"(?=a)*b", "", ["b"], ["a"]),
    (r"(?=a)+b", "", [], ["b", "ab"]),
    (r"()+(?:)*{", "", ["{"], ["a"]),
    # Taking all, and giving nothing back
    (r"^[A-Z]++\^", "", ["AB^"], ["AB"]),
    (r"^a++a", "", [], ["aaa"]),
    (r"^a{1,2}+a", "", ["aaa"], ["aa"]),
    (r"^a?+a", "", ["aa"], ["a"]),
    (r"^(?>ba*)a", "", [], ["baa"]),
    (r"^(?>abc)d", "", ["abcd"], []),
    (r"^\d*+5$", "", [], ["55"]),
    # Around
    (r"TARO(?!$)", "", ["TAROx"], ["TARO", "TARO\n"]),
    (r"(?<=\^)J", "", ["A^J"], ["J", "AJ"]),
    (r"(?<!a|bc)d", "", ["d", "cd"], ["ad", "bcd"]),
    (r"^(?=.*a)(?=.*b)..$", "", ["ab", "ba"], ["aa"]),
    (r"(?<=(?<!x)a)b", "", ["ab"], ["xab"]),
    (r"(?<=^a)b", "m", ["c\nab"], ["cab"]),
    (r"a\Kb", "", ["ab"], ["b"]),
    # References
    (r"(.)\1", "", ["aa", "éé"], ["ab", "aA"]),
    (r"(a)(b)\2\1", "", ["abba"], ["abab"]),
    (r"(a)\12", "", ["a\n"], ["aa2"]),
    (r"(a)\g{1}2\g1\g{-1}", "", ["aa2aa"], ["aa"]),
    (r"(?P<c>[NS])(?P=c)\k<c>\k{c}\k'c'\g{c}", "", ["NNNNNN"], ["NNNNNS"]),
    (r"(?<é1>a)(?'b'b)\k{é1}", "", ["aba"], ["abb"]),
    (r"^(?:(.)\1)+$", "", ["aabb"], ["abb"]),
    (r"^(?:(a)\1|b)$", "", ["aa", "b"], ["ba", "a"]),
    (r"^(a*)b\1$", "", ["b", "aba"], ["ab", "abaa"]),
    (r"(?:(a)(b)(c)(d)(e)(f)(g)(h)(i)(j))\10", "", ["abcdefghijj"], ["abcdefghija0"]),
    (r"^(a|ab)(c|bcd)\1$", "", ["abcda", "aca", "abcab"], ["abcdab", "acb"]),
    # What PostgreSQL's engine would take for more than it is
    (r"a\*\*\*=b", "", ["a***=b"], ["ab"]),
    (r"^[\^\]\-\\[.]$", "", ["^", "]", "-", "\\", "[", "."], ["a"]),
    (r"\\y\.\(\)\{\}\|\?", "", [r"\y.(){}|?"], ["y"]),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "options", "matching", "others"), TABLE)
def test_each_construct_means_what_it_means_to_pcre(
    pattern: str, options: str, matching: list[str], others: list[str]
) -> None:
    pattern = pattern.replace(r"\u212a", "\u212a")
    texts = [*matching, *others]
    expected = [True] * len(matching) + [False] * len(others)
    assert found(translate(pattern, options), texts) == expected
    # The table itself is right.
    oracle = Pcre(pattern, options)
    assert [oracle.matches(text) for text in texts] == expected


INVALID = [
    "(", "(a", "a)", ")", "(?", "(?:a", "(?<n>a", "[", "[]", "[^]", "[a", "[a\\", "[[:alpha:]", "[z-a]", "[b-a]x",
    "[\\d-z]", "[a-\\d]", "[a-[:digit:]]", "[[:foo:]]", "[[:ALPHA:]]", "[[.a.]]", "[[=a=]]", "[:alpha:]", "[\\B]",
    "[\\R]", "[\\N]", "[\\u0041]", "*a", "+", "?", "{1}", "a**", "a{1}{2}", "a+?*", "(*a)", "a|*", "(?i)*", "^*", "\\b+",
    "$?", "x{2,1}", "x{65536}", "x{99999999999999999999}", "a\\", "\\u0041", "\\U", "\\i", "\\y", "\\m", "\\q", "\\L",
    "\\x{}", "\\x{110000}", "\\x{d800}", "\\x{41", "\\x{4g}", "\\x{99999999999999999999}", "\\o{9}", "\\o", "\\N{name}",
    "\\N{U+d800}", "\\c", "\\cé", "(?P<n a)", "(?P<>a)", "(?<1>a)", "(?<n>a)(?<n>b)", "(?<a-b>x)", "(?P", "(?Px)",
    f"(?<{'n' * 33}>a)", "\\1", "\\8", "\\99", "(a)\\2", "(a)\\g{2}", "\\g", "\\g{}", "(a)\\g{1", "\\g{-1}", "\\k",
    "\\k<n>", "(?P=n)", "(?z)", "(?iz:a)", "(?--i)", "(?^-i)", "(?q)a.b", "(?b)", "(?c)a", "(?e)a", "(?w)a", "(?t)",
    "(?#", "(?<=a+)b", "(?<=a|b*)c", "(?<!ab(c|de))f", "(?<=\\R)a", "(?<=a\\K)b", "***=abc", "***:a", "(?i",
]  # fmt: skip


@pytest.mark.parametrize("pattern", INVALID)
def test_what_pcre_does_not_compile_is_refused(pattern: str) -> None:
    with pytest.raises(RegexRefused):
        translate(pattern)
    with pytest.raises(DoesNotCompile):
        Pcre(pattern)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"\p{Han}", "Unicode property"),
        (r"[\pL]", "Unicode property"),
        (r"\X", r"\X"),
        (r"(?>a|ab)c", "atomic group"),
        (r"(?:ab)++", "possessive quantifier"),
        (r"(?R)", "recursion"),
        (r"(a(?1)?)", "call of a group"),
        (r"(?<n>a)(?&n)(?P>n)", "call of a group"),
        (r"(a)\g<1>", "call of a group"),
        (r"(a)(?(1)b|c)", "conditional"),
        (r"(?|(a)|(b))", "branch reset"),
        (r"(*UTF)a", "verb"),
        (r"a(*FAIL)", "verb"),
        (r"(?C1)a", "callout"),
        (r"(?J)(?<n>a)", "options J"),
        (r"(?xx)[a b]", "options J and xx"),
        (r"(a)(?=\1)", "lookahead"),
        (r"(?=(a))\1", "in another group"),
        (r"(a|b)*\1", "repeated"),
        (r"(a)?b\1", "optional"),
        (r"(?:(a)|b\1)+", "alternative"),
        (r"(?:[ab]|(.))\1", "alternative"),
        (r"(a(b))\2", "another group"),
        (r"(a|$)\1", "anchors"),
        (r"(a?)(?:b|\1){2}", "repetition"),
        (r"(?:(a)\1){300}", "repeated"),
        (r"(?i)(.)\1", "option i"),
        (r"\2(a)(b)", "end before it"),
        (r"(a\1)", "end before it"),
    ],
)
def test_what_postgresql_lacks_is_refused_by_name(pattern: str, name: str) -> None:
    Pcre(pattern)
    with pytest.raises(RegexRefused, match=re.escape(name)):
        translate(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "a" * 2501,
        "(" * 2000,
        "(" * 1200 + ")" * 1200,
        "(?:" * 101 + ")" * 101,
        "(a{1,250}){1,250}",
        "((a{1,30}){1,30}){1,30}",
        "(" * 90 + "a" + "{2}){2}" * 90,
        "(" * 90 + "a" + "{65535}){65535}" * 90,
        "a{65535}",
        "a?" * 700,
        "(?:a?){1000}",
        "".join(f"[^{chr(0x4E00 + i)}]?" for i in range(200)),
        "".join(chr(0x4E00 + i) for i in range(1500)),
        r"\ba?" * 20,
        r"(?:\ba?){20}",
        r"(?:(?=x)|(?=y)){9}",
        "(?=" * 4 + ")" * 4,
        "a\0b",
        "\ud800",
    ],
    ids=lambda pattern: ascii(pattern[:20]),
)
def test_what_would_grow_too_large_is_refused(pattern: str) -> None:
    with pytest.raises(RegexRefused):
        translate(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?:" + "|".join(f"{i:026}" for i in range(80)) + ")$",
        r"^[^^]*\^.{0,200}\^?$",
        "(?:" * 100 + "a" + ")" * 100,
        "(?:(?:a{1,20}){1,20}b?){3}",
        r"\b\w+\b.*" * 20,
        "(?=.*a)(?=.*b)(?=.*c)(?!.*d)",
        "a?" * 300,
    ],
    ids=lambda pattern: pattern[:20],
)
def test_what_people_may_write_is_not(pattern: str) -> None:
    found(translate(pattern, "i"), ["a" * 100])


@pytest.mark.parametrize("pattern", ["(Secret", "[Secret-a]", r"Secret\p{L}", "(?Secret)", "(?<Secret", "Secret**"])
def test_refusals_do_not_quote_the_pattern(pattern: str) -> None:
    with pytest.raises(RegexRefused) as refused:
        translate(pattern)
    assert "Secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "options", "prefix", "infix"),
    [
        ("", "", None, ""),
        ("abc", "", None, "abc"),
        ("^abc", "", "abc", None),
        (r"\Aabc", "m", "abc", None),
        (r"^a\.b\^c\x41\Q*\E%_", "", "a.b^cA*%_", None),
        ("^(?:ab)c.*", "", "abc", None),
        (".*abc.*", "", None, "abc"),
        ("^", "", None, ""),
        ("^.*", "", None, ""),
        ("山", "", None, "山"),
        ("^1", "i", None, None),
        ("^a", "i", None, None),
        ("^a", "m", None, None),
        ("abc$", "", None, None),
        ("a|b", "", None, None),
        ("^.*a", "", None, None),
        ("(a)", "", None, None),
        ("a^b", "", None, None),
        (r"a\x00", "", None, None),
    ],
)
def test_literals_are_searched_as_such(pattern: str, options: str, prefix: str | None, infix: str | None) -> None:
    regex = translate(pattern, options)
    if (pattern, options) == ("^1", "i"):
        prefix = "1"
    assert (regex.prefix, regex.infix) == (prefix, infix)
    texts = ["", "abc", "xabc", "a.b^cA*%_", "山", "1", "a", "b", "\nabc"]
    oracle = Pcre(pattern, options)
    assert found(regex, texts) == [oracle.matches(text) for text in texts]


def test_case_is_folded_as_pcre_folds_it() -> None:
    """Every character that Python knows another case of."""
    codes = cased(((0, 0x10FFFF),))
    everything = "".join(map(chr, codes))
    assert len(codes) > 2800
    for code in codes:
        oracle = Pcre(rf"\x{{{code:x}}}", "i")
        same = {other for first, last in folded(((code, code),)) for other in range(first, last + 1)}
        assert all(oracle.matches(chr(other)) for other in same)
        assert not oracle.matches("".join(c for c in everything if ord(c) not in same)), hex(code)


# Patterns as people might write them, of characters that are treacherous.
CHARACTERS = "aAbkK\u212asſéÉσςΣß1_-^. \n"


def escaped(character: str) -> str:
    return f"\\{character}" if character in string.punctuation else character


literals = st.sampled_from(CHARACTERS).map(escaped)
class_characters = st.one_of(
    literals,
    st.tuples(*[st.sampled_from(CHARACTERS)] * 2).map(lambda pair: "-".join(escaped(c) for c in sorted(pair))),
    st.sampled_from([r"\d", r"\s", r"\h", r"\x41"]),
)


def bracketed(*items: str) -> st.SearchStrategy[str]:
    members = st.lists(st.one_of(class_characters, st.sampled_from(items)), min_size=1, max_size=3).map("".join)
    return st.tuples(st.sampled_from(["[", "[^"]), members).map(lambda parts: f"{parts[0]}{parts[1]}]")


# Negated and plain ones in the same brackets confuse PCRE 10.42.
classes = bracketed("[:alpha:]", "[:lower:]", "[:punct:]") | bracketed(r"\W", r"\V", r"[:^upper:]")
atoms = st.one_of(
    literals,
    classes,
    st.sampled_from([".", r"\w", r"\W", r"\d", r"\s", r"\S", r"\h", r"\R", r"\N", r"\x6b", r"\x{e9}", r"\Qa.\E", "ab"]),
    st.sampled_from(["^", "$", r"\A", r"\Z", r"\z", r"\b", r"\B", r"\G", r"\1", r"\2", r"\g{-1}", "(?i)", "(?-i)", "(?s)",
                     "(?m)", "(?x) ", "(?#c)", ""]),
)  # fmt: skip
quantifiers = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "*?", "+?", "??", "{1,2}?", "*+", "?+"])
openings = st.sampled_from(
    ["(", "(", "(?:", "(?i:", "(?s-i:", "(?m:", "(?<n>", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?^:"]
)


def larger(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(patterns, min_size=2, max_size=4).map("".join),
        st.lists(patterns, min_size=2, max_size=3).map("|".join),
        st.tuples(openings, patterns).map(lambda parts: f"{parts[0]}{parts[1]})"),
        st.tuples(patterns, quantifiers).map("".join),
        st.tuples(openings, patterns, quantifiers).map(lambda parts: f"{parts[0]}{parts[1]}){parts[2]}"),
    )


patterns = st.recursive(atoms, larger, max_leaves=10)
texts = st.lists(st.text(CHARACTERS + "\r", max_size=8), min_size=6, max_size=6)
options = st.sampled_from(["", "", "i", "m", "s", "x", "im", "is", "imsxu"])


def compare(pattern: str, options: str, texts: list[str]) -> None:
    try:
        regex = translate(pattern, options)
    except RegexRefused:
        return
    try:
        expected = [Pcre(pattern, options).matches(text) for text in texts]
    except TooComplex:
        assume(False)
    assert found(regex, texts) == expected


@settings(max_examples=EXAMPLES)
@given(patterns, options, texts)
def test_patterns_answer_as_in_pcre(pattern: str, options: str, texts: list[str]) -> None:
    compare(pattern, options, texts)


references = st.lists(
    st.sampled_from(
        [*"ab.^$|", "(a)", "(a*)", "(b|ab?)", "(.)", "(", "(?:", ")", ")*", "){2}", r"\1", r"\2", r"\1?", r"(?:\1|b)+",
         "a?", "b*", r"\b", r"\Z", "(?=a)"]
    ),
    max_size=10,
).map("".join)  # fmt: skip


@settings(max_examples=EXAMPLES)
@given(references, st.lists(st.text("ab\n", max_size=6), min_size=10, max_size=10))
def test_references_answer_as_in_pcre(pattern: str, texts: list[str]) -> None:
    compare(pattern, "", texts)


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.sampled_from([*r"()[]{}*+?|\^$.-:=!<>#,'&aAbdwsBQEPkgxnRu0123", "(?", "[^", "\\x{", "[:"]), max_size=14)
    .map("".join)
    # What these mean has changed from one release of PCRE to the next.
    .filter(lambda pattern: "{," not in pattern and not re.search(r"\\[dDwsRhvB](?:\\[EQ])*-|-(?:\\[QE])+\]", pattern)),
    options,
    texts,
)
def test_whatever_is_written_answers_as_in_pcre_or_is_refused(pattern: str, options: str, texts: list[str]) -> None:
    compare(pattern, options, texts)
