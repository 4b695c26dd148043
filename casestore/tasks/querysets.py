"""Which tasks one may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

from casestore.errors import InsufficientPrivilege, NotFound

if TYPE_CHECKING:
    from casestore.accounts.models import User
    from casestore.tasks.models import Task


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: User) -> TaskQuerySet:
        """One's own only."""
        return self.filter(owner=user)

    def get_for(self, user: User, task_id: str) -> Task:
        """NotFound where there is none, InsufficientPrivilege (401) for somebody else's, as the contract says."""
        task = self.visible_to(user).select_related("owner").filter(task_id=task_id).first()
        if task is not None:
            return task
        if self.filter(task_id=task_id).exists():
            raise InsufficientPrivilege("This task belongs to somebody else.")
        raise NotFound("There is no such task.")
