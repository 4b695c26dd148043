"""Bodies of the my list endpoints."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from casestore import ids
from casestore.api.fields import (
    BoundedListField,
    DateField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from mylists.models import MAX_ITEMS, MyList, MyListEditor, ResourceType

MAX_NAME_LENGTH = 64
MAX_EDITORS = 100
ADD, REMOVE = "add", "remove"
# What the primary key of a group can be: PostgreSQL's integer.
MAX_GROUP_ID = 2**31 - 1


class UserEditorSerializer(StrictSerializer):
    type = serializers.ChoiceField(choices=["user"])
    userEmail = StrictCharField(max_length=254)


class GroupEditorSerializer(StrictSerializer):
    type = serializers.ChoiceField(choices=["group"])
    groupId = StrictIntegerField(min_value=1, max_value=MAX_GROUP_ID)


@extend_schema_field(
    {
        "oneOf": [
            {
                "type": "object",
                "properties": {"type": {"type": "string", "const": "user"}, "userEmail": {"type": "string"}},
                "required": ["type", "userEmail"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "const": "group"},
                    "groupId": {"type": "integer", "minimum": 1, "maximum": MAX_GROUP_ID},
                },
                "required": ["type", "groupId"],
                "additionalProperties": False,
            },
        ]
    }
)
class EditorField(serializers.Field):
    """`{type: "user", userEmail}` or `{type: "group", groupId}`; out of a MyListEditor in the same form."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        of_group = data.get("type") == "group"
        body = GroupEditorSerializer(data=data) if of_group else UserEditorSerializer(data=data)
        if not body.is_valid():
            raise serializers.ValidationError(body.errors)
        editor: dict[str, Any] = body.validated_data
        return editor

    def to_representation(self, value: MyListEditor) -> dict[str, Any]:
        if value.user is not None:
            return {"type": "user", "userEmail": value.user.email}
        return {"type": "group", "groupId": value.group_id}


class MyListSerializer(serializers.ModelSerializer):
    """`itemsCount` counts the items that one may see."""

    # Both this count and the ids below depend on who asks: the view gives them in the context.
    myListId = serializers.CharField(source="list_id")
    userEmail = serializers.EmailField(source="owner.email", help_text="The owner.")
    resourceType = serializers.ChoiceField(source="resource_type", choices=ResourceType.choices)
    public = serializers.BooleanField()
    editors = serializers.ListField(child=EditorField(), source="editors.all")
    itemsCount = serializers.SerializerMethodField()
    createdAt = DateField(source="created_at")
    updatedAt = DateField(source="updated_at")

    class Meta:
        model = MyList
        fields: tuple[str, ...] = (
            "myListId",
            "name",
            "resourceType",
            "public",
            "editors",
            "userEmail",
            "itemsCount",
            "createdAt",
            "updatedAt",
        )

    def get_itemsCount(self, row: MyList) -> int:  # noqa: N802  DRF names it so
        count: int = self.context["counts"].get(row.pk, 0)
        return count


class MyListWithItemsSerializer(MyListSerializer):
    """`resourceIds` are the caseIds or seriesUids that one may see, the last added first."""

    resourceIds = serializers.SerializerMethodField()

    class Meta(MyListSerializer.Meta):
        fields = (*MyListSerializer.Meta.fields, "resourceIds")

    def get_resourceIds(self, row: MyList) -> list[str]:  # noqa: N802
        found: list[str] = self.context["resource_ids"]
        return found


class MyListIdSerializer(serializers.Serializer):
    myListId = serializers.CharField()


class CreateMyListSerializer(StrictSerializer):
    name = StrictCharField(max_length=MAX_NAME_LENGTH)
    resourceType = serializers.ChoiceField(source="resource_type", choices=ResourceType.choices)
    public = StrictBooleanField(default=False)


class PatchMyListSerializer(StrictSerializer):
    """At least one member; `editors` takes the place of all that were there."""

    name = StrictCharField(max_length=MAX_NAME_LENGTH, required=False)
    public = StrictBooleanField(required=False)
    editors = BoundedListField(child=EditorField(), max_length=MAX_EDITORS, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("The body changes nothing; give name, public or editors.")
        return attrs


class PatchItemsSerializer(StrictSerializer):
    operation = serializers.ChoiceField(choices=[ADD, REMOVE])
    resourceIds = BoundedListField(child=StrictCharField(max_length=ids.MAX_LENGTH), min_length=1, max_length=MAX_ITEMS)


class ChangedCountSerializer(serializers.Serializer):
    changedCount = serializers.IntegerField(help_text="How many items came or went.")
