"""The shape of each collection's records."""

from __future__ import annotations

import sys
from typing import Any

from rest_framework import serializers

from cases.image_numbers import parse_image_numbers
from cases.models import LabelType
from cases.provisioning import SchemaField, TagDeclaration
from cases.serializers.cases import MAX_SERIES
from cases.serializers.labels import MAX_LABELS
from casestore import ids
from casestore.accounts.services import MAX_PREFERENCES
from casestore.api.fields import NumberField, ObjectField, StrictBooleanField, StrictCharField, StrictIntegerField
from casestore.json_text import dump
from mylists.circus.checking import DumpSerializer, MomentField
from mylists.models import ResourceType
from mylists.serializers import MAX_EDITORS, EditorField

MAX_DESCRIPTION = 100_000
MAX_REVISIONS = 10_000
MAX_TAGS = 1000
# Rows or columns of an image (PS3.5 6.2, VR US).
MAX_SIDE = 2**16 - 1
# Of one series, and so of a partial volume. DICOM that comes later works with each of them.
MAX_IMAGES = 100_000
MAX_INTEGER = 2**31 - 1
# No group is larger than an installation; a list that is longer than lists here may be only cannot grow.
MAX_MEMBERS = 100_000


def _id(**options: Any) -> StrictCharField:
    return StrictCharField(max_length=ids.MAX_LENGTH, **options)


def _text(length: int = 255) -> StrictCharField:
    return StrictCharField(max_length=length, allow_blank=True, required=False)


def _names(length: int = 255, maximum: int = 1000) -> serializers.ListField:
    return serializers.ListField(child=StrictCharField(max_length=length), max_length=maximum, required=False)


def _number() -> NumberField:
    return NumberField(min_value=-sys.float_info.max, max_value=sys.float_info.max, required=False)


def _moment(**options: Any) -> MomentField:
    return MomentField(required=False, **options)


class ProjectRecord(DumpSerializer):
    where = "projects"
    needed = frozenset({"projectId"})

    projectId = _id()
    projectName = StrictCharField(max_length=255, required=False)
    icon = _text(64)
    description = _text(MAX_DESCRIPTION)
    windowPriority = _text(64)
    windowPresets = serializers.ListField(child=ObjectField(), max_length=1000, required=False)
    tags = serializers.ListField(child=TagDeclaration(), max_length=1000, required=False)
    caseAttributesSchema = SchemaField(required=False)
    labelAttributesSchema = SchemaField(required=False)
    createdAt = _moment()
    updatedAt = _moment()


class GroupRecord(DumpSerializer):
    """Who may do too little asks for more: a wrong list of rights is left out."""

    where = "groups"
    needed = frozenset({"groupId", "groupName"})

    groupId = StrictIntegerField(min_value=-MAX_INTEGER, max_value=MAX_INTEGER)
    groupName = StrictCharField(max_length=150)
    privileges = _names()
    domains = _names(ids.MAX_LENGTH)
    readProjects = _names(maximum=MAX_MEMBERS)
    writeProjects = _names(maximum=MAX_MEMBERS)
    addSeriesProjects = _names(maximum=MAX_MEMBERS)
    viewPersonalInfoProjects = _names(maximum=MAX_MEMBERS)
    moderateProjects = _names(maximum=MAX_MEMBERS)


class PreferencesField(ObjectField):
    """Any members, of which one is known; as large as preferences may be."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        preferences = super().to_internal_value(data)
        if not isinstance(preferences.get("personalInfoView", True), bool):
            raise serializers.ValidationError("personalInfoView must be true or false.")
        if len(dump(preferences)) > MAX_PREFERENCES:
            raise serializers.ValidationError(f"Preferences are at most {MAX_PREFERENCES} bytes.")
        return preferences


class UserRecord(DumpSerializer):
    where = "users"
    needed = frozenset({"userEmail", "loginId", "loginEnabled"})

    # Some networks have addresses that elsewhere are none.
    userEmail = serializers.RegexField(r"\A[^\s@]+@[^\s@]+\Z", max_length=254)
    loginId = StrictCharField(max_length=150)
    password = _text()
    description = _text()
    groups = serializers.ListField(child=StrictIntegerField(), max_length=1000, required=False)
    preferences = PreferencesField(required=False)
    loginEnabled = StrictBooleanField(required=False)
    # Each is checked by itself.
    myLists = serializers.ListField(child=ObjectField(), max_length=MAX_MEMBERS, required=False)
    createdAt = _moment()


class MyListRecord(DumpSerializer):
    """What a user's record says of one of their lists."""

    where = "users.myLists"
    needed = frozenset({"myListId", "resourceType", "name", "public"})

    myListId = _id()
    resourceType = serializers.ChoiceField(choices=ResourceType.choices)
    name = StrictCharField(max_length=64)
    public = StrictBooleanField(required=False)
    editors = serializers.ListField(child=EditorField(), max_length=MAX_EDITORS, required=False)
    createdAt = _moment()


