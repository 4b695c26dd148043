"""Creating cases and appending revisions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db import transaction

from cases.documents import patient_document, revision_document
from cases.image_numbers import PartialVolume
from cases.models import Blob, Case, CaseDocument, Label, LabelType, Project, Revision, RevisionSeries, Series
from cases.services.labels import check_attributes, check_voxel_labels, find_blobs
from cases.services.partial_volumes import Entry, resolve_entries
from casestore import clock
from casestore.accounts.models import User
from casestore.api.renderers import dump
from casestore.errors import NotFound, PreconditionFailed

FIRST_DESCRIPTION = "Created new case."
FIRST_STATUS = "draft"


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
    revision = Revision(
        creator=user.email, date=clock.now(), description=description, status=status, attributes=attributes
    )
    case.touch()
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


def write_revision(case: Case, revision: Revision, entries: Sequence[Entry], blobs: dict[str, Blob]) -> None:
    """Writes the revision and everything on the case that follows from it. The caller holds the case's row."""
    revision.case, revision.index = case, case.revision_count
    revision.save(force_insert=True)
    rows = RevisionSeries.objects.bulk_create(
        RevisionSeries(
            revision=revision,
            position=position,
            series=entry.series,
            start=entry.volume.start,
            end=entry.volume.end,
            delta=entry.volume.delta,
        )
        for position, entry in enumerate(entries)
    )
    labels = [
        [_label(row, k, label, blobs) for k, label in enumerate(entry.labels)]
        for row, entry in zip(rows, entries, strict=True)
    ]
    Label.objects.bulk_create((label for group in labels for label in group), batch_size=1000)

    case.revision_count += 1
    case.latest_revision = revision
    case.updated_at = max(revision.date, case.updated_at)
    if not case.domains:
        case.domains = sorted({entry.series.domain_id for entry in entries})
    document = dump(revision_document(revision, zip(rows, labels, strict=True))).decode()
    CaseDocument.objects.update_or_create(case=case, defaults={"latest_revision": document})
    copy_patient(case, [entry.series for entry in entries])
    case.save()


def _label(row: RevisionSeries, position: int, label: dict[str, Any], blobs: dict[str, Blob]) -> Label:
    return Label(
        revision_series=row,
        position=position,
        name=label.get("name"),
        type=label["type"],
        data=label["data"],
        attributes=label.get("attributes"),
        blob=blobs.get(label["data"].get("voxels")) if label["type"] == LabelType.VOXEL else None,
    )


def copy_patient(case: Case, series: Sequence[Series]) -> bool:
    """Copies the patient of the first series that has one to the (unsaved) case; where none has, it stays.

    It then is that of the newest earlier revision that had one, for each revision has passed here.
    """
    source = next((row for row in series if row.has_patient_info), None)
    if source is None:
        return False
    case.patient_id, case.patient_name = source.patient_id, source.patient_name
    case.patient_age, case.patient_sex = source.patient_age, source.patient_sex
    CaseDocument.objects.filter(case=case).update(patient_info=dump(patient_document(source)).decode())
    return True
