"""`/api/mylists`: lists of cases or series that somebody keeps together."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from casestore.accounts.authentication import user_of
from casestore.accounts.idempotency import idempotent
from casestore.accounts.models import User
from casestore.api.openapi import IDEMPOTENCY_KEY, LOCATION, PAGE_PARAMETERS, TOTAL_HEADERS, refusals
from casestore.api.pagination import Page, with_navigation
from casestore.errors import BadRequest
from mylists import services
from mylists.models import MyList, MyListItem, ResourceType
from mylists.querysets import MyListQuerySet
from mylists.serializers import (
    ADD,
    ChangedCountSerializer,
    CreateMyListSerializer,
    MyListIdSerializer,
    MyListSerializer,
    MyListWithItemsSerializer,
    PatchItemsSerializer,
    PatchMyListSerializer,
)

SCOPES = ("own", "shared", "public", "all")


class MyListsView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="mylists_list",
        parameters=[
            OpenApiParameter(
                "scope",
                enum=SCOPES,
                default="own",
                description="`own` lists; those of others that one edits (`shared`); `public` ones of others; `all`.",
            ),
            *PAGE_PARAMETERS,
            *TOTAL_HEADERS,
        ],
        responses=MyListSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """One's own lists, newest first. Of their items, those that one may see are counted."""
        user, page = user_of(request), Page.of(request)
        lists = _of_scope(user, request.query_params.get("scope") or "own")
        rows = list(page.slice(lists.with_editors().order_by("-created_at", "-pk")))
        counts: dict[int, int] = {}
        for resource_type in ResourceType.values:
            counts |= MyListItem.objects.visible_to(user, resource_type).counts(rows)
        items = MyListSerializer(rows, many=True, context={"counts": counts}).data
        # Never in the original server's envelope, which is for searches: there too this is an array.
        return with_navigation(Response(items), request, page, lists.count())

    @extend_schema(
        operation_id="mylists_create",
        parameters=[IDEMPOTENCY_KEY, LOCATION],
        request=CreateMyListSerializer,
        responses={201: MyListIdSerializer, **refusals(422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Makes an empty list."""
        body = CreateMyListSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        row = services.create_list(user=user_of(request), **body.validated_data)
        location = reverse("mylist", args=[row.list_id], request=request)
        return Response({"myListId": row.list_id}, status=201, headers={"Location": location})


class MyListView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="mylists_get", responses=MyListWithItemsSerializer)
    def get(self, request: Request, list_id: str) -> Response:
        """One's own list, a public one or one that one edits. `resourceIds` are those that one may see."""
        user = user_of(request)
        row = MyList.objects.visible_to(user).with_editors().get_for(user, list_id)
        name = "series__series_uid" if row.resource_type == ResourceType.SERIES else "case__case_id"
        items = MyListItem.objects.visible_to(user, row.resource_type).filter(my_list=row)
        found = list(items.order_by("-added_at", "-pk").values_list(name, flat=True))
        context = {"counts": {row.pk: len(found)}, "resource_ids": found}
        return Response(MyListWithItemsSerializer(row, context=context).data)

    @extend_schema(operation_id="mylists_patch", request=PatchMyListSerializer, responses={204: None})
    def patch(self, request: Request, list_id: str) -> Response:
        """Renames, publishes or shares the list. Its owner only."""
        # Whether the list may be changed at all is told before anything about the body.
        MyList.objects.get_for(user_of(request), list_id, "own")
        body = PatchMyListSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        services.update_list(user=user_of(request), list_id=list_id, **body.validated_data)
        return Response(status=204)

    @extend_schema(operation_id="mylists_delete", responses={204: None})
    def delete(self, request: Request, list_id: str) -> Response:
        """Deletes the list, not what is in it. Its owner only."""
        services.delete_list(user=user_of(request), list_id=list_id)
        return Response(status=204)


class MyListItemsView(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="mylists_change_items", request=PatchItemsSerializer, responses={200: ChangedCountSerializer}
    )
    def patch(self, request: Request, list_id: str) -> Response:
        """Adds or removes cases or series, all or none. The list's owner and editors.

        What is added must be visible to oneself. What is there already, or named twice, is not counted.
        """
        user = user_of(request)
        MyList.objects.get_for(user, list_id, "edit")
        body = PatchItemsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        change = services.add_items if body.validated_data["operation"] == ADD else services.remove_items
        changed = change(user=user, list_id=list_id, resource_ids=body.validated_data["resourceIds"])
        return Response({"changedCount": changed})


def _of_scope(user: User, scope: str) -> MyListQuerySet:
    lists = MyList.objects.visible_to(user)
    if scope == "own":
        return lists.owned_by(user)
    if scope == "shared":
        return lists.shared_with(user)
    if scope == "public":
        return lists.public_of_others(user)
    if scope == "all":
        return lists
    raise BadRequest(f"scope must be one of {', '.join(SCOPES)}.")
