"""Tokens, the login itself, and the preferences of who it is."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from casestore.accounts import services
from casestore.accounts.authentication import user_of
from casestore.accounts.models import AccessToken
from casestore.accounts.serializers import (
    PREFERENCES,
    PREFERENCES_CHANGES,
    CreatedTokenSerializer,
    CreateTokenSerializer,
    LoginInfoSerializer,
    PatchPreferencesSerializer,
    TokenSerializer,
)
from casestore.errors import NotFound


class TokenListView(APIView):
    """One's own access tokens."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="tokens_list", responses=TokenSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(TokenSerializer(AccessToken.objects.visible_to(user_of(request)), many=True).data)

    @extend_schema(operation_id="tokens_create", request=CreateTokenSerializer, responses={201: CreatedTokenSerializer})
    def post(self, request: Request) -> Response:
        body = CreateTokenSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        row, token = services.create_token(user=user_of(request), **body.validated_data)
        return Response({"tokenId": row.token_id, "accessToken": token}, status=201)


class TokenView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="tokens_delete", responses={204: None})
    def delete(self, request: Request, token_id: str) -> Response:
        deleted, _ = AccessToken.objects.visible_to(user_of(request)).filter(token_id=token_id).delete()
        if not deleted:
            raise NotFound("There is no such access token.")
        return Response(status=204)


class LoginInfoView(APIView):
    """Who am I."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="login_info", responses=LoginInfoSerializer)
    def get(self, request: Request) -> Response:
        return Response(LoginInfoSerializer(user_of(request)).data)


class PreferencesView(APIView):
    """One's own preferences: a JSON object of any members, of at most 10 kB."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="preferences_get", responses={200: PREFERENCES})
    def get(self, request: Request) -> Response:
        return Response(user_of(request).preferences)

    @extend_schema(
        operation_id="preferences_patch",
        request={"application/json": PREFERENCES_CHANGES},
        responses={200: PREFERENCES},
    )
    def patch(self, request: Request) -> Response:
        """Sets the given members, removes those that are null, keeps the others; answers with all of them."""
        body = PatchPreferencesSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(services.change_preferences(user=user_of(request), changes=body.validated_data))
