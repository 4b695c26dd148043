"""Models in the admin, to look at. Cases and revisions change through the API, which checks and records."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from cases.models import Blob, Case, Project, ProjectRole, Revision, Series
from cases.services.bin import restore_case
from casestore.accounts.models import User
from casestore.errors import NotFound

# Who may see patient information is decided for each project by the API; the admin shows none.
PATIENT_FIELDS = (
    "patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_age",
    "patient_sex",
    "patient_size",
    "patient_weight",
)


class ReadOnlyAdmin(admin.ModelAdmin):
    """Lists and shows, never changes."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # By its address the admin filters by any column: whom a filter finds would tell what is not shown.
        hidden = lookup.split("__", maxsplit=1)[0] in PATIENT_FIELDS
        return not hidden and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ProjectRoleInline(admin.TabularInline):
    model = ProjectRole
    extra = 0


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):
    list_display = ("name", "project_id", "updated_at")
    search_fields = ("name", "project_id")
    readonly_fields = ("project_id", "created_at", "updated_at")
    inlines = (ProjectRoleInline,)


@admin.register(Series)
class SeriesAdmin(ReadOnlyAdmin):
    list_display = ("series_uid", "modality", "series_description", "domain", "images", "created_at")
    list_filter = ("modality", "domain")
    exclude = PATIENT_FIELDS
    search_fields = ("series_uid", "series_description")


@admin.register(Case)
class CaseAdmin(ReadOnlyAdmin):
    list_display = ("case_id", "project", "revision_count", "tags", "created_at", "updated_at", "deleted_at")
    list_filter = ("project", ("deleted_at", admin.EmptyFieldListFilter))
    exclude = PATIENT_FIELDS
    list_select_related = ("project",)
    search_fields = ("case_id",)
    actions = ("restore",)

    @admin.action(description="Restore from the bin")
    def restore(self, request: HttpRequest, cases: QuerySet[Case]) -> None:
        """As through the API: where the user moderates the case's project."""
        for case in cases:
            try:
                restore_case(user=cast(User, request.user), case_id=case.case_id)
            except NotFound:
                self.message_user(request, f"{case}: not in the bin, or not yours to restore.", messages.WARNING)


@admin.register(Revision)
class RevisionAdmin(ReadOnlyAdmin):
    list_display = ("case", "index", "creator", "status", "date")
    list_select_related = ("case",)
    search_fields = ("case__case_id", "creator")


@admin.register(Blob)
class BlobAdmin(ReadOnlyAdmin):
    list_display = ("sha1", "size", "created_at")
    search_fields = ("sha1",)
