"""Series as they are read."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cases.documents import patient_document
from cases.models import Series
from cases.serializers.cases import PatientInfoSerializer
from casestore.api.fields import DateField, ObjectField, SparseMixin


class GeometrySerializer(serializers.Serializer):
    """Of the whole series in ascending order of image numbers; lengths in mm, axes in DICOM's LPS.

    `direction` is a 3x3 matrix, row by row; its columns are the directions of x, y and z.
    """

    spacing = serializers.ListField(child=serializers.FloatField(), min_length=3, max_length=3)
    origin = serializers.ListField(child=serializers.FloatField(), min_length=3, max_length=3)
    direction = serializers.ListField(child=serializers.FloatField(), min_length=9, max_length=9)
    pixelType = serializers.CharField()
    warnings = serializers.ListField(child=serializers.CharField())


class SeriesSerializer(serializers.ModelSerializer):
    seriesUid = serializers.CharField(source="series_uid")
    studyUid = serializers.CharField(source="study_uid")
    seriesDate = DateField(source="series_date", allow_null=True)
    seriesDescription = serializers.CharField(source="series_description")
    bodyPart = serializers.CharField(source="body_part")
    stationName = serializers.CharField(source="station_name")
    modelName = serializers.CharField(source="model_name")
    patientInfo = serializers.SerializerMethodField()
    parameters = ObjectField()
    domain = serializers.CharField(source="domain_id")
    geometry = serializers.SerializerMethodField()
    createdAt = DateField(source="created_at")
    updatedAt = DateField(source="updated_at")

    class Meta:
        model = Series
        fields = (
            "seriesUid",
            "studyUid",
            "width",
            "height",
            "images",
            "seriesDate",
            "modality",
            "seriesDescription",
            "bodyPart",
            "stationName",
            "modelName",
            "manufacturer",
            "patientInfo",
            "parameters",
            "domain",
            "geometry",
            "createdAt",
            "updatedAt",
        )

    @extend_schema_field(PatientInfoSerializer(required=False))
    def get_patientInfo(self, series: Series) -> dict[str, Any] | None:  # noqa: N802  DRF names it so
        # Deny by default: the view says where this user may see it.
        return patient_document(series) if self.context.get("with_patient_info") else None

    @extend_schema_field(GeometrySerializer(required=False))
    def get_geometry(self, series: Series) -> dict[str, Any]:
        geometry: dict[str, Any] = series.geometry
        return geometry

    def to_representation(self, instance: Series) -> dict[str, Any]:
        data = super().to_representation(instance)
        if data["patientInfo"] is None:
            del data["patientInfo"]
        if not instance.geometry:
            del data["geometry"]
        return data


class ListedSeriesSerializer(SparseMixin, SeriesSerializer):
    """One of a list."""
