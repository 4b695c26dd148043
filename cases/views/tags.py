"""`/api/cases/:caseId/tags` and `/api/cases/tags`."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.models import Case
from cases.models.cases import MAX_TAG_LENGTH, MAX_TAGS
from cases.serializers.cases import tags_field
from cases.serializers.tags import ChangeTagsSerializer
from cases.services import tags as services
from cases.views.etags import etag_for, expected_versions
from casestore.accounts.authentication import user_of
from casestore.api.openapi import ETAG, IF_MATCH, refusals

TAGS = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG_LENGTH},
    "maxItems": MAX_TAGS,
}


class CaseTagsView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_replace_tags",
        parameters=[IF_MATCH, ETAG],
        request={"application/json": TAGS},
        responses={204: None, **refusals(412)},
    )
    def put(self, request: Request, case_id: str) -> Response:
        """Replaces all tags of the case. Needs `write` in its project."""
        user = user_of(request)
        # Whether the case may be written at all is told before anything about the body.
        Case.objects.get_for(user, case_id, "write")
        tags = tags_field().run_validation(request.data)
        case = services.replace_tags(user=user, case_id=case_id, tags=tags, expected=expected_versions(request))
        return Response(status=204, headers={"ETag": etag_for(user, case)})


class TagsView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="cases_change_tags",
        parameters=[IF_MATCH],
        request=ChangeTagsSerializer,
        responses={204: None, **refusals(404, 412)},
    )
    def patch(self, request: Request) -> Response:
        """Changes the tags of many cases, all or none. Needs `write` in the project of each.

        `If-Match` holds for each of them.
        """
        body = ChangeTagsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        values = body.validated_data
        services.change_tags(
            user=user_of(request),
            case_ids=values["caseIds"],
            operation=values["operation"],
            tags=values["tags"],
            expected=expected_versions(request),
        )
        return Response(status=204)
