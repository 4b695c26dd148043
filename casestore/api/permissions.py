"""Who may call a view at all. Which rows it then sees is the business of the querysets."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class DenyAll(BasePermission):
    """The default: a view that forgot its permission class answers nobody."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False
