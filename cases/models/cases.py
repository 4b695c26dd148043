"""Cases. What is searched and sorted stands on the case's own row; the rest is in revisions."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F

from cases.models.projects import Project
from cases.querysets import CaseQuerySet
from casestore import clock, ids

MAX_TAG_LENGTH = 32
MAX_TAGS = 100
# The least that two dates here can differ by.
MILLISECOND = timedelta(milliseconds=1)
# Cases in the bin are in no index that a search uses.
KEPT = models.Q(deleted_at=None)


class Case(models.Model):
    """The patient columns are copies, written in the transaction that writes the revision they come from."""

    case_id = models.CharField(max_length=ids.MAX_LENGTH, unique=True, default=ids.new_id, db_collation="C")
    project = models.ForeignKey(Project, models.PROTECT, related_name="cases")
    tags = ArrayField(models.CharField(max_length=MAX_TAG_LENGTH, db_collation="C"), default=list, blank=True)
    domains = ArrayField(models.CharField(max_length=ids.MAX_LENGTH, db_collation="C"), default=list, blank=True)
    patient_id = models.CharField(max_length=255, null=True, db_collation="C")  # noqa: DJ001  null: unknown
    patient_name = models.CharField(max_length=1024, null=True, db_collation="C")  # noqa: DJ001
    patient_age = models.FloatField(null=True)
    patient_sex = models.CharField(max_length=1, null=True, db_collation="C")  # noqa: DJ001
    revision_count = models.PositiveIntegerField(default=0)
    latest_revision = models.OneToOneField(
        "cases.Revision", models.SET_NULL, null=True, editable=False, related_name="+"
    )
    version = models.PositiveBigIntegerField(default=1, help_text="grows with every change; the ETag")
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)
    deleted_at = models.DateTimeField(null=True, editable=False, help_text="in the bin since")
    deleted_by = models.CharField(max_length=254, blank=True, editable=False)

    objects = CaseQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "-case_id"], include=["project"], condition=KEPT, name="case_newest"),
            models.Index(
                fields=["project", "-created_at", "-case_id"],
                include=["patient_age", "patient_sex"],
                condition=KEPT,
                name="case_newest_in_project",
            ),
            models.Index(fields=["-updated_at", "-case_id"], condition=KEPT, name="case_updated"),
            models.Index(fields=["patient_id", "-created_at"], condition=KEPT, name="case_patient_id"),
            # In the order of a search, where the missing comes first; backwards it comes last.
            models.Index(
                F("patient_name").asc(nulls_first=True),
                F("case_id"),
                include=["project"],
                condition=KEPT,
                name="case_patient_name",
            ),
            models.Index(
                F("patient_age").asc(nulls_first=True),
                F("case_id"),
                include=["project"],
                condition=KEPT,
                name="case_patient_age",
            ),
            GinIndex(fields=["tags"], fastupdate=False, name="case_tags"),
            models.Index(fields=["deleted_at"], condition=~KEPT, name="case_bin"),
        ]

    def __str__(self) -> str:
        return self.case_id

    def touch(self) -> None:
        """The next version, later than the one before. The caller holds the row and saves it."""
        self.version += 1
        self.updated_at = max(clock.now(), self.updated_at + MILLISECOND)


class CaseDocument(models.Model):
    """The JSON of the latest revision and of the patient, rendered once when written: lists copy it out.

    Text, not JSONB: it is never searched, keeps the order of the published example, and costs nothing to read.
    """

    case = models.OneToOneField(Case, models.CASCADE, primary_key=True, related_name="document")
    latest_revision = models.TextField()
    patient_info = models.TextField(blank=True, help_text="empty where nothing is known of the patient")

    def __str__(self) -> str:
        return str(self.case_id)
