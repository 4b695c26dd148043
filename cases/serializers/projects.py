"""Projects as they are read."""

from __future__ import annotations

from rest_framework import serializers

from cases.models import Project
from casestore.api.fields import DateField, ObjectField


class ProjectSerializer(serializers.ModelSerializer):
    projectId = serializers.CharField(source="project_id")
    projectName = serializers.CharField(source="name")
    windowPriority = serializers.CharField(source="window_priority")
    windowPresets = serializers.ListField(child=ObjectField(), source="window_presets")
    tags = serializers.ListField(child=ObjectField())
    caseAttributesSchema = ObjectField(source="case_attributes_schema")
    labelAttributesSchema = ObjectField(source="label_attributes_schema")
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
            "createdAt",
            "updatedAt",
        )
