"""Passwords of users who come from another server keep working, until their next login stores them as ours are."""

from __future__ import annotations

import re

import bcrypt
from django.contrib.auth.hashers import BCryptPasswordHasher

# The cost doubles with each step; 16 takes some seconds.
MAX_COST = 16
_HASH = re.compile(r"(\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21})([./A-Za-z0-9])([./A-Za-z0-9]{31})")
_DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# What bcrypt looks at: PHP, Node and others drop the rest without a word, the library here refuses it.
_LENGTH = 72


class BcryptHasher(BCryptPasswordHasher):
    """bcrypt as other servers use it: `$2a$`, `$2b$` and `$2y$`, of the first 72 bytes of the password."""

    def encode(self, password: str, salt: str | bytes) -> str:
        looked_at = password.encode()[:_LENGTH]
        raw = salt.encode("ascii") if isinstance(salt, str) else salt
        return f"{self.algorithm}${bcrypt.hashpw(looked_at, raw).decode('ascii')}"


def from_bcrypt(text: str) -> str | None:
    """What the password column holds for this bcrypt hash; None where it is none, or costs too much to check."""
    match = _HASH.fullmatch(text)
    if match is None or not 4 <= int(match[2]) <= MAX_COST:
        return None
    # A salt is 128 bits in 22 digits of 6. Others ignore the four that are left over, the library here wants them 0.
    last = _DIGITS[_DIGITS.index(match[3]) & 0b110000]
    return f"{BcryptHasher.algorithm}${match[1]}{last}{match[4]}"
