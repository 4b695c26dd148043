"""Accounts in the admin: users, groups with their privileges, tokens without their secrets."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.http import HttpRequest

from casestore.accounts.models import AccessToken, Domain, GlobalPrivilege, GroupDomain, User


class UserAddForm(AdminUserCreationForm):
    class Meta:
        model = User
        fields = ("email", "login_id")


class UserEditForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    form = UserEditForm
    add_form = UserAddForm
    ordering = ("email",)
    list_display = ("email", "login_id", "is_active", "is_staff")
    list_filter = ("is_active", "is_staff", "groups")
    search_fields = ("email", "login_id")
    fieldsets = (
        (None, {"fields": ("email", "login_id", "password", "description")}),
        ("Access", {"fields": ("is_active", "groups", "is_staff", "is_superuser", "user_permissions")}),
        ("Other", {"fields": ("preferences", "last_login")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("email", "login_id", "usable_password", "password1", "password2"),
            },
        ),
    )


class GlobalPrivilegeInline(admin.TabularInline):
    model = GlobalPrivilege
    extra = 0


class GroupDomainInline(admin.TabularInline):
    model = GroupDomain
    extra = 0


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin):
    inlines = (GlobalPrivilegeInline, GroupDomainInline)


@admin.register(Domain)
class DomainAdmin(admin.ModelAdmin):
    search_fields = ("name",)


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):
    list_display = ("token_id", "user", "description", "created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "description")
    readonly_fields = ("token_id", "user", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A token made here could not be shown; `manage.py create_token` and the API show theirs once.
        return False
