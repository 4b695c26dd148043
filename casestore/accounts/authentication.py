"""`Authorization: Bearer <token>` (RFC 6750)."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.request import Request

from casestore.accounts.models import AccessToken, User
from casestore.accounts.services import find_token


def user_of(request: Request) -> User:
    """The user of a request that passed authentication; nobody else gets past here."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user


class BearerAuthentication(BaseAuthentication):
    """A wrong token is refused even where a session would do: the client meant the token."""

    def authenticate(self, request: Request) -> tuple[User, AccessToken] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        row = find_token(token.strip())
        if row is None:
            raise AuthenticationFailed("The access token is unknown, expired or of a disabled user.")
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
