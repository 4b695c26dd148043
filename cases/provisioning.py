"""What an installation consists of, declared in a file: domains, projects, groups, users. Applying it is idempotent.

What a file says of a group or user is all that it has: privileges, domains, roles and memberships that are no longer
declared are taken away. What a file leaves out altogether stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from rest_framework import serializers

from cases.label_dictionary import problem_of
from cases.models import Project, ProjectRole, RoleName
from casestore import clock, ids
from casestore.accounts.models import Domain, GlobalPrivilege, GlobalPrivilegeName, GroupDomain, User
from casestore.api.errors import problems_of
from casestore.api.fields import ObjectField, StrictBooleanField, StrictCharField, StrictSerializer
from casestore.api.parsers import check_storable
from casestore.errors import InvalidBody, Problem


class SchemaField(ObjectField):
    """A JSON Schema, itself checked."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        schema = super().to_internal_value(data)
        try:
            validator_for(schema).check_schema(schema)
        except SchemaError as error:
            raise serializers.ValidationError(f"This is not a JSON Schema: {error.message}") from None
        return schema


class LabelValuesField(ObjectField):
    """Label names and their values in exports."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        values = super().to_internal_value(data)
        if problem := problem_of(values):
            raise serializers.ValidationError(problem)
        return values


def _strings(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=StrictCharField(max_length=255), **options)


class TagDeclaration(StrictSerializer):
    caption = StrictCharField(max_length=32)
    color = serializers.RegexField(r"\A#[0-9a-fA-F]{6}\Z")


class ProjectDeclaration(StrictSerializer):
    projectId = StrictCharField(max_length=ids.MAX_LENGTH, required=False)
    projectName = StrictCharField(max_length=255)
    icon = StrictCharField(max_length=64, allow_blank=True, required=False)
    description = StrictCharField(max_length=10_000, allow_blank=True, required=False)
    windowPriority = StrictCharField(max_length=64, allow_blank=True, required=False)
    windowPresets = serializers.ListField(child=ObjectField(), required=False)
    tags = TagDeclaration(many=True, required=False)
    caseAttributesSchema = SchemaField(required=False)
    labelAttributesSchema = SchemaField(required=False)
    labelValues = LabelValuesField(required=False)


class GroupDeclaration(StrictSerializer):
    groupName = StrictCharField(max_length=150)
    privileges = serializers.ListField(child=serializers.ChoiceField(choices=GlobalPrivilegeName.choices), default=list)
    domains = _strings(default=list)
    roles = serializers.DictField(
        child=serializers.ListField(child=serializers.ChoiceField(choices=RoleName.choices)), default=dict
    )


class UserDeclaration(StrictSerializer):
    userEmail = serializers.EmailField(max_length=254)
    loginId = StrictCharField(max_length=150)
    description = StrictCharField(max_length=255, allow_blank=True, required=False)
    groups = _strings(default=list)
    password = StrictCharField(max_length=128, required=False)
    preferences = ObjectField(required=False)
    loginEnabled = StrictBooleanField(required=False)
    admin = StrictBooleanField(required=False, help_text="may use the admin, with all its permissions")


class Declaration(StrictSerializer):
    domains = _strings(default=list)
    projects = ProjectDeclaration(many=True, default=list)
    groups = GroupDeclaration(many=True, default=list)
    users = UserDeclaration(many=True, default=list)


PROJECT_FIELDS = {
    "projectName": "name",
    "icon": "icon",
    "description": "description",
    "windowPriority": "window_priority",
    "windowPresets": "window_presets",
    "tags": "tags",
    "caseAttributesSchema": "case_attributes_schema",
    "labelAttributesSchema": "label_attributes_schema",
    "labelValues": "label_values",
}


def read_declaration(path: Path) -> Any:
    """The content of a YAML or JSON file. Raises InvalidBody where it is neither."""
    text = path.read_text(encoding="utf-8")
    try:
        # JSON is read as JSON: YAML gives some of its strings another meaning.
        return json.loads(text)
    except ValueError:
        pass
    try:
        return json.loads(json.dumps(yaml.safe_load(text), default=str))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InvalidBody(f"The file is neither JSON nor YAML: {error}") from None


@transaction.atomic
def provision(declaration: Any) -> None:
    """Makes the installation as declared, all of it or nothing. Raises InvalidBody."""
    check_storable(declaration)
    body = Declaration(data=declaration)
    if not body.is_valid():
        problems = list(problems_of(body.errors))
        raise InvalidBody("; ".join(f"{p.path}: {p.message}" for p in problems[:20]), problems=problems)
    values = body.validated_data
    _add_domains(values["domains"])
    for item in values["projects"]:
        _put_project(item)
    for index, item in enumerate(values["groups"]):
        _put_group(item, f"groups[{index}]")
    for index, item in enumerate(values["users"]):
        _put_user(item, f"users[{index}]")


def _add_domains(names: Iterable[str]) -> None:
    Domain.objects.bulk_create((Domain(name=name) for name in names), ignore_conflicts=True)


def _put_project(item: dict[str, Any]) -> None:
    fields = {field: item[name] for name, field in PROJECT_FIELDS.items() if name in item}
    key = {"project_id": item["projectId"]} if "projectId" in item else {"name": item["projectName"]}
    project = Project.objects.filter(**key).order_by("pk").first()
    if project is None:
        Project.objects.create(**key, **{name: value for name, value in fields.items() if name not in key})
    elif any(getattr(project, name) != value for name, value in fields.items()):
        Project.objects.filter(pk=project.pk).update(**fields, updated_at=clock.now())


def _put_group(item: dict[str, Any], path: str) -> None:
    group, _ = Group.objects.get_or_create(name=item["groupName"])
    projects = {p.project_id: p for p in Project.objects.filter(project_id__in=item["roles"])}
    for project_id in item["roles"]:
        if project_id not in projects:
            raise _unknown(f"{path}.roles", f"There is no project {project_id}.")
    _add_domains(item["domains"])
    _replace(GlobalPrivilege, group, [{"privilege": name} for name in item["privileges"]])
    _replace(GroupDomain, group, [{"domain_id": name} for name in item["domains"]])
    _replace(
        ProjectRole,
        group,
        [{"project_id": projects[p].pk, "role": role} for p, roles in item["roles"].items() for role in roles],
    )


def _replace(
    model: type[Model],
    group: Group,
    wanted: list[dict[str, Any]],
) -> None:
    rows = model._default_manager.filter(group=group)
    for row in rows:
        if not any(all(getattr(row, name) == value for name, value in item.items()) for item in wanted):
            row.delete()
    model._default_manager.bulk_create((model(group=group, **item) for item in wanted), ignore_conflicts=True)


def _put_user(item: dict[str, Any], path: str) -> None:
    groups = {group.name: group for group in Group.objects.filter(name__in=item["groups"])}
    for name in item["groups"]:
        if name not in groups:
            raise _unknown(f"{path}.groups", f"There is no group {name}.")
    user = User.objects.filter(email__iexact=item["userEmail"]).first() or User(email=item["userEmail"])
    if User.objects.filter(login_id=item["loginId"]).exclude(pk=user.pk).exists():
        raise _unknown(f"{path}.loginId", "Another user has this login id.")
    user.login_id = item["loginId"]
    user.description = item.get("description", user.description)
    user.preferences = item.get("preferences", user.preferences)
    user.is_active = item.get("loginEnabled", user.is_active)
    user.is_staff = user.is_superuser = item.get("admin", user.is_superuser)
    if "password" in item:
        if user._state.adding or not user.check_password(item["password"]):
            user.set_password(item["password"])
    elif user._state.adding:
        user.set_unusable_password()
    user.save()
    user.groups.set(groups.values())


def _unknown(path: str, message: str) -> InvalidBody:
    return InvalidBody(f"{path}: {message}", problems=[Problem(path, message)])
