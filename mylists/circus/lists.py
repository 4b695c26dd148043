"""My lists: what a user's record says of them, and what another collection says is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cases.models import Case, Series
from casestore import clock
from casestore.accounts.models import User
from casestore.errors import BadRequest, CasestoreError
from mylists.circus.checking import Checker
from mylists.circus.importing import Importer, put_record
from mylists.circus.report import Outcome, Place, Report, presentable
from mylists.circus.serializers import ItemsRecord, MyListRecord
from mylists.models import MyList, MyListEditor, MyListItem, ResourceType


@dataclass(frozen=True, slots=True)
class Owned:
    """A list as the record of its owner has it."""

    place: Place
    owner: int
    value: dict[str, Any]
    notes: list[str]


class MyListImporter(Importer):
    """`lists` are those that UserImporter found; `groups` those of the dump by their numbers there."""

    kind = ItemsRecord
    identity = "myListId"

    def __init__(
        self, report: Report, lists: Sequence[tuple[Place, int, dict[str, Any]]], groups: dict[int, int]
    ) -> None:
        super().__init__(report)
        self.groups = groups
        self.owned: dict[str, Owned] = {}
        checker = Checker(MyListRecord, report.unknown)
        for place, owner, item in lists:
            place = Place(f"{place.file} (myLists)", place.line, presentable(item.get("myListId")))
            try:
                value, notes = checker.check(item)
                if self.owned.get(value["myListId"], None) is not None:
                    raise BadRequest("myListId: The dump has two lists with this id.")
            except CasestoreError as error:
                report.refuse(place, str(error))
            else:
                self.owned[value["myListId"]] = Owned(place, owner, value, notes)

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        """The list with its items. One that is here gets the items that it lacks, unless it has changed here since."""
        items = value.get("items", [])
        there = MyList.objects.filter(list_id=value["myListId"]).first()
        owned = self.owned.get(value["myListId"])
        if there is None and owned is None:
            raise BadRequest("myListId: It is the list of no user.")
        if owned is not None:
            notes += owned.notes
        if there is not None and owned is not None and there.owner_id != owned.owner:
            raise BadRequest("myListId: Another user has a list with this id.")
        row = there or self._create(owned, items, notes)  # type: ignore[arg-type]  # one of them is there
        added = _add_items(row, items, notes)
        self.owned.pop(value["myListId"], None)
        if there is None:
            return Outcome.IMPORTED
        return Outcome.CHANGED if added else Outcome.UNCHANGED

    def refused(self, value: dict[str, Any]) -> None:
        self.owned.pop(value["myListId"], None)

    def put_empty(self) -> None:
        """The lists in which nothing is: only their owners' records speak of them."""
        for owned in list(self.owned.values()):
            put_record(self.put, {"myListId": owned.value["myListId"]}, owned.place, [], self.report)

    def _create(self, owned: Owned, items: Sequence[dict[str, Any]], notes: list[str]) -> MyList:
        value = owned.value
        dates = [item["createdAt"] for item in items if item.get("createdAt")]
        created = value.get("createdAt") or min(dates, default=None) or clock.now()
        row = MyList.objects.create(
            list_id=value["myListId"],
            owner_id=owned.owner,
            name=value["name"],
            resource_type=value["resourceType"],
            public=value.get("public", False),
            created_at=created,
            updated_at=max([created, *dates]),
        )
        editors = dict.fromkeys(self._editor(editor, notes) for editor in value.get("editors", ()))
        MyListEditor.objects.bulk_create(
            MyListEditor(my_list=row, user_id=user, group_id=group) for user, group in editors if user or group
        )
        return row

    def _editor(self, editor: dict[str, Any], notes: list[str]) -> tuple[int | None, int | None]:
        """(user, group), of which one is None; both are where there is no such editor."""
        if editor["type"] == "group":
            group = self.groups.get(editor["groupId"])
            if group is None:
                notes.append(f"editors: There is no group {editor['groupId']} in the dump; it is left out.")
            return None, group
        user = User.objects.filter(email__iexact=editor["userEmail"]).values_list("pk", flat=True).first()
        if user is None:
            notes.append("editors: A user is not here, and left out.")
        return user, None


def _add_items(row: MyList, items: Sequence[dict[str, Any]], notes: list[str]) -> int:
    """How many were added."""
    column = "series" if row.resource_type == ResourceType.SERIES else "case"
    wanted: dict[str, datetime] = {}
    for item in items:
        wanted.setdefault(item["resourceId"], item.get("createdAt") or row.created_at)
    found = _locked(row.resource_type, list(wanted))
    missing = len(wanted) - len(found)
    if missing:
        notes.append(f"items: {missing} of {len(wanted)} are not here, and left out.")
    there = set(MyListItem.objects.filter(my_list=row).values_list(f"{column}_id", flat=True))
    new = {name: pk for name, pk in found.items() if pk not in there}
    if new and row.updated_at > max([row.created_at, *wanted.values()]):
        notes.append(f"items: The list has changed here since; {len(new)} that it lacks are left out.")
        return 0
    MyListItem.objects.bulk_create(
        (MyListItem(my_list=row, added_at=wanted[name], **{f"{column}_id": pk}) for name, pk in new.items()),
        batch_size=1000,
    )
    return len(new)


def _locked(resource_type: str, names: Sequence[str]) -> dict[str, int]:
    """Primary keys by published id. The locks keep the cases out of the bin until the list has them."""
    rows: Any = (
        Series.objects.filter(series_uid__in=names)
        if resource_type == ResourceType.SERIES
        else Case.objects.filter(case_id__in=names, deleted_at=None)
    )
    name = "series_uid" if resource_type == ResourceType.SERIES else "case_id"
    held = rows.only("pk", name).order_by("pk").select_for_update(no_key=True, of=("self",))
    return {getattr(row, name): row.pk for row in held}
