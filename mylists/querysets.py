"""Which lists one may see, and which one may change; which of their items one may see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from django.db import models
from django.db.models import Count, Exists, OuterRef, Prefetch, Q

from cases.models import Case, Series
from casestore.errors import InsufficientPrivilege, NotFound

if TYPE_CHECKING:
    from casestore.accounts.models import User
    from mylists.models import MyList, MyListItem  # noqa: F401  the second in a type argument

Access = Literal["see", "edit", "own"]


class MyListQuerySet(models.QuerySet["MyList"]):
    def owned_by(self, user: User) -> MyListQuerySet:
        return self.filter(owner=user)

    def editable_by(self, user: User) -> MyListQuerySet:
        """One's own, and those whose editor one is."""
        return self.filter(Q(owner=user) | _edits(user))

    def visible_to(self, user: User) -> MyListQuerySet:
        """One's own, the public ones, and those whose editor one is."""
        return self.filter(Q(owner=user) | Q(public=True) | _edits(user))

    def shared_with(self, user: User) -> MyListQuerySet:
        """Those of others whose editor one is."""
        return self.exclude(owner=user).filter(_edits(user))

    def public_of_others(self, user: User) -> MyListQuerySet:
        return self.exclude(owner=user).filter(public=True)

    def with_editors(self) -> MyListQuerySet:
        """With what rendering a list reads: its owner and, in the order in which they were named, its editors."""
        from mylists.models import MyListEditor

        editors = MyListEditor.objects.select_related("user").order_by("pk")
        return self.select_related("owner").prefetch_related(Prefetch("editors", editors))

    def get_for(self, user: User, list_id: str, access: Access = "see") -> MyList:
        """NotFound for an unknown list and one that is somebody else's alone.

        InsufficientPrivilege for a list that one sees, but may not edit or does not own where `access` asks for that.
        """
        scopes = {"see": self.visible_to, "edit": self.editable_by, "own": self.owned_by}
        found = scopes[access](user).filter(list_id=list_id).first()
        if found is not None:
            return found
        if access != "see" and self.visible_to(user).filter(list_id=list_id).exists():
            who = "owner" if access == "own" else "owner and the editors"
            raise InsufficientPrivilege(f"Only the {who} of this my list may do this.")
        raise NotFound("There is no such my list.")


class MyListItemQuerySet(models.QuerySet["MyListItem"]):
    def visible_to(self, user: User, resource_type: str) -> MyListItemQuerySet:
        """The items of this type whose case or series the user may see, whoever's list they are in."""
        from mylists.models import ResourceType

        if resource_type == ResourceType.SERIES:
            return self.filter(series__in=Series.objects.visible_to(user))
        return self.filter(case__in=Case.objects.visible_to(user))

    def counts(self, lists: Iterable[MyList]) -> dict[int, int]:
        """Primary key of a list: how many of these items are in it. Empty lists are left out."""
        rows = self.filter(my_list__in=[row.pk for row in lists]).values_list("my_list").annotate(Count("pk"))
        return dict(rows.order_by())


def _edits(user: User) -> Q:
    from mylists.models import MyListEditor

    groups = user.groups.values("pk")
    editors = MyListEditor.objects.filter(Q(user=user) | Q(group__in=groups), my_list=OuterRef("pk"))
    return Q(Exists(editors))
