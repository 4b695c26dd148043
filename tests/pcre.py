"""The system's PCRE2, called as the original server's database calls it: UTF, no UCP. What it says is right."""

from __future__ import annotations

import ctypes
from functools import cache

import pytest

_LIBRARY = "libpcre2-8.so.0"
# Without its optimisations, some of which were wrong: 10.42 finds no "a" by (?=a)(b*)\1a.
_UTF, _NO_START_OPTIMIZE = 0x80000, 0x10000
_OPTIONS = {"i": 0x8, "m": 0x400, "s": 0x20, "x": 0x80, "u": 0}
_NO_MATCH = -1


class DoesNotCompile(Exception):
    pass


class TooComplex(Exception):
    """It gave up."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        pytest.skip(f"there is no {_LIBRARY} to compare with")
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
    library.pcre2_compile_8.restype = pointer
    library.pcre2_compile_8.argtypes = [
        ctypes.c_char_p, size, number, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(size), pointer
    ]  # fmt: skip
    library.pcre2_match_data_create_from_pattern_8.restype = pointer
    library.pcre2_match_data_create_from_pattern_8.argtypes = [pointer, pointer]
    library.pcre2_match_8.argtypes = [pointer, ctypes.c_char_p, size, size, number, pointer, pointer]
    library.pcre2_match_data_free_8.argtypes = [pointer]
    library.pcre2_code_free_8.argtypes = [pointer]
    return library


class Pcre:
    """A compiled pattern. Raises DoesNotCompile."""

    def __init__(self, pattern: str, options: str = "") -> None:
        self.library = _library()
        flags = _UTF | _NO_START_OPTIMIZE
        for option in options:
            flags |= _OPTIONS[option]
        error, place = ctypes.c_int(), ctypes.c_size_t()
        text = pattern.encode()
        code = self.library.pcre2_compile_8(text, len(text), flags, ctypes.byref(error), ctypes.byref(place), None)
        if not code:
            raise DoesNotCompile(error.value)
        self.code = code
        self.data = self.library.pcre2_match_data_create_from_pattern_8(code, None)

    def __del__(self) -> None:
        if hasattr(self, "data"):
            self.library.pcre2_match_data_free_8(self.data)
            self.library.pcre2_code_free_8(self.code)

    def matches(self, text: str) -> bool:
        """Whether there is a match anywhere. Raises TooComplex."""
        data = text.encode()
        found: int = self.library.pcre2_match_8(self.code, data, len(data), 0, 0, self.data, None)
        if found < _NO_MATCH:
            raise TooComplex(found)
        return found != _NO_MATCH
