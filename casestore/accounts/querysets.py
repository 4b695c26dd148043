"""Which accounts and tokens one may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.base_user import BaseUserManager
from django.db import models
from django.db.models import Q

if TYPE_CHECKING:
    from casestore.accounts.models import AccessToken, User  # noqa: F401  the first in a type argument


class UserManager(BaseUserManager["User"]):
    """Looks users up without regard to the case of the e-mail address."""

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)

    def by_login(self, login: str) -> User | None:
        """The user with this e-mail address or login id; the address wins where one is somebody else's login id."""
        found = sorted(
            self.filter(Q(email__iexact=login) | Q(login_id=login))[:2],
            key=lambda user: user.email.lower() != login.lower(),
        )
        return found[0] if found else None

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email, is_staff=True, is_superuser=True, **fields)
        user.set_password(password)
        user.save()
        return user


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    def visible_to(self, user: User) -> AccessTokenQuerySet:
        """One's own only."""
        return self.filter(user=user)
