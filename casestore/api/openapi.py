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
SEARCH_PARAMETERS = [
    *PAGE_PARAMETERS,
    OpenApiParameter(
        "cursor",
        str,
        description=(
            "Empty: start a walk through the whole result, whose pages all cost the same; `Link` with rel=next leads"
            " on. Without X-Total-Count, and not together with `page`."
        ),
    ),
    OpenApiParameter("fields", str, description="Members of the results to return, with commas between; default all."),
    OpenApiParameter(
        "envelope",
        str,
        enum=["0", "1"],
        description="1: the body is {items, totalItems, page} (with a cursor: {items}), as the original server has it.",
    ),
]
TOTAL_HEADERS = [
    OpenApiParameter(
        "X-Total-Count", int, OpenApiParameter.HEADER, response=[200], description="Results on all pages."
    ),
    OpenApiParameter(
        "Link", str, OpenApiParameter.HEADER, response=[200], description="RFC 8288: first, prev, next, last."
    ),
]
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag that the client last saw; 412 when the case has changed since. `*` or a list of them.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="304 when the case still has one of these ETags."
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    OpenApiParameter.HEADER,
    description=(
        "The same key with the same body is answered with the first answer, for a day, and the header"
        " `Idempotent-Replayed: true`; with another body it is 422."
    ),
)
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201, 204], description="The version of the case."
)
LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[201], description="The address of what was made."
)
BINARY = OpenApiTypes.BINARY


class ProblemSerializer(serializers.Serializer):
    path = serializers.CharField()
    message = serializers.CharField()


class ErrorSerializer(serializers.Serializer):
    error = serializers.CharField(help_text="A sentence that says what is wrong and where.")
    code = serializers.CharField(help_text="A stable code.")
    validationErrors = ProblemSerializer(many=True, required=False)


def refusals(*statuses: int) -> dict[int, type[ErrorSerializer]]:
    """Errors that not every endpoint has, for `responses` of `extend_schema`."""
    return dict.fromkeys(statuses, ErrorSerializer)


class Schema(AutoSchema):
    """Adds the errors that any endpoint may answer with."""

    def _get_response_bodies(self, *args: Any, **options: Any) -> dict[str, Any]:
        bodies = super()._get_response_bodies(*args, **options)
        for status in self.error_statuses():
            if status not in bodies:
                bodies[status] = self._get_response_for_code(ErrorSerializer, status)
        return bodies

    def _get_response_for_code(self, serializer: Any, status_code: Any, *args: Any, **options: Any) -> dict[str, Any]:
        response: dict[str, Any] = super()._get_response_for_code(  # type: ignore[no-untyped-call]
            serializer, status_code, *args, **options
        )
        # Searches answer in other shapes when asked to; whatever else their addresses answer is JSON.
        if hasattr(self.view, "search_parameters"):
            content = response.get("content", {})
            stream = content.pop("application/x-ndjson", None)
            if str(status_code) == "200" and stream is not None:
                content["application/json"]["schema"] = _perhaps_enveloped(content["application/json"]["schema"])
                content["application/x-ndjson"] = {"schema": {"type": "string"}}
        return response

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


def _perhaps_enveloped(items: dict[str, Any]) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0}
    envelope = {
        "type": "object",
        "properties": {"items": items, "totalItems": number, "page": number},
        "required": ["items"],
        "description": "With envelope=1.",
    }
    return {"oneOf": [items, envelope]}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "casestore.accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A permanent access token."}
