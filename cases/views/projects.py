"""`/api/projects` and what a user may do in them."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.models import Project
from cases.serializers.projects import LoginInfoWithProjectsSerializer, ProjectSerializer
from casestore.accounts.authentication import user_of


class ProjectListView(APIView):
    """The projects that the user may read."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="projects_list", responses=ProjectSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(ProjectSerializer(Project.objects.visible_to(user_of(request)), many=True).data)


class ProjectView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="projects_get", responses=ProjectSerializer)
    def get(self, request: Request, project_id: str) -> Response:
        return Response(ProjectSerializer(Project.objects.get_for(user_of(request), project_id)).data)


class LoginInfoFullView(APIView):
    """Who am I, and what may I do. Here and not with the accounts, which know no projects."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="login_info_full", responses=LoginInfoWithProjectsSerializer)
    def get(self, request: Request) -> Response:
        """Who am I: groups, global privileges, domains, and the roles in each project."""
        return Response(LoginInfoWithProjectsSerializer(user_of(request)).data)
