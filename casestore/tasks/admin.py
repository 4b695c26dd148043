from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from casestore.tasks.models import Task


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin):
    list_display = ("task_id", "owner", "name", "status", "finished", "total", "created_at", "ended_at")
    list_filter = ("status", "name")
    list_select_related = ("owner",)
    search_fields = ("task_id", "owner__email")
    readonly_fields = [field.name for field in Task._meta.fields]  # noqa: RUF012  the admin declares it as a list

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
