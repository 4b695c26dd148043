"""How views describe themselves in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

PAGE_PARAMETERS = [
    OpenApiParameter("limit", int, description="Results per page, 1 to 200; default 20."),
    OpenApiParameter("page", int, description="Page number from 1; default 1."),
]
TOTAL_HEADERS = [
    OpenApiParameter(
        "X-Total-Count", int, OpenApiParameter.HEADER, response=[200], description="Results on all pages."
    ),
    OpenApiParameter(
        "Link", str, OpenApiParameter.HEADER, response=[200], description="RFC 8288: first, prev, next, last."
    ),
]
BINARY = OpenApiTypes.BINARY


class ProblemSerializer(serializers.Serializer):
    path = serializers.CharField()
    message = serializers.CharField()


class ErrorSerializer(serializers.Serializer):
    error = serializers.CharField(help_text="A sentence that says what is wrong and where.")
    code = serializers.CharField(help_text="A stable code.")
    validationErrors = ProblemSerializer(many=True, required=False)


class Schema(AutoSchema):
    """Adds the errors that any endpoint may answer with."""

    def _get_response_bodies(self, *args: Any, **options: Any) -> dict[str, Any]:
        bodies = super()._get_response_bodies(*args, **options)
        for status in self.error_statuses():
            if status not in bodies:
                bodies[status] = self._get_response_for_code(ErrorSerializer, status)  # type: ignore[no-untyped-call]
        return bodies

    def error_statuses(self) -> list[str]:
        public = any(type(p).__name__ == "AllowAny" for p in self.view.get_permissions())
        statuses = [] if public else ["401"]
        if self.method in {"POST", "PUT", "PATCH"}:
            statuses += ["400", "413"]
        elif not public:
            statuses += ["400"]
        if "{" in self.path:
            statuses += ["404"]
        return sorted(set(statuses))


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "casestore.accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A permanent access token."}
