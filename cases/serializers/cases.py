"""Bodies of the case endpoints."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cases.image_numbers import PartialVolume
from cases.models.cases import MAX_TAG_LENGTH, MAX_TAGS
from cases.serializers.labels import MAX_LABELS, LabelSerializer
from casestore import ids
from casestore.api.fields import (
    BoundedListField,
    DateField,
    ObjectField,
    SparseMixin,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)

MAX_SERIES = 100
AUTO = "auto"
# Bounded as InstanceNumber is (PS3.5 6.2, VR IS).
MAX_IMAGE_NUMBER = 2**31 - 1


class PartialVolumeSerializer(StrictSerializer):
    start = StrictIntegerField(min_value=1, max_value=MAX_IMAGE_NUMBER)
    end = StrictIntegerField(min_value=1, max_value=MAX_IMAGE_NUMBER)
    delta = StrictIntegerField(min_value=-MAX_IMAGE_NUMBER, max_value=MAX_IMAGE_NUMBER, default=1)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "const": AUTO},
            {
                "type": "object",
                "properties": {
                    "start": {"type": "integer", "minimum": 1},
                    "end": {"type": "integer", "minimum": 1},
                    "delta": {"type": "integer", "default": 1},
                },
                "required": ["start", "end"],
                "additionalProperties": False,
            },
        ]
    }
)
class PartialVolumeField(serializers.Field):
    """`{start, end, delta}` or `"auto"`, which is None here."""

    def to_internal_value(self, data: Any) -> PartialVolume | None:
        if data == AUTO:
            return None
        body = PartialVolumeSerializer(data=data)
        if not body.is_valid():
            raise serializers.ValidationError(body.errors)
        volume = PartialVolume(**body.validated_data)
        try:
            volume.validate()
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return volume

    def to_representation(self, value: Any) -> Any:
        return value


class SeriesEntrySerializer(StrictSerializer):
    seriesUid = StrictCharField(max_length=ids.MAX_LENGTH)
    partialVolumeDescriptor = PartialVolumeField(required=False)


class LabelledSeriesEntrySerializer(SeriesEntrySerializer):
    labels = BoundedListField(child=LabelSerializer(), max_length=MAX_LABELS, default=list)


def tags_field(**options: Any) -> serializers.ListField:
    return BoundedListField(child=StrictCharField(max_length=MAX_TAG_LENGTH), max_length=MAX_TAGS, **options)


class CreateCaseSerializer(StrictSerializer):
    projectId = StrictCharField(max_length=ids.MAX_LENGTH)
    series = BoundedListField(child=SeriesEntrySerializer(), min_length=1, max_length=MAX_SERIES)
    tags = tags_field(default=list)


class CreateRevisionSerializer(StrictSerializer):
    description = StrictCharField(max_length=10_000, allow_blank=True)
    attributes = ObjectField()
    status = StrictCharField(max_length=64)
    series = BoundedListField(child=LabelledSeriesEntrySerializer(), max_length=MAX_SERIES)


class CaseIdSerializer(serializers.Serializer):
    caseId = serializers.CharField()


class RevisionSerializer(serializers.Serializer):
    """A revision as it is read."""

    creator = serializers.EmailField()
    date = DateField()
    description = serializers.CharField()
    attributes = ObjectField()
    status = serializers.CharField()
    series = LabelledSeriesEntrySerializer(many=True)


class PatientInfoSerializer(serializers.Serializer):
    """Members that are not known are left out."""

    patientId = serializers.CharField(required=False)
    patientName = serializers.CharField(required=False)
    birthDate = serializers.CharField(required=False)
    age = serializers.FloatField(required=False)
    sex = serializers.ChoiceField(choices=["M", "F", "O"], required=False)
    size = serializers.FloatField(required=False)
    weight = serializers.FloatField(required=False)


class _CaseSerializer(serializers.Serializer):
    caseId = serializers.CharField()
    projectId = serializers.CharField()
    patientInfo = PatientInfoSerializer(required=False)
    tags = serializers.ListField(child=serializers.CharField())
    domains = serializers.ListField(child=serializers.CharField())
    createdAt = DateField()
    updatedAt = DateField()


class ListedCaseSerializer(SparseMixin, _CaseSerializer):
    latestRevision = RevisionSerializer()


class DeletedCaseSerializer(ListedCaseSerializer):
    deletedAt = DateField(source="deleted_at")
    deletedBy = serializers.EmailField(source="deleted_by")


class CaseSerializer(_CaseSerializer):
    revisions = RevisionSerializer(many=True)
