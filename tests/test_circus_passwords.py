"""Passwords of the original server, which are bcrypt's."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from casestore.accounts.models import User
from tests.dumps import import_circus, user, write_lines
from tests.test_import_circus import hashed


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_of_a_long_password_bcrypt_looks_at_72_bytes(db: None, tmp_path: Path, kind: str) -> None:
    long = "ü" * 40
    erin = user("erin", password=hashed(long, kind))
    import_circus(write_lines(tmp_path, users=[erin]))
    for password, right in ((long[:35] + "x", False), (long, True)):
        answer = Client().post("/api-auth/login/", {"username": "erin", "password": password})
        assert (answer.status_code == 302) is right


@pytest.mark.parametrize("more", range(16))
def test_the_left_over_bits_of_a_salt_mean_nothing(db: None, tmp_path: Path, more: int) -> None:
    digits = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    right = hashed("a password")
    last = digits[digits.index(right[28]) + more]
    import_circus(write_lines(tmp_path, users=[user("erin", password=right[:28] + last + right[29:])]))
    for password, status in (("another", 200), ("a password", 302)):
        answer = Client().post("/api-auth/login/", {"username": "erin", "password": password})
        assert answer.status_code == status


@pytest.mark.parametrize("password", ["secret", "$2y$31$" + "a" * 53, "$2x$10$" + "a" * 53, "sha1$a$b", "bcrypt$$2y$x"])
def test_what_is_no_bcrypt_hash_lets_nobody_in(db: None, tmp_path: Path, password: str) -> None:
    said = import_circus(write_lines(tmp_path, users=[user("erin", password=password)]))
    assert "users.json:1 erin@example.com: users.password: This is no bcrypt hash" in said
    assert password not in said
    assert not User.objects.get(login_id="erin").has_usable_password()
