"""Users, what their groups may do, and the tokens that speak for them.

Privileges come from groups only and add up. Those of one project (`read`, `write` …) are in `cases`, which knows
projects.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Group, PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from casestore import clock, ids
from casestore.accounts.querysets import AccessTokenQuerySet, UserManager


class GlobalPrivilegeName(models.TextChoices):
    CREATE_PROJECT = "createProject"
    DELETE_PROJECT = "deleteProject"
    MANAGE_SERVER = "manageServer"
    PERSONAL_INFO_VIEW = "personalInfoView"
    DOWNLOAD_VOLUME = "downloadVolume"
    ISSUE_ONETIME = "issueOnetime"


class Domain(models.Model):
    """Where series come from. A user uses only series of their groups' domains."""

    name = models.CharField(max_length=ids.MAX_LENGTH, primary_key=True, db_collation="C")

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class User(AbstractBaseUser, PermissionsMixin):
    """A person or a program. The e-mail address is the identity; the login id is another name to log in with."""

    email = models.EmailField("e-mail", max_length=254, unique=True)
    login_id = models.CharField(max_length=150, unique=True)
    description = models.CharField(max_length=255, blank=True)
    is_active = models.BooleanField("enabled", default=True, help_text="A disabled user is out at once.")
    is_staff = models.BooleanField("may use the admin", default=False)
    preferences = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar = ["login_id"]

    class Meta:
        ordering: ClassVar = ["email"]
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("email"), name="user_email_unique_in_any_case"),
        ]

    def __str__(self) -> str:
        return self.email

    @cached_property
    def privileges(self) -> frozenset[str]:
        """The global privileges of all groups; read once for each request, as the user object is."""
        return frozenset(GlobalPrivilege.objects.filter(group__user=self).values_list("privilege", flat=True))

    @cached_property
    def domains(self) -> frozenset[str]:
        return frozenset(GroupDomain.objects.filter(group__user=self).values_list("domain_id", flat=True))

    def has_privilege(self, privilege: str) -> bool:
        return self.is_active and privilege in self.privileges

    @property
    def wants_patient_info(self) -> bool:
        """Holds the global privilege and has not switched patient information off in the preferences."""
        return self.has_privilege(GlobalPrivilegeName.PERSONAL_INFO_VIEW) and (
            self.preferences.get("personalInfoView") is not False
        )


class GlobalPrivilege(models.Model):
    group = models.ForeignKey(Group, models.CASCADE, related_name="global_privileges")
    privilege = models.CharField(max_length=32, choices=GlobalPrivilegeName)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "privilege"], name="global_privilege_once"),
            models.CheckConstraint(
                condition=models.Q(privilege__in=GlobalPrivilegeName.values), name="global_privilege_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group}: {self.privilege}"


class GroupDomain(models.Model):
    group = models.ForeignKey(Group, models.CASCADE, related_name="group_domains")
    domain = models.ForeignKey(Domain, models.CASCADE)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["group", "domain"], name="group_domain_once")]

    def __str__(self) -> str:
        return f"{self.group}: {self.domain_id}"


class IdempotentAnswer(models.Model):
    """What a POST with an Idempotency-Key was answered, so that its repetition is answered the same."""

    user = models.ForeignKey(User, models.CASCADE)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="SHA-256 of method, address and body")
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=dict)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(default=clock.now, db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return str(self.pk)


class AccessToken(models.Model):
    """A permanent access token. Only its SHA-256 digest is kept: the token is random, 256 bits, so it needs no salt."""

    token_id = models.CharField(max_length=ids.MAX_LENGTH, unique=True, default=ids.new_id, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="access_tokens")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    description = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = AccessTokenQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.token_id
