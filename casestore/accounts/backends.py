"""Password login by e-mail address or login id."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from casestore.accounts.models import User


class EmailOrLoginIdBackend(ModelBackend):
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **other: Any,
    ) -> User | None:
        if username is None or password is None or "\0" in username:
            return None
        user = User.objects.by_login(username)
        if user is None:
            # As long as a wrong password takes, so that timing does not tell which users exist.
            User().set_password(password)
            return None
        return user if user.check_password(password) and self.user_can_authenticate(user) else None
