"""The only doors to rows: each queryset has one method that applies a user's privileges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Exists, OuterRef, Q

from casestore.errors import InsufficientPrivilege, NotFound

if TYPE_CHECKING:
    from cases.models import Blob, Case, Project, Series
    from casestore.accounts.models import User


def _project_ids(user: User, *roles: str) -> models.QuerySet[Any]:
    from cases.models.projects import ProjectRole

    return ProjectRole.objects.filter(group__user=user, role__in=roles).values("project_id")


def _of_readable_cases(user: User) -> Q:
    """Labels of cases that the user may read."""
    case = "revision_series__revision__case__"
    return Q(**{f"{case}project__in": _project_ids(user, "read"), f"{case}deleted_at": None})


class ProjectQuerySet(models.QuerySet["Project"]):
    def visible_to(self, user: User, role: str = "read") -> ProjectQuerySet:
        """The projects in which a group of the user has the role."""
        return self.filter(pk__in=_project_ids(user, role))

    def get_for(self, user: User, project_id: str, role: str = "read") -> Project:
        """NotFound where there is none; InsufficientPrivilege (401, as published) where the role is missing."""
        project = self.visible_to(user, role).filter(project_id=project_id).first()
        if project is not None:
            return project
        if self.filter(project_id=project_id).exists():
            raise InsufficientPrivilege(f'You do not have "{role}" privilege of this project.')
        raise NotFound("There is no such project.")


class SeriesQuerySet(models.QuerySet["Series"]):
    def visible_to(self, user: User) -> SeriesQuerySet:
        """The series of the domains of the user's groups."""
        return self.filter(domain__in=user.domains)

    def get_for(self, user: User, series_uid: str) -> Series:
        """NotFound for an unknown series and one of another domain alike."""
        series = self.visible_to(user).filter(series_uid=series_uid).first()
        if series is None:
            raise NotFound("There is no such series.")
        return series


class CaseQuerySet(models.QuerySet["Case"]):
    def visible_to(self, user: User, role: str = "read") -> CaseQuerySet:
        """The cases of the projects in which the user has the role; those in the bin are nobody's."""
        return self.filter(deleted_at=None, project__in=_project_ids(user, role))

    def in_bin(self, user: User) -> CaseQuerySet:
        """The deleted cases that the user may restore."""
        return self.filter(deleted_at__isnull=False, project__in=_project_ids(user, "moderate"))

    def get_for(self, user: User, case_id: str, role: str = "read", *, related: Sequence[str] = ()) -> Case:
        """NotFound where there is none; InsufficientPrivilege (401, as published) where the role is missing.

        `related` are read in the same statement.
        """
        rows = self.visible_to(user, role).filter(case_id=case_id)
        case = (rows.select_related(*related) if related else rows).first()
        if case is not None:
            return case
        if self.filter(case_id=case_id, deleted_at=None).exists():
            raise InsufficientPrivilege(f'You do not have "{role}" privilege of this project.')
        raise NotFound("There is no such case.")


class BlobQuerySet(models.QuerySet["Blob"]):
    def visible_to(self, user: User) -> BlobQuerySet:
        """Those that the user stored, and those of cases that the user may read."""
        return self._stored_or_used(user, _of_readable_cases(user))

    def usable_by(self, user: User, case: Case) -> BlobQuerySet:
        """Those that a new label of the case may name: the visible ones, and those that the case has already.

        Without this, whoever learns a hash could read the voxels by putting the hash into a case of their own.
        """
        return self._stored_or_used(user, _of_readable_cases(user) | Q(revision_series__revision__case=case))

    def _stored_or_used(self, user: User, use: Q) -> BlobQuerySet:
        from cases.models import BlobUpload, Label

        stored = BlobUpload.objects.filter(blob=OuterRef("pk"), user=user)
        uses = Label.objects.filter(use, blob=OuterRef("pk"))
        return self.filter(Q(Exists(stored)) | Q(Exists(uses)))

    def get_for(self, user: User, sha1: str) -> Blob:
        """NotFound for an unknown blob and one that the user may not read alike."""
        blob = self.visible_to(user).filter(pk=sha1).first()
        if blob is None:
            raise NotFound("There is no such blob.")
        return blob
