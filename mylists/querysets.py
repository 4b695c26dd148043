"""Which lists one may see, and which one may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Exists, OuterRef, Q

from casestore.errors import InsufficientPrivilege, NotFound

if TYPE_CHECKING:
    from casestore.accounts.models import User
    from mylists.models import MyList


class MyListQuerySet(models.QuerySet["MyList"]):
    def owned_by(self, user: User) -> MyListQuerySet:
        return self.filter(owner=user)

    def editable_by(self, user: User) -> MyListQuerySet:
        """One's own, and those whose editor one is."""
        return self.filter(Q(owner=user) | _edits(user))

    def visible_to(self, user: User) -> MyListQuerySet:
        """One's own, the public ones, and those whose editor one is."""
        return self.filter(Q(owner=user) | Q(public=True) | _edits(user))

    def get_for(self, user: User, list_id: str) -> MyList:
        """NotFound for an unknown list and one that is somebody else's alone."""
        found = self.visible_to(user).select_related("owner").filter(list_id=list_id).first()
        if found is None:
            raise NotFound("There is no such my list.")
        return found

    def get_owned(self, user: User, list_id: str) -> MyList:
        """InsufficientPrivilege for a list that one sees but does not own."""
        found = self.get_for(user, list_id)
        if found.owner_id != user.pk:
            raise InsufficientPrivilege("Only the owner of this my list may do this.")
        return found


def _edits(user: User) -> Q:
    from mylists.models import MyListEditor

    groups = user.groups.values("pk")
    editors = MyListEditor.objects.filter(Q(user=user) | Q(group__in=groups), my_list=OuterRef("pk"))
    return Q(Exists(editors))
