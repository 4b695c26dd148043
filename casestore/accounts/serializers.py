"""How accounts look from outside."""

from __future__ import annotations

from datetime import datetime

from rest_framework import serializers

from casestore import clock
from casestore.accounts.models import AccessToken
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


class PreferencesSerializer(serializers.Serializer):
    """Any members; `personalInfoView` false hides patient information from its owner."""

    personalInfoView = StrictBooleanField(required=False)


class LoginInfoSerializer(serializers.Serializer):
    userEmail = serializers.EmailField(source="email")
    loginId = serializers.CharField(source="login_id")
    description = serializers.CharField()
    preferences = ObjectField()


class LoginInfoFullSerializer(LoginInfoSerializer):
    groups = serializers.ListField(child=serializers.CharField())
    globalPrivileges = serializers.ListField(child=serializers.CharField())
    domains = serializers.ListField(child=serializers.CharField())
