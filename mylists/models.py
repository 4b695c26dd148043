"""My lists and what is in them: real foreign keys, so that what is gone is gone from every list."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from cases.models import Case, Series
from casestore import clock, ids
from mylists.querysets import MyListItemQuerySet, MyListQuerySet

MAX_ITEMS = 1000


class ResourceType(models.TextChoices):
    SERIES = "series"
    CASES = "clinicalCases"


class MyList(models.Model):
    list_id = models.CharField(max_length=ids.MAX_LENGTH, unique=True, default=ids.new_id, db_collation="C")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="my_lists")
    name = models.CharField(max_length=64)
    resource_type = models.CharField(max_length=16, choices=ResourceType)
    public = models.BooleanField(default=False, help_text="every user may see it; of its items each sees their own")
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)

    objects = MyListQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(resource_type__in=ResourceType.values), name="my_list_type_known")
        ]

    def __str__(self) -> str:
        return self.list_id


class MyListItem(models.Model):
    my_list = models.ForeignKey(MyList, models.CASCADE, related_name="items")
    case = models.ForeignKey(Case, models.CASCADE, null=True, related_name="list_items")
    series = models.ForeignKey(Series, models.CASCADE, null=True, related_name="list_items")
    added_at = models.DateTimeField(default=clock.now)

    objects = MyListItemQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["my_list", "case"], name="my_list_case_once"),
            models.UniqueConstraint(fields=["my_list", "series"], name="my_list_series_once"),
            models.CheckConstraint(
                condition=Q(case=None, series__isnull=False) | Q(case__isnull=False, series=None),
                name="my_list_item_case_or_series",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["my_list", "-added_at"], name="my_list_item_newest")]

    def __str__(self) -> str:
        return str(self.pk)


class MyListEditor(models.Model):
    """Who may change a list's items beside its owner: a user, or the users of a group."""

    my_list = models.ForeignKey(MyList, models.CASCADE, related_name="editors")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+")
    group = models.ForeignKey(Group, models.CASCADE, null=True, related_name="+")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["my_list", "user"], name="my_list_editor_once"),
            models.UniqueConstraint(fields=["my_list", "group"], name="my_list_editor_group_once"),
            models.CheckConstraint(
                condition=Q(user=None, group__isnull=False) | Q(user__isnull=False, group=None),
                name="my_list_editor_user_or_group",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)
