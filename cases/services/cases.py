"""Creating cases and appending revisions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from cases.documents import patient_document, revision_document
from cases.image_numbers import PartialVolume
from cases.models import Blob, Case, CaseDocument, Label, LabelType, Project, Revision, RevisionSeries, Series
from cases.services.labels import check_attributes, check_voxel_labels, find_blobs
from cases.services.partial_volumes import Entry, resolve_entries
from casestore import clock
from casestore.accounts.models import User
from casestore.errors import NotFound, PreconditionFailed
from casestore.json_text import dump

FIRST_DESCRIPTION = "Created new case."
FIRST_STATUS = "draft"
# Rows of one statement.
BATCH = 1000


@transaction.atomic
def create_case(*, user: User, project_id: str, series: Sequence[dict[str, Any]], tags: Sequence[str]) -> Case:
    """A case with its first revision. Needs `write` in the project and the series' domain."""
    project = Project.objects.get_for(user, project_id, "write")
    entries = resolve_entries(user=user, series=series)
    now = clock.now()
    case = Case.objects.create(
        project=project,
        tags=list(dict.fromkeys(tags)),
        domains=sorted({entry.series.domain_id for entry in entries}),
        created_at=now,
        updated_at=now,
    )
    revision = Revision(creator=user.email, date=now, description=FIRST_DESCRIPTION, status=FIRST_STATUS, attributes={})
    write_revision(case, revision, entries, {})
    return case


@transaction.atomic
def append_revision(
    *,
    user: User,
    case_id: str,
    description: str,
    attributes: dict[str, Any],
    status: str,
    series: Sequence[dict[str, Any]],
    expected: Collection[int] | None = None,
) -> Revision:
    """Appends to the case's history. The lock on the case's row puts simultaneous writers in an order.

    PreconditionFailed where the case's version is none of those `expected`.
    """
    case = lock_case(user=user, case_id=case_id, role="write")
    check_version(case, expected)
    entries = resolve_entries(user=user, series=series, domains=case.domains, previous=_latest_volumes(case))
    blobs = find_blobs(user=user, case=case, entries=entries)
    check_voxel_labels(entries, blobs)
    check_attributes(case.project, attributes, entries)
    case.touch()
    revision = Revision(
        creator=user.email, date=case.updated_at, description=description, status=status, attributes=attributes
    )
    write_revision(case, revision, entries, blobs)
    return revision


def lock_case(*, user: User, case_id: str, role: str) -> Case:
    """The case as it now is, its row held until the transaction ends. Raises what `get_for` raises.

    Whoever holds rows of cases and lists together takes those of cases first, in the order of their primary keys.
    """
    visible = Case.objects.get_for(user, case_id, role)
    # It may have gone to the bin while we waited for the row.
    rows = Case.objects.filter(pk=visible.pk, deleted_at=None)
    case = rows.select_for_update(of=("self",)).select_related("project").first()
    if case is None:
        raise NotFound("There is no such case.")
    return case


def check_version(case: Case, expected: Collection[int] | None) -> None:
    """Of a case whose row is held: PreconditionFailed where its version is none of those `expected`."""
    if expected is not None and case.version not in expected:
        raise PreconditionFailed("The case has changed since: read it again.")


def _latest_volumes(case: Case) -> dict[str, PartialVolume]:
    rows = RevisionSeries.objects.filter(revision=case.latest_revision_id).order_by("-position")
    values = rows.values_list("series__series_uid", "start", "end", "delta")
    return {uid: PartialVolume(start, end, delta) for uid, start, end, delta in values}


@dataclass(frozen=True, slots=True)
class Draft:
    """A revision that is ready to be written, without its case and index; `blobs` are those its labels name."""

    revision: Revision
    entries: Sequence[Entry]
    blobs: dict[str, Blob]


def write_revision(case: Case, revision: Revision, entries: Sequence[Entry], blobs: dict[str, Blob]) -> None:
    write_revisions(case, [Draft(revision, entries, blobs)])


def write_revisions(case: Case, drafts: Sequence[Draft]) -> None:
    """Appends the revisions, one or more, and writes everything on the case that follows from them.

    A few statements, however many they are. The caller holds the case's row.
    """
    first = not case.revision_count
    for index, draft in enumerate(drafts, case.revision_count):
        draft.revision.case, draft.revision.index = case, index
    Revision.objects.bulk_create(draft.revision for draft in drafts)
    groups = [[_row(draft, k, entry) for k, entry in enumerate(draft.entries)] for draft in drafts]
    RevisionSeries.objects.bulk_create((row for rows in groups for row in rows), batch_size=BATCH)
    labels = [
        [
            [_label(row, k, label, draft.blobs) for k, label in enumerate(entry.labels)]
            for row, entry in zip(rows, draft.entries, strict=True)
        ]
        for rows, draft in zip(groups, drafts, strict=True)
    ]
    Label.objects.bulk_create((x for entries in labels for of_one in entries for x in of_one), batch_size=BATCH)

    latest = drafts[-1]
    case.revision_count += len(drafts)
    case.latest_revision = latest.revision
    case.updated_at = max([case.updated_at, *(draft.revision.date for draft in drafts)])
    if not case.domains:
        case.domains = sorted({entry.series.domain_id for draft in drafts for entry in draft.entries})
    document = {"latest_revision": dump(revision_document(latest.revision, zip(groups[-1], labels[-1], strict=True)))}
    # Of the newest revision that has one; where none has, it stays.
    for draft in reversed(drafts):
        if source := _with_patient([entry.series for entry in draft.entries]):
            document["patient_info"] = _take_patient(case, source)
            break
    written = {name: text.decode() for name, text in document.items()}
    if first or not CaseDocument.objects.filter(case=case).update(**written):
        CaseDocument.objects.create(case=case, **written)
    case.save()


def _row(draft: Draft, position: int, entry: Entry) -> RevisionSeries:
    volume = entry.volume
    return RevisionSeries(
        revision=draft.revision,
        position=position,
        series=entry.series,
        start=volume.start,
        end=volume.end,
        delta=volume.delta,
    )


def _label(row: RevisionSeries, position: int, label: dict[str, Any], blobs: dict[str, Blob]) -> Label:
    sha1 = label["data"].get("voxels") if label["type"] == LabelType.VOXEL else None
    return Label(
        revision_series=row,
        position=position,
        name=label.get("name"),
        type=label["type"],
        data=label["data"],
        attributes=label.get("attributes"),
        blob=blobs.get(sha1) if isinstance(sha1, str) else None,
    )


def copy_patient(case: Case, series: Sequence[Series]) -> bool:
    """Copies the patient of the first series that has one to the (unsaved) case; where none has, it stays.

    It then is that of the newest earlier revision that had one, for each revision has passed `write_revisions`.
    """
    source = _with_patient(series)
    if source is None:
        return False
    CaseDocument.objects.filter(case=case).update(patient_info=_take_patient(case, source).decode())
    return True


def _with_patient(series: Sequence[Series]) -> Series | None:
    return next((row for row in series if row.has_patient_info), None)


def _take_patient(case: Case, source: Series) -> bytes:
    """Sets the case's columns; returns what its document has of the patient."""
    case.patient_id, case.patient_name = source.patient_id, source.patient_name
    case.patient_age, case.patient_sex = source.patient_age, source.patient_sex
    return dump(patient_document(source))
