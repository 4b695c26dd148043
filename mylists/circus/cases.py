"""Cases with all their revisions. One that is here already only grows, where what it has is how the dump's begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Prefetch

from cases.models import Blob, Case, Label, LabelType, Project, Revision, RevisionSeries, Series
from cases.models.cases import MAX_TAG_LENGTH
from cases.services.blobs import hold_blobs
from cases.services.cases import Draft, write_revisions
from cases.services.partial_volumes import Entry
from casestore.errors import BadRequest
from mylists.circus.importing import Importer
from mylists.circus.report import Outcome, Place, Report
from mylists.circus.revisions import Resolver, equal, voxels_of
from mylists.circus.serializers import CaseRecord


class CaseImporter(Importer):
    kind = CaseRecord
    identity = "caseId"

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.projects: dict[str, Project] = {}

    def prepare(self, values: Sequence[dict[str, Any]]) -> None:
        """A few statements for the whole batch; its cases and blobs that are here are held until it ends."""
        uids = {entry["seriesUid"] for value in values for entry in _entries(value)}
        labels = [label for value in values for entry in _entries(value) for label in entry["labels"]]
        sha1s = {sha1 for label in labels if (sha1 := voxels_of(label)) is not None}
        series = {row.series_uid: row for row in Series.objects.filter(series_uid__in=uids)}
        self.there = {case.case_id: case for case in _held([value["caseId"] for value in values])}
        hold_blobs(sha1s)
        blobs = {blob.sha1: blob for blob in Blob.objects.filter(pk__in=sha1s)}
        self.resolver = Resolver(series, blobs)
        self.written: set[str] = set()

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        project = self._project(value["projectId"])
        case = self._there(value["caseId"])
        stored = [] if case is None else list(case.revisions.all())
        drafts = self.resolver.resolve(value, stored, notes)
        tags = _tags(value["tags"], notes)
        updated = value.get("updatedAt") or drafts[-1].revision.date
        self.written.add(value["caseId"])
        if case is None:
            self._create(value, project, drafts, tags, updated)
            return Outcome.IMPORTED
        if case.project_id != project.pk:
            raise BadRequest("projectId: The case is here already, in another project.")
        return _grow(case, stored, drafts, tags, updated, notes)

    def _project(self, project_id: str) -> Project:
        if project_id not in self.projects:
            project = Project.objects.filter(project_id=project_id).first()
            if project is None:
                raise BadRequest("projectId: There is no such project.")
            self.projects[project_id] = project
        return self.projects[project_id]

    def _there(self, case_id: str) -> Case | None:
        """As it now is: the same batch may have had it before."""
        if case_id in self.written:
            return next(iter(_held([case_id])), None)
        return self.there.get(case_id)

    def _create(
        self,
        value: dict[str, Any],
        project: Project,
        drafts: Sequence[Draft],
        tags: list[str],
        updated: datetime,
    ) -> None:
        case = Case.objects.create(
            case_id=value["caseId"],
            project=project,
            tags=tags,
            domains=value.get("domains", []),
            created_at=value.get("createdAt") or drafts[0].revision.date,
            updated_at=updated,
        )
        write_revisions(case, drafts)
        if case.updated_at != updated:
            # A revision dated later than the change that came last; here and there alike.
            case.updated_at = updated
            case.save(update_fields=["updated_at"])


def _entries(value: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return (entry for revision in value["revisions"] for entry in revision["series"])


def _held(case_ids: Sequence[str]) -> Iterable[Case]:
    """The cases and all that their revisions hold, in a few statements; the cases' rows are locked, in one order."""
    series = RevisionSeries.objects.select_related("series").prefetch_related("labels")
    revisions = Revision.objects.order_by("index").prefetch_related(Prefetch("series_set", series))
    rows = Case.objects.filter(case_id__in=case_ids).order_by("pk").select_for_update(of=("self",))
    return rows.prefetch_related(Prefetch("revisions", revisions))


def _tags(tags: Sequence[str], notes: list[str]) -> list[str]:
    kept = [tag for tag in tags if len(tag) <= MAX_TAG_LENGTH]
    if len(kept) < len(tags):
        notes.append(f"tags: A tag has at most {MAX_TAG_LENGTH} characters; {len(tags) - len(kept)} were left out.")
    return kept


def _grow(
    case: Case,
    stored: Sequence[Revision],
    drafts: Sequence[Draft],
    tags: list[str],
    updated: datetime,
    notes: list[str],
) -> Outcome:
    """Revisions that the dump has beyond those that are here; tags, where the dump's are of a later day."""
    if case.deleted_at is not None:
        notes.append("The case is in the bin here, and stays there as it is.")
        return Outcome.UNCHANGED
    for index, (revision, draft) in enumerate(zip(stored, drafts, strict=False)):
        if not equal(draft, revision):
            raise BadRequest(f"revisions[{index}]: The case is here already, with another such revision; it stays.")
    more = drafts[len(stored) :]
    retagged = tags != case.tags and updated > case.updated_at
    if tags != case.tags and not retagged:
        notes.append("tags: The case is here already and keeps its own tags.")
    mended = _add_voxels(stored, drafts)
    if not (more or retagged):
        return Outcome.CHANGED if mended else Outcome.UNCHANGED
    if retagged:
        case.tags = tags
    case.version += 1
    case.updated_at = max(case.updated_at, updated)
    if more:
        write_revisions(case, more)
    else:
        case.save()
    return Outcome.CHANGED


def _add_voxels(stored: Sequence[Revision], drafts: Sequence[Draft]) -> bool:
    """Gives labels that came without their voxels those that are here now; whether there were any."""
    mended = False
    for revision, draft in zip(stored, drafts, strict=False):
        for row, entry in zip(revision.series_set.all(), draft.entries, strict=True):
            for label in row.labels.all():
                mended |= _add_voxels_of(label, entry, draft.blobs)
    return mended


def _add_voxels_of(label: Label, entry: Entry, blobs: dict[str, Blob]) -> bool:
    sha1 = voxels_of(entry.labels[label.position])
    if label.type != LabelType.VOXEL or label.blob_id is not None or sha1 not in blobs:
        return False
    # The one change of a label that its trigger allows (migration `late_voxels`).
    return bool(Label.objects.filter(pk=label.pk, blob=None).update(blob=blobs[sha1]))
