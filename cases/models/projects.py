"""Projects and what groups may do in them."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models

from cases.label_dictionary import problem_of
from cases.querysets import ProjectQuerySet
from casestore import clock, ids


class RoleName(models.TextChoices):
    """What the published API calls "Readable Projects", "Writable Projects" and so on."""

    READ = "read"
    WRITE = "write"
    VIEW_PERSONAL_INFO = "viewPersonalInfo"
    MODERATE = "moderate"
    ADD_SERIES = "addSeries"


class Project(models.Model):
    project_id = models.CharField(
        max_length=ids.MAX_LENGTH, unique=True, default=ids.new_id, editable=False, db_collation="C"
    )
    name = models.CharField(max_length=255)
    icon = models.CharField(max_length=64, blank=True)
    description = models.TextField(blank=True)
    window_priority = models.CharField(max_length=64, blank=True)
    window_presets = models.JSONField(default=list, blank=True)
    tags = models.JSONField(default=list, blank=True, help_text="The palette: [{caption, color}…].")
    case_attributes_schema = models.JSONField(default=dict, blank=True, help_text="JSON Schema")
    label_attributes_schema = models.JSONField(default=dict, blank=True, help_text="JSON Schema")
    label_values = models.JSONField(
        default=dict,
        blank=True,
        help_text="The value that a label of a name has in every export that asks for it: {name: 1 to 65535}.",
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name", "project_id"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if problem := problem_of(self.label_values):
            raise ValidationError({"label_values": problem})


class ProjectRole(models.Model):
    group = models.ForeignKey(Group, models.CASCADE, related_name="project_roles")
    project = models.ForeignKey(Project, models.CASCADE, related_name="roles")
    role = models.CharField(max_length=32, choices=RoleName)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "project", "role"], name="project_role_once"),
            models.CheckConstraint(condition=models.Q(role__in=RoleName.values), name="project_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.group}: {self.role} {self.project}"
