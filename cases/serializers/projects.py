"""Projects as they are read, and what a user may do in them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cases.label_dictionary import MAX_VALUE
from cases.models import Project, ProjectRole, RoleName
from casestore.accounts.models import User
from casestore.accounts.serializers import LoginInfoFullSerializer
from casestore.api.fields import DateField, ObjectField


class ProjectSerializer(serializers.ModelSerializer):
    projectId = serializers.CharField(source="project_id")
    projectName = serializers.CharField(source="name")
    windowPriority = serializers.CharField(source="window_priority")
    windowPresets = serializers.ListField(child=ObjectField(), source="window_presets")
    tags = serializers.ListField(child=ObjectField())
    caseAttributesSchema = ObjectField(source="case_attributes_schema")
    labelAttributesSchema = ObjectField(source="label_attributes_schema")
    labelValues = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=MAX_VALUE),
        source="label_values",
        help_text='The value of each label name in exports with labelValues "project".',
    )
    createdAt = DateField(source="created_at")
    updatedAt = DateField(source="updated_at")

    class Meta:
        model = Project
        fields = (
            "projectId",
            "projectName",
            "icon",
            "description",
            "windowPriority",
            "windowPresets",
            "tags",
            "caseAttributesSchema",
            "labelAttributesSchema",
            "labelValues",
            "createdAt",
            "updatedAt",
        )


class AccessibleProjectSerializer(serializers.Serializer):
    projectId = serializers.CharField()
    projectName = serializers.CharField()
    roles = serializers.ListField(child=serializers.ChoiceField(choices=RoleName.choices))


class LoginInfoWithProjectsSerializer(LoginInfoFullSerializer):
    """`accessibleProjects` are those in which a group of the user has any role, in the order of their names."""

    accessibleProjects = serializers.SerializerMethodField()

    @extend_schema_field(AccessibleProjectSerializer(many=True))
    def get_accessibleProjects(self, user: User) -> list[dict[str, Any]]:  # noqa: N802  DRF names it so
        rows = ProjectRole.objects.filter(group__user=user).order_by("project__name", "project__project_id")
        found: dict[str, dict[str, Any]] = {}
        for project_id, name, role in rows.values_list("project__project_id", "project__name", "role"):
            entry = found.setdefault(project_id, {"projectId": project_id, "projectName": name, "roles": set()})
            entry["roles"].add(role)
        return [
            {**entry, "roles": [role for role in RoleName.values if role in entry["roles"]]} for entry in found.values()
        ]
