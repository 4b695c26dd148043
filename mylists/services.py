"""Making and changing my lists.

Locks are taken in one order everywhere: cases or series by primary key, then the list, then its items. Whoever holds
a case's row, as its deletion does, thus knows all lists that it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower

from cases.models import Case, Series
from casestore import clock
from casestore.accounts.models import User
from casestore.errors import BadRequest, NotFound, Problem
from mylists.models import MAX_ITEMS, MyList, MyListEditor, MyListItem, ResourceType

MILLISECOND = timedelta(milliseconds=1)
# Resource type -> the item's column, the column of the published id below it, what an error calls it.
COLUMNS = {
    ResourceType.CASES: ("case", "case_id", "case"),
    ResourceType.SERIES: ("series", "series_uid", "series"),
}


def create_list(*, user: User, name: str, resource_type: str, public: bool = False) -> MyList:
    now = clock.now()
    return MyList.objects.create(
        owner=user, name=name, resource_type=resource_type, public=public, created_at=now, updated_at=now
    )


@transaction.atomic
def update_list(
    *,
    user: User,
    list_id: str,
    name: str | None = None,
    public: bool | None = None,
    editors: Sequence[dict[str, Any]] | None = None,
) -> None:
    """Owner only. What is None stays; `editors`, as the API takes them, take the place of those that were there."""
    row = _lock(MyList.objects.get_for(user, list_id, "own"))
    wanted = {"name": name, "public": public}
    changes = {field: value for field, value in wanted.items() if value is not None and value != getattr(row, field)}
    changed = editors is not None and _replace_editors(row, editors)
    if changes or changed:
        MyList.objects.filter(pk=row.pk).update(**changes, updated_at=clock.now())


@transaction.atomic
def delete_list(*, user: User, list_id: str) -> None:
    """Owner only."""
    # Locked before its items are looked for: one that somebody adds meanwhile would be left without a list.
    _lock(MyList.objects.get_for(user, list_id, "own")).delete()


@transaction.atomic
def add_items(*, user: User, list_id: str, resource_ids: Sequence[str]) -> int:
    """How many were not there yet. Owner and editors; each case or series must be visible to the user.

    As if they were added one after another, in the given order. BadRequest, and nothing added, for an unknown one or
    where the list would become too long.
    """
    found = MyList.objects.get_for(user, list_id, "edit")
    wanted = _lock_resources(user, found.resource_type, resource_ids)
    row = _lock(found)
    column, _, _ = COLUMNS[ResourceType(row.resource_type)]
    there = dict(MyListItem.objects.filter(my_list=row).values_list(f"{column}_id", "added_at"))
    new = [pk for pk in wanted if pk not in there]
    if len(there) + len(new) > MAX_ITEMS:
        raise _refusal("resourceIds", f"A my list holds at most {MAX_ITEMS} items; this one has {len(there)}.")
    if not new:
        return 0
    # Each a millisecond, the least that a date here can differ by, after what was there before it.
    now = clock.now()
    start = max([now, *(moment + MILLISECOND for moment in there.values())])
    MyListItem.objects.bulk_create(
        MyListItem(my_list=row, added_at=start + number * MILLISECOND, **{f"{column}_id": pk})
        for number, pk in enumerate(new)
    )
    MyList.objects.filter(pk=row.pk).update(updated_at=now)
    return len(new)


@transaction.atomic
def remove_items(*, user: User, list_id: str, resource_ids: Sequence[str]) -> int:
    """How many were there. Owner and editors, also what they no longer see; ids that are not there are ignored."""
    row = _lock(MyList.objects.get_for(user, list_id, "edit"))
    column, public_id, _ = COLUMNS[ResourceType(row.resource_type)]
    named = {f"{column}__{public_id}__in": set(resource_ids)}
    removed, _ = MyListItem.objects.filter(my_list=row, **named).delete()
    if removed:
        MyList.objects.filter(pk=row.pk).update(updated_at=clock.now())
    return removed


def _lock(found: MyList) -> MyList:
    row = MyList.objects.select_for_update().filter(pk=found.pk).first()
    if row is None:
        raise NotFound("There is no such my list.")
    return row


def _lock_resources(user: User, resource_type: str, resource_ids: Sequence[str]) -> list[int]:
    """Primary keys without repetition, in the given order. Refuses what is absent and what is not the user's alike.

    The locks keep a case out of the bin until the list has it: a deletion then finds it in the list. Rows that merely
    refer to the case meanwhile need not wait for them.
    """
    _, public_id, noun = COLUMNS[ResourceType(resource_type)]
    resources: QuerySet[Any] = (
        Series.objects.visible_to(user) if resource_type == ResourceType.SERIES else Case.objects.visible_to(user)
    )
    rows = (
        resources.filter(**{f"{public_id}__in": set(resource_ids)})
        .only("pk", public_id)
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
    )
    known = {getattr(row, public_id): row.pk for row in rows}
    unknown = [f"resourceIds[{index}]" for index, name in enumerate(resource_ids) if name not in known]
    if unknown:
        message = f"There is no such {noun}."
        raise BadRequest(f"{unknown[0]}: {message}", problems=[Problem(path, message) for path in unknown])
    return list(dict.fromkeys(known[name] for name in resource_ids))


def _replace_editors(row: MyList, editors: Sequence[dict[str, Any]]) -> bool:
    """Whether that changed anything. Repetitions count once."""
    wanted = list(dict.fromkeys(_resolve_editors(editors)))
    there = {(editor.user_id, editor.group_id): editor.pk for editor in MyListEditor.objects.filter(my_list=row)}
    gone = [pk for key, pk in there.items() if key not in wanted]
    new = [key for key in wanted if key not in there]
    MyListEditor.objects.filter(pk__in=gone).delete()
    MyListEditor.objects.bulk_create(
        MyListEditor(my_list=row, user_id=user_id, group_id=group_id) for user_id, group_id in new
    )
    return bool(gone or new)


def _resolve_editors(editors: Sequence[dict[str, Any]]) -> list[tuple[int | None, int | None]]:
    """(user, group) of each, one of them None. BadRequest for unknown ones."""
    emails = [editor["userEmail"].lower() for editor in editors if editor["type"] == "user"]
    numbers = [editor["groupId"] for editor in editors if editor["type"] == "group"]
    users = dict(User.objects.annotate(key=Lower("email")).filter(key__in=emails).values_list("key", "pk"))
    groups = set(Group.objects.filter(pk__in=numbers).values_list("pk", flat=True))
    found: list[tuple[int | None, int | None]] = []
    problems = []
    for index, editor in enumerate(editors):
        if editor["type"] == "user":
            user_id = users.get(editor["userEmail"].lower())
            found.append((user_id, None))
            if user_id is None:
                problems.append(Problem(f"editors[{index}].userEmail", "There is no such user."))
        else:
            found.append((None, editor["groupId"]))
            if editor["groupId"] not in groups:
                problems.append(Problem(f"editors[{index}].groupId", "There is no such group."))
    if problems:
        raise BadRequest(f"{problems[0].path}: {problems[0].message}", problems=problems)
    return found


def _refusal(path: str, message: str) -> BadRequest:
    return BadRequest(f"{path}: {message}", problems=[Problem(path, message)])