class ItemRecord(DumpSerializer):
    where = "myLists.items"
    needed = frozenset({"resourceId"})

    resourceId = _id()
    createdAt = _moment()


class ItemsRecord(DumpSerializer):
    """What is in a list."""

    where = "myLists"

    myListId = _id()
    items = serializers.ListField(child=ItemRecord(), max_length=MAX_MEMBERS, required=False)


class TokenRecord(DumpSerializer):
    """What is not needed to speak for a user is not needed here."""

    where = "tokens"
    needed = frozenset({"accessToken", "accessTokenExpiresAt", "userId"})

    accessToken = StrictCharField(max_length=1024)
    accessTokenExpiresAt = _moment()
    userId = StrictCharField(max_length=254)
    permanentTokenId = _id(required=False)
    permanentTokenDescription = _text()
    createdAt = _moment()


class PatientRecord(DumpSerializer):
    """What is wrong in it is unknown, then. Messages never hold a value."""

    where = "series.patientInfo"
    needed = frozenset()

    patientId = _text()
    patientName = _text(1024)
    birthDate = _text(10)
    age = _number()
    sex = _text(1)
    size = _number()
    weight = _number()


class ImagesField(StrictCharField):
    """Image numbers as in `1-100,102`."""

    def to_internal_value(self, data: Any) -> str:
        images = super().to_internal_value(data)
        try:
            ranges = parse_image_numbers(images)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        if sum(last - first + 1 for first, last in ranges) > MAX_IMAGES:
            raise serializers.ValidationError(f"A series has at most {MAX_IMAGES} images.")
        return images


class SeriesRecord(DumpSerializer):
    where = "series"
    needed = frozenset({"seriesUid", "width", "height", "images", "domain"})

    seriesUid = _id()
    studyUid = _text(ids.MAX_LENGTH)
    width = StrictIntegerField(min_value=1, max_value=MAX_SIDE)
    height = StrictIntegerField(min_value=1, max_value=MAX_SIDE)
    images = ImagesField(max_length=2**20)
    seriesDate = _moment()
    modality = _text(16)
    seriesDescription = _text()
    bodyPart = _text()
    stationName = _text()
    modelName = _text()
    manufacturer = _text()
    patientInfo = PatientRecord(required=False)
    parameters = ObjectField(required=False)
    domain = _id()
    createdAt = _moment()
    updatedAt = _moment()


class PartialVolumeRecord(DumpSerializer):
    where = "clinicalCases.revisions.series.partialVolumeDescriptor"

    start = StrictIntegerField(min_value=1, max_value=MAX_INTEGER)
    end = StrictIntegerField(min_value=1, max_value=MAX_INTEGER)
    delta = StrictIntegerField(min_value=-MAX_INTEGER, max_value=MAX_INTEGER, default=1)


class LabelRecord(DumpSerializer):
    """Whether `data` fits the type is looked at later: it is kept in any case."""

    where = "clinicalCases.revisions.series.labels"

    name = _text()
    type = serializers.ChoiceField(choices=LabelType.choices)
    data = ObjectField()  # type: ignore[assignment]  # a field named as a property
    attributes = ObjectField(required=False)


class EntryRecord(DumpSerializer):
    where = "clinicalCases.revisions.series"

    seriesUid = _id()
    partialVolumeDescriptor = PartialVolumeRecord(required=False)
    labels = serializers.ListField(child=LabelRecord(), max_length=MAX_LABELS, default=list)


class RevisionRecord(DumpSerializer):
    where = "clinicalCases.revisions"
    needed = frozenset({"creator", "description", "attributes", "status", "series"})

    creator = StrictCharField(max_length=254)
    date = _moment()
    description = StrictCharField(max_length=MAX_DESCRIPTION, allow_blank=True, default="")
    attributes = ObjectField(default=dict)
    status = StrictCharField(max_length=64)
    series = serializers.ListField(child=EntryRecord(), max_length=MAX_SERIES, default=list)


class CaseRecord(DumpSerializer):
    """`patientInfo` is a copy of that of a series, here as there."""

    where = "clinicalCases"
    needed = frozenset({"caseId", "projectId", "tags", "domains", "revisions"})
    of_no_use = DumpSerializer.of_no_use | {"patientInfo"}

    caseId = _id()
    projectId = _id()
    # Which of them are too long for a tag is looked at one by one.
    tags = serializers.ListField(
        child=StrictCharField(max_length=10_000, allow_blank=True), max_length=MAX_TAGS, default=list
    )
    domains = _names(ids.MAX_LENGTH)
    latestRevision = ObjectField(required=False)
    revisions = serializers.ListField(child=RevisionRecord(), min_length=1, max_length=MAX_REVISIONS)
    createdAt = _moment()
    updatedAt = _moment()

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        checked = super().to_internal_value(data)
        if checked.pop("latestRevision", data["revisions"][-1]) != data["revisions"][-1]:
            self.context["notes"].append("latestRevision: It is not the last of the revisions, which are what counts.")
        return checked
