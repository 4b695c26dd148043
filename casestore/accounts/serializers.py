"""How accounts look from outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from casestore import clock
from casestore.accounts.models import AccessToken, User
from casestore.api.fields import DateField, ObjectField, StrictBooleanField, StrictCharField, StrictSerializer


class TokenSerializer(serializers.ModelSerializer):
    tokenId = serializers.CharField(source="token_id")
    createdAt = DateField(source="created_at")
    expiresAt = DateField(source="expires_at", allow_null=True)
    lastUsedAt = DateField(source="last_used_at", allow_null=True)

    class Meta:
        model = AccessToken
        fields = ("tokenId", "description", "createdAt", "expiresAt", "lastUsedAt")


class CreatedTokenSerializer(serializers.Serializer):
    tokenId = serializers.CharField()
    accessToken = serializers.CharField(help_text="Shown once.")


class CreateTokenSerializer(StrictSerializer):
    description = StrictCharField(max_length=255, allow_blank=True, default="")
    expiresAt = serializers.DateTimeField(source="expires_at", allow_null=True, default=None)

    def validate_expiresAt(self, value: datetime | None) -> datetime | None:  # noqa: N802  DRF names it so
        if value is not None and value <= clock.now():
            raise serializers.ValidationError("This lies in the past.")
        return value


# As OpenAPI has it: a serializer cannot say that other members are welcome.
PREFERENCES = {
    "type": "object",
    "description": "Any members; personalInfoView false hides patient information from its owner.",
    "properties": {"personalInfoView": {"type": "boolean"}},
    "additionalProperties": True,
}
PREFERENCES_CHANGES = {
    "type": "object",
    "description": "Members to set; null removes one.",
    "properties": {"personalInfoView": {"type": ["boolean", "null"]}},
    "additionalProperties": True,
}


class PatchPreferencesSerializer(serializers.Serializer):
    """Any members, of which one is known."""

    personalInfoView = StrictBooleanField(required=False, allow_null=True)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        # Whether it is an object at all is checked first.
        known: dict[str, Any] = super().to_internal_value(data)
        return {**data, **known}


class LoginInfoSerializer(serializers.Serializer):
    userEmail = serializers.EmailField(source="email")
    loginId = serializers.CharField(source="login_id")
    description = serializers.CharField()
    preferences = ObjectField()


class GroupSerializer(serializers.Serializer):
    """Its id is what a my list is shared with."""

    groupId = serializers.IntegerField(source="pk")
    groupName = serializers.CharField(source="name")


class LoginInfoFullSerializer(LoginInfoSerializer):
    """What one may do; `cases`, which knows projects, adds theirs."""

    groups = serializers.SerializerMethodField()
    globalPrivileges = serializers.SerializerMethodField()
    domains = serializers.SerializerMethodField()

    @extend_schema_field(GroupSerializer(many=True))
    def get_groups(self, user: User) -> Any:
        return GroupSerializer(user.groups.order_by("name"), many=True).data

    def get_globalPrivileges(self, user: User) -> list[str]:  # noqa: N802  DRF names it so
        return sorted(user.privileges)

    def get_domains(self, user: User) -> list[str]:
        return sorted(user.domains)
