"""Series as the dump describes them; their images come by DICOM files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cases.models import Series
from casestore import clock
from mylists.circus.importing import Importer
from mylists.circus.installation import add_domains, differences
from mylists.circus.report import Outcome, Place
from mylists.circus.serializers import SeriesRecord

FIELDS = {
    "studyUid": "study_uid",
    "width": "width",
    "height": "height",
    "images": "images",
    "seriesDate": "series_date",
    "modality": "modality",
    "seriesDescription": "series_description",
    "bodyPart": "body_part",
    "stationName": "station_name",
    "modelName": "model_name",
    "manufacturer": "manufacturer",
    "parameters": "parameters",
    "domain": "domain_id",
}
PATIENT_FIELDS = {
    "patientId": "patient_id",
    "patientName": "patient_name",
    "birthDate": "patient_birth_date",
    "age": "patient_age",
    "sex": "patient_sex",
    "size": "patient_size",
    "weight": "patient_weight",
}
PUBLISHED = {field: name for name, field in FIELDS.items()} | {
    field: f"patientInfo.{name}" for name, field in PATIENT_FIELDS.items()
}
# What the DICOM files that came since do not replace.
KEPT = {"width", "height", "domain_id"}


class SeriesImporter(Importer):
    kind = SeriesRecord
    identity = "seriesUid"

    def prepare(self, values: Sequence[dict[str, Any]]) -> None:
        add_domains(value["domain"] for value in values)
        uids = [value["seriesUid"] for value in values]
        self.there = {row.series_uid: row for row in Series.objects.filter(series_uid__in=uids)}

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        patient = value.get("patientInfo", {})
        fields = {field: value[name] for name, field in FIELDS.items() if name in value}
        fields |= {field: patient[name] for name, field in PATIENT_FIELDS.items() if name in patient}
        series = self.there.get(value["seriesUid"])
        if series is not None:
            comparable = fields if series.header_number is None else {name: fields[name] for name in KEPT}
            notes += differences(series, comparable, PUBLISHED)
            return Outcome.UNCHANGED
        created = value.get("createdAt") or value.get("updatedAt") or clock.now()
        updated = value.get("updatedAt") or created
        series = Series(series_uid=value["seriesUid"], created_at=created, updated_at=updated, **fields)
        series.save(force_insert=True)
        self.there[series.series_uid] = series
        return Outcome.IMPORTED
