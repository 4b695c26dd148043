"""The body of an export request."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from casestore import ids
from casestore.api.fields import (
    BoundedListField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from exports.services import Wanted

MAX_CASES = 100


class WantedSerializer(StrictSerializer):
    caseId = StrictCharField(max_length=ids.MAX_LENGTH)
    revisionIndex = StrictIntegerField(min_value=-(2**31), max_value=2**31 - 1, required=False)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"caseId": {"type": "string"}, "revisionIndex": {"type": "integer"}},
                "required": ["caseId"],
                "additionalProperties": False,
            },
        ]
    }
)
class WantedField(serializers.Field):
    """A caseId, or `{caseId, revisionIndex?}`."""

    def to_internal_value(self, data: Any) -> Wanted:
        body = WantedSerializer(data={"caseId": data} if isinstance(data, str) else data)
        if not body.is_valid():
            raise serializers.ValidationError(body.errors)
        values = body.validated_data
        return Wanted(values["caseId"], values.get("revisionIndex", -1))

    def to_representation(self, value: Any) -> Any:
        return value


class ExportMhdSerializer(StrictSerializer):
    """As published."""

    caseIds = BoundedListField(child=WantedField(), min_length=1, max_length=MAX_CASES)
    labelPackType = serializers.ChoiceField(choices=["isolated", "combined"], default="isolated")
    mhdLineEnding = serializers.ChoiceField(choices=["lf", "crlf"], default="lf")
    compressionFormat = serializers.ChoiceField(choices=["tgz", "zip"], default="tgz")


# The published options that mean something to a format, and their defaults there.
DEFAULTS: dict[str, dict[str, str]] = {
    "mhd": {"labelPackType": "isolated", "mhdLineEnding": "lf"},
    "nifti": {"labelPackType": "combined"},
    "nrrd": {},
    "dicom-seg": {},
}


class ExportSerializer(StrictSerializer):
    """The published body, whatever the format, and more. An option that means nothing to the format has no effect."""

    caseIds = BoundedListField(child=WantedField(), min_length=1, max_length=MAX_CASES)
    format = serializers.ChoiceField(choices=list(DEFAULTS), default="mhd")
    labelPackType = serializers.ChoiceField(
        choices=["isolated", "combined"],
        required=False,
        help_text="How mhd (default isolated) and nifti (default combined) hold labels; "
        "nrrd and dicom-seg hold those of a series in one file and keep overlapping ones whole.",
    )
    labelValues = serializers.ChoiceField(
        choices=["index", "project"],
        default="index",
        help_text="index: label i is painted as i + 1; project: with its name's value in the project's labelValues.",
    )
    rasterizeShapes = StrictBooleanField(
        default=False, help_text="Cuboids, ellipsoids, rectangles, ellipses and polylines become masks too."
    )
    mhdLineEnding = serializers.ChoiceField(
        choices=["lf", "crlf"], required=False, help_text="Of the headers of mhd; default lf."
    )
    compressionFormat = serializers.ChoiceField(choices=["tgz", "zip"], default="tgz")
    dryRun = StrictBooleanField(
        default=False, help_text="Answers with what would be exported; nothing is, and there is no task."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        defaults = DEFAULTS[attrs["format"]]
        # Left out, what means nothing to the format cannot make another archive of the same export.
        meaningless = {"labelPackType", "mhdLineEnding"} - defaults.keys()
        return defaults | {name: value for name, value in attrs.items() if name not in meaningless}


class PlannedFileSerializer(serializers.Serializer):
    name = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes")


class PlannedOverlapSerializer(serializers.Serializer):
    """Two labels, by their index, and how many voxels they share."""

    label = serializers.IntegerField()  # type: ignore[assignment]  # a field named as a property
    by = serializers.IntegerField()
    voxelsShared = serializers.IntegerField()


class PlannedSeriesSerializer(serializers.Serializer):
    volume = serializers.CharField()
    seriesUid = serializers.CharField()
    warnings = serializers.ListField(child=serializers.CharField())
    labelCount = serializers.IntegerField(help_text="labels that become masks")
    overlaps = PlannedOverlapSerializer(many=True, allow_null=True, help_text="null: they were not counted")


class PlannedCaseSerializer(serializers.Serializer):
    caseId = serializers.CharField()
    folder = serializers.CharField()
    revisionIndex = serializers.IntegerField()
    status = serializers.CharField(help_text="packed or failed")
    reason = serializers.CharField(required=False)
    series = PlannedSeriesSerializer(many=True, required=False)
    files = PlannedFileSerializer(many=True, required=False, help_text="the first thousand of them")
    fileCount = serializers.IntegerField(required=False)
    size = serializers.IntegerField(required=False, help_text="bytes of all files, not compressed")


class PlanSerializer(serializers.Serializer):
    """What an export would hold. Files are looked for and not read through.

    The size of a DICOM SEG is an estimate, and so is that of each segmentation whose overlaps were not counted.
    """

    cases = PlannedCaseSerializer(many=True)
    size = serializers.IntegerField(help_text="bytes of all files, not compressed")
    failed = serializers.IntegerField(help_text="cases that would be left out")
