"""The JSON of cases, revisions, labels and patients, in the order of the published examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cases.models import Case, Label, Revision, RevisionSeries, Series
from casestore import clock


def label_document(label: Label) -> dict[str, Any]:
    """As it was sent: `name` and `attributes` only where they were."""
    document: dict[str, Any] = {} if label.name is None else {"name": label.name}
    document |= {"type": label.type, "data": label.data}
    if label.attributes is not None:
        document["attributes"] = label.attributes
    return document


def revision_document(revision: Revision, entries: Iterable[tuple[RevisionSeries, Iterable[Label]]]) -> dict[str, Any]:
    return {
        "creator": revision.creator,
        "date": clock.iso(revision.date),
        "description": revision.description,
        "attributes": revision.attributes,
        "status": revision.status,
        "series": [
            {
                "seriesUid": entry.series.series_uid,
                "partialVolumeDescriptor": {"start": entry.start, "end": entry.end, "delta": entry.delta},
                "labels": [label_document(label) for label in labels],
            }
            for entry, labels in entries
        ],
    }


def stored_revision_document(revision: Revision) -> dict[str, Any]:
    """Of a revision whose `series_set`, their `series` and `labels` are prefetched."""
    return revision_document(revision, [(entry, entry.labels.all()) for entry in revision.series_set.all()])


def patient_document(series: Series) -> dict[str, Any] | None:
    """`patientInfo`: what is known, unknown members left out; None where nothing is."""
    values = {
        "patientId": series.patient_id,
        "patientName": series.patient_name,
        "birthDate": series.patient_birth_date,
        "age": _whole(series.patient_age),
        "sex": series.patient_sex,
        "size": series.patient_size,
        "weight": series.patient_weight,
    }
    known = {name: value for name, value in values.items() if value is not None}
    return known or None


def _whole(number: float | None) -> float | int | None:
    """45.0 shows as 45: ages are doubles because imported ones may have fractions."""
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else number


def case_document(case: Case, content: dict[str, Any], patient_info: Any) -> dict[str, Any]:
    """`content` is `latestRevision` in a list, `revisions` in a single case. `case.project` must be loaded."""
    document = {"caseId": case.case_id, "projectId": case.project.project_id, **content}
    if patient_info is not None:
        document["patientInfo"] = patient_info
    return document | {
        "tags": case.tags,
        "domains": case.domains,
        "createdAt": clock.iso(case.created_at),
        "updatedAt": clock.iso(case.updated_at),
    }
