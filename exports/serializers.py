"""The body of an export request."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from casestore import ids
from casestore.api.fields import StrictCharField, StrictIntegerField, StrictSerializer
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


class ExportSerializer(StrictSerializer):
    caseIds = serializers.ListField(child=WantedField(), min_length=1, max_length=MAX_CASES)
    labelPackType = serializers.ChoiceField(choices=["isolated", "combined"], default="isolated")
    mhdLineEnding = serializers.ChoiceField(choices=["lf", "crlf"], default="lf")
    compressionFormat = serializers.ChoiceField(choices=["tgz", "zip"], default="tgz")
