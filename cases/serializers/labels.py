"""Labels: one shape of `data` for each type."""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers

from cases.label_colors import COLOR
from cases.models import LabelType
from casestore.api.errors import problems_of
from casestore.api.fields import (
    BoundedListField,
    NumberField,
    ObjectField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from casestore.errors import Problem

MAX_LABELS = 10_000
MAX_POINTS = 100_000
# A volume has less than 2^31 voxels along any axis; the product is checked as a Python integer.
MAX_VOXELS_ALONG = 2**31 - 1

SHA1 = re.compile(r"[0-9a-f]{40}\Z")


class ColorField(StrictCharField):
    def to_internal_value(self, data: Any) -> str:
        color = super().to_internal_value(data)
        if not COLOR.match(color):
            raise serializers.ValidationError("This must be a colour of the form #rrggbb.")
        return color


class Sha1Field(StrictCharField):
    def to_internal_value(self, data: Any) -> str:
        sha1 = super().to_internal_value(data)
        if not SHA1.match(sha1):
            raise serializers.ValidationError("This must be a SHA-1 of 40 lower-case hexadecimal digits.")
        return sha1


def _point(dimensions: int, **options: Any) -> serializers.ListField:
    return BoundedListField(child=NumberField(), min_length=dimensions, max_length=dimensions, **options)


def _voxels(minimum: int) -> serializers.ListField:
    child = StrictIntegerField(min_value=minimum, max_value=MAX_VOXELS_ALONG)
    return BoundedListField(child=child, min_length=3, max_length=3, required=False)


class LabelData(StrictSerializer):
    """What the data of every type may have."""

    color = ColorField(required=False)
    alpha = NumberField(min_value=0, max_value=1, required=False)


class VoxelData(LabelData):
    voxels = Sha1Field(allow_null=True)
    origin = _voxels(0)
    size = _voxels(0)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """An empty label (`voxels` null) may leave out its box or have an empty one."""
        if attrs["voxels"] is None:
            return attrs
        for name in ("origin", "size"):
            if name not in attrs:
                raise serializers.ValidationError({name: ["This is required."]})
        if 0 in attrs["size"]:
            raise serializers.ValidationError({"size": ["Each side must be at least 1."]})
        return attrs


class Box3Data(LabelData):
    min = _point(3)
    max = _point(3)


class Box2Data(LabelData):
    min = _point(2)
    max = _point(2)
    z = NumberField()


class PolylineData(LabelData):
    points = BoundedListField(child=_point(2), min_length=1, max_length=MAX_POINTS)
    z = NumberField()


class PointData(LabelData):
    location = _point(3)


class SectionSerializer(StrictSerializer):
    origin = _point(3)
    xAxis = _point(3)
    yAxis = _point(3)


class RulerData(LabelData):
    section = SectionSerializer()
    start = _point(3)
    end = _point(3)
    labelPosition = _point(3, required=False, allow_null=True)


DATA_BY_TYPE: dict[str, type[LabelData]] = {
    LabelType.VOXEL: VoxelData,
    LabelType.CUBOID: Box3Data,
    LabelType.ELLIPSOID: Box3Data,
    LabelType.RECTANGLE: Box2Data,
    LabelType.ELLIPSE: Box2Data,
    LabelType.POLYLINE: PolylineData,
    LabelType.POINT: PointData,
    LabelType.RULER: RulerData,
}


# Say whether data have the shape that their type asks for.
SHAPES: dict[str, LabelData] = {kind: serializer() for kind, serializer in DATA_BY_TYPE.items()}
LOOKS = frozenset(LabelData().fields)


def place_of(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The members of a label's data that say where it is: not its looks, nor what other servers put there."""
    return {name: data[name] for name in sorted(SHAPES[kind].fields.keys() - LOOKS) if name in data}


def place_problem(kind: str, place: dict[str, Any]) -> Problem | None:
    """The first thing that is wrong with what `place_of` gives: the data of imported labels may be anything."""
    try:
        SHAPES[kind].run_validation(place)
    except serializers.ValidationError as error:
        problem = next(problems_of(error.detail))
        return Problem(f"data.{problem.path}", problem.message)
    return None


class LabelSerializer(StrictSerializer):
    name = StrictCharField(max_length=255, allow_blank=True, required=False)
    type = serializers.ChoiceField(choices=LabelType.choices)
    data = ObjectField(help_text="Depends on the type.")  # type: ignore[assignment]  # a field named as a property
    attributes = ObjectField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        data = DATA_BY_TYPE[attrs["type"]](data=attrs["data"])
        if not data.is_valid():
            raise serializers.ValidationError({"data": data.errors})
        # As it was sent: what passed is kept, not what the serializer made of it.
        return attrs
