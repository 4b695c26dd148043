"""The root of the API and its health."""

from __future__ import annotations

from django.db import connection
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView


class HealthView(APIView):
    """Says that the web server and its database answer; nothing else."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(operation_id="health", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request) -> Response:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return Response({"status": "ok"})


class RootView(APIView):
    """Where everything is."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        names = ["cases", "series", "mylists", "tasks", "projects", "tokens", "login-info", "preferences"]
        names += ["schema", "docs"]
        return Response({name: reverse(name, request=request) for name in names})
