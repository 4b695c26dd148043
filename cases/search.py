"""By which keys cases and series are searched. What is not in these tables cannot be."""

from __future__ import annotations

from django.db.models import OuterRef, QuerySet

from cases.models import Label, RevisionSeries
from casestore.search.filtersets import SearchFilterSet, filters_for
from casestore.search.keys import Key, Kind, Relation, table

PATIENT_KEYS = (
    Key("patientInfo.patientId", Kind.STRING, "patient_id", patient=True),
    Key("patientInfo.patientName", Kind.STRING, "patient_name", patient=True),
    Key("patientInfo.age", Kind.NUMBER, "patient_age", patient=True),
    Key("patientInfo.sex", Kind.STRING, "patient_sex", patient=True),
)


def _latest_series() -> QuerySet[RevisionSeries]:
    return RevisionSeries.objects.filter(revision=OuterRef("latest_revision"))


def _latest_labels() -> QuerySet[Label]:
    return Label.objects.filter(revision_series__revision=OuterRef("latest_revision"))


SERIES_OF_A_CASE = Relation(
    table(
        Key("seriesUid", Kind.STRING, "series__series_uid", nullable=False),
        Key("modality", Kind.STRING, "series__modality", nullable=False),
    ),
    _latest_series,
)
LABELS_OF_A_CASE = Relation(
    table(
        Key("name", Kind.STRING, "name"),
        Key("type", Kind.STRING, "type", nullable=False),
        open_keys={"attributes": Key("attributes", Kind.JSON, "attributes")},
    ),
    _latest_labels,
)
CASE_KEYS = table(
    Key("caseId", Kind.STRING, "case_id", nullable=False),
    Key("projectId", Kind.STRING, "project__project_id", nullable=False),
    *PATIENT_KEYS,
    Key("tags", Kind.STRINGS, "tags"),
    Key("createdAt", Kind.DATE, "created_at", nullable=False),
    Key("updatedAt", Kind.DATE, "updated_at", nullable=False),
    Key("revisionCount", Kind.NUMBER, "revision_count", nullable=False),
    Key("latestRevision.status", Kind.STRING, "latest_revision__status"),
    Key("latestRevision.creator", Kind.STRING, "latest_revision__creator"),
    Key("latestRevision.date", Kind.DATE, "latest_revision__date"),
    Key("latestRevision.description", Kind.STRING, "latest_revision__description"),
    open_keys={"latestRevision.attributes": Key("latestRevision.attributes", Kind.JSON, "latest_revision__attributes")},
    latestRevision__series=SERIES_OF_A_CASE,
    latestRevision__labels=LABELS_OF_A_CASE,
)
SERIES_KEYS = table(
    Key("modality", Kind.STRING, "modality", nullable=False),
    Key("seriesUid", Kind.STRING, "series_uid", nullable=False),
    Key("studyUid", Kind.STRING, "study_uid", nullable=False),
    Key("seriesDescription", Kind.STRING, "series_description", nullable=False),
    *PATIENT_KEYS,
    Key("seriesDate", Kind.DATE, "series_date"),
    Key("createdAt", Kind.DATE, "created_at", nullable=False),
)


class CaseFilterSet(SearchFilterSet):
    table = CASE_KEYS
    filter, sort = filters_for(CASE_KEYS)
    unique = "case_id"


class SeriesFilterSet(SearchFilterSet):
    table = SERIES_KEYS
    filter, sort = filters_for(SERIES_KEYS)
    unique = "id"
