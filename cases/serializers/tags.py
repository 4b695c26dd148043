"""The body that changes the tags of many cases."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from cases.models.cases import MAX_TAG_LENGTH
from cases.services.tags import OPERATIONS
from casestore import ids
from casestore.api.fields import BoundedListField, StrictCharField, StrictSerializer


class ChangeTagsSerializer(StrictSerializer):
    """`add` puts what is not there at the end, `remove` takes away, `set` replaces; the order is kept."""

    operation = serializers.ChoiceField(choices=list(OPERATIONS))
    tags = BoundedListField(child=StrictCharField(max_length=MAX_TAG_LENGTH), max_length=10)
    caseIds = BoundedListField(child=StrictCharField(max_length=ids.MAX_LENGTH), min_length=1, max_length=1000)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs["tags"] and attrs["operation"] != "set":
            raise serializers.ValidationError({"tags": ["There must be at least one tag."]})
        return attrs
