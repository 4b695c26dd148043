"""My lists in the admin, to look at and to delete. They change through the API, which checks who sees what."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from mylists.models import MyList, MyListEditor


class EditorInline(admin.TabularInline):
    model = MyListEditor
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(MyList)
class MyListAdmin(admin.ModelAdmin):
    """Deletable, because a user cannot be deleted in the admin without their lists."""

    list_display = ("name", "list_id", "owner", "resource_type", "public", "created_at", "updated_at")
    list_filter = ("resource_type", "public")
    list_select_related = ("owner",)
    search_fields = ("name", "list_id", "owner__email")
    inlines = (EditorInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
