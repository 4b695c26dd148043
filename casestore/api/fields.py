"""Serializer pieces that take exactly what the contract says, without DRF's kind conversions."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from casestore import clock
from casestore.errors import MAX_PROBLEMS


class StrictSerializer(serializers.Serializer):
    """A body whose unknown members are refused: input that would be dropped silently is an error."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [key for key in data if key not in self.fields]
            if unknown:
                raise serializers.ValidationError({key: ["This is not a known member."] for key in unknown[:20]})
        return super().to_internal_value(data)


class SparseMixin:
    """Describes results of which `fields=` may choose some members: none is sure to be there."""

    def get_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().get_fields()  # type: ignore[misc]
        for field in fields.values():
            field.required = False
        return fields


class StrictCharField(serializers.CharField):
    """A JSON string: numbers and booleans are not turned into one, and nothing is trimmed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("This must be a string.")
        return super().to_internal_value(data)


class StrictIntegerField(serializers.IntegerField):
    """A JSON number without a fraction: `5` and `5.0`, not `"5"` and not `true`."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float) or data != math.floor(data):
            raise serializers.ValidationError("This must be a whole number.")
        return int(super().to_internal_value(int(data)))


class BoundedListField(serializers.ListField):
    """A JSON array whose length is checked before its items are; of wrong items the first few are named."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        found: list[Any] = super().to_internal_value(data)
        return found

    def run_child_validation(self, data: Any) -> list[Any]:
        found: list[Any] = []
        wrong: dict[Any, Any] = {}
        for index, item in enumerate(data):
            try:
                found.append(self.child.run_validation(item))
            except serializers.ValidationError as error:
                wrong[index] = error.detail
                if len(wrong) == MAX_PROBLEMS:
                    break
        if wrong:
            raise serializers.ValidationError(wrong)
        return found


@extend_schema_field({"type": "number"})
class NumberField(serializers.Field):
    """A finite JSON number, kept as it came: 1 stays 1 and 1.5 stays 1.5."""

    def __init__(self, *, min_value: float = -1e15, max_value: float = 1e15, **options: Any) -> None:
        super().__init__(**options)
        self.min_value, self.max_value = min_value, max_value

    def to_internal_value(self, data: Any) -> int | float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("This must be a number.")
        if not self.min_value <= data <= self.max_value:
            raise serializers.ValidationError(f"This must lie between {self.min_value:g} and {self.max_value:g}.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class StrictBooleanField(serializers.BooleanField):
    """`true` or `false`, not `"yes"` or 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("This must be true or false.")
        return data


@extend_schema_field({"type": "object", "additionalProperties": True})
class ObjectField(serializers.Field):
    """A JSON object of any shape."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class DateField(serializers.DateTimeField):
    """Out only: ISO 8601 with milliseconds and Z."""

    def to_representation(self, value: datetime) -> str:
        return clock.iso(value)
