"""The data. Each file holds one aggregate; everything is imported from here."""

from cases.models.blobs import Blob, BlobUpload
from cases.models.cases import Case, CaseDocument
from cases.models.projects import Project, ProjectRole, RoleName
from cases.models.revisions import Label, LabelType, Revision, RevisionSeries
from cases.models.series import Series, SeriesFile, SeriesImage
from cases.models.volumes import StoredVolume

__all__ = [
    "Blob",
    "BlobUpload",
    "Case",
    "CaseDocument",
    "Label",
    "LabelType",
    "Project",
    "ProjectRole",
    "Revision",
    "RevisionSeries",
    "RoleName",
    "Series",
    "SeriesFile",
    "SeriesImage",
    "StoredVolume",
]
