"""Projects, groups, users and tokens. Whatever of them is here already stays as it is; differences are noted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import connection

from cases.models import Project, ProjectRole, RoleName
from cases.provisioning import PROJECT_FIELDS
from casestore import clock, ids
from casestore.accounts.hashers import from_bcrypt
from casestore.accounts.models import AccessToken, Domain, GlobalPrivilege, GlobalPrivilegeName, GroupDomain, User
from casestore.accounts.services import digest_of, is_token
from casestore.errors import BadRequest
from mylists.circus.importing import Importer
from mylists.circus.report import Outcome, Place, Report
from mylists.circus.serializers import GroupRecord, ProjectRecord, TokenRecord, UserRecord

ROLES = {
    "readProjects": RoleName.READ,
    "writeProjects": RoleName.WRITE,
    "addSeriesProjects": RoleName.ADD_SERIES,
    "viewPersonalInfoProjects": RoleName.VIEW_PERSONAL_INFO,
    "moderateProjects": RoleName.MODERATE,
}
# A group keeps its number up to here; a larger one would leave too few numbers for new groups.
MAX_KEPT_GROUP_ID = 10**9


def add_domains(names: Iterable[str]) -> None:
    Domain.objects.bulk_create((Domain(name=name) for name in sorted(set(names))), ignore_conflicts=True)


def differences(row: Any, fields: dict[str, Any], names: dict[str, str]) -> list[str]:
    """A note where fields of the row are not these; `names` has the published name of each."""
    differing = sorted(names[field] for field, value in fields.items() if getattr(row, field) != value)
    return [f"It is here already and stays as it is, though it differs in {', '.join(differing)}."] if differing else []


class ProjectImporter(Importer):
    kind = ProjectRecord
    identity = "projectId"

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        fields = {field: value[name] for name, field in PROJECT_FIELDS.items() if name in value}
        project = Project.objects.filter(project_id=value["projectId"]).first()
        if project is not None:
            notes += differences(project, fields, {field: name for name, field in PROJECT_FIELDS.items()})
            return Outcome.UNCHANGED
        created = value.get("createdAt") or clock.now()
        Project.objects.create(
            project_id=value["projectId"],
            created_at=created,
            updated_at=value.get("updatedAt") or created,
            **{"name": value["projectId"], **fields},
        )
        return Outcome.IMPORTED


class GroupImporter(Importer):
    """`groups` are, afterwards, the primary keys of the dump's groups by their numbers there."""

    kind = GroupRecord
    identity = "groupName"

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.groups: dict[int, int] = {}

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        number = value["groupId"]
        group = Group.objects.filter(name=value["groupName"]).first()
        if number in self.groups and (group is None or group.pk != self.groups[number]):
            raise BadRequest("groupId: Another group of the dump has this number.")
        rights = _rights(value, notes)
        if group is not None:
            self.groups[number] = group.pk
            notes += _other_rights(group, rights)
            return Outcome.UNCHANGED
        group = _create_group(value["groupName"], number)
        self.groups[number] = group.pk
        add_domains(rights["domains"])
        GlobalPrivilege.objects.bulk_create(
            GlobalPrivilege(group=group, privilege=p) for p in sorted(rights["privileges"])
        )
        GroupDomain.objects.bulk_create(GroupDomain(group=group, domain_id=name) for name in sorted(rights["domains"]))
        ProjectRole.objects.bulk_create(
            ProjectRole(group=group, project_id=project, role=role) for project, role in sorted(rights["roles"])
        )
        return Outcome.IMPORTED

    def refused(self, value: dict[str, Any]) -> None:
        pk = self.groups.get(value["groupId"])
        if pk is not None and not Group.objects.filter(pk=pk).exists():
            del self.groups[value["groupId"]]


def _rights(value: dict[str, Any], notes: list[str]) -> dict[str, set[Any]]:
    """What the record grants, as far as it is known here."""
    privileges = set(value.get("privileges", ()))
    unknown = privileges - set(GlobalPrivilegeName.values)
    notes += [f"groups.privileges: There is no privilege {name!r} here; it is left out." for name in sorted(unknown)]
    wanted = {project for member in ROLES for project in value.get(member, ())}
    projects = dict(Project.objects.filter(project_id__in=wanted).values_list("project_id", "pk"))
    roles = set()
    for member, role in ROLES.items():
        for name in value.get(member, ()):
            if name in projects:
                roles.add((projects[name], role.value))
            else:
                notes.append(f"groups.{member}: There is no project {name!r}; it is left out.")
    return {"privileges": privileges - unknown, "domains": set(value.get("domains", ())), "roles": roles}


def _other_rights(group: Group, rights: dict[str, set[Any]]) -> list[str]:
    there = {
        "privileges": set(GlobalPrivilege.objects.filter(group=group).values_list("privilege", flat=True)),
        "domains": set(GroupDomain.objects.filter(group=group).values_list("domain_id", flat=True)),
        "roles": set(ProjectRole.objects.filter(group=group).values_list("project_id", "role")),
    }
    differing = ", ".join(name for name in rights if rights[name] != there[name])
    return [f"A group of this name is here already and keeps its own {differing}."] if differing else []


def _create_group(name: str, number: int) -> Group:
    """With the number that it had, where no group has it: lists are shared with groups by number."""
    if not 1 <= number <= MAX_KEPT_GROUP_ID or Group.objects.filter(pk=number).exists():
        return Group.objects.create(name=name)
    group = Group.objects.create(pk=number, name=name)
    with connection.cursor() as cursor:
        # The next group must not be given this number.
        cursor.execute(
            "SELECT setval(s.name::regclass, greatest(%s, nextval(s.name::regclass))) "
            "FROM (SELECT pg_get_serial_sequence('auth_group', 'id') AS name) AS s",
            [number],
        )
    return group


class UserImporter(Importer):
    """`lists` are, afterwards, what the users' records say of their lists, of users that are here."""

    kind = UserRecord
    identity = "userEmail"

    def __init__(self, report: Report, groups: dict[int, int]) -> None:
        super().__init__(report)
        self.groups = groups
        self.lists: list[tuple[Place, int, dict[str, Any]]] = []

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        groups = {self.groups[number] for number in value.get("groups", ()) if number in self.groups}
        missing = sorted(set(value.get("groups", ())) - self.groups.keys())
        notes += [f"users.groups: There is no group {number} in the dump; it is left out." for number in missing]
        user = User.objects.filter(email__iexact=value["userEmail"]).first()
        outcome = Outcome.UNCHANGED
        if user is not None:
            fields = {"login_id": value["loginId"], "is_active": value.get("loginEnabled", True)}
            notes += differences(user, fields, {"login_id": "loginId", "is_active": "loginEnabled"})
            if groups != set(user.groups.values_list("pk", flat=True)):
                notes.append("The user is here already and keeps their own groups.")
        else:
            user = self._create(value, notes)
            user.groups.set(groups)
            outcome = Outcome.IMPORTED
        self.lists += [(place, user.pk, item) for item in value.get("myLists", ())]
        return outcome

    def _create(self, value: dict[str, Any], notes: list[str]) -> User:
        if User.objects.filter(login_id=value["loginId"]).exists():
            raise BadRequest("loginId: Another user has this login id.")
        password = from_bcrypt(value.get("password", ""))
        if password is None and value.get("password"):
            notes.append("users.password: This is no bcrypt hash that can be checked; the user needs a new password.")
        return User.objects.create(
            email=value["userEmail"],
            login_id=value["loginId"],
            password=password or make_password(None),
            description=value.get("description", ""),
            preferences=value.get("preferences", {}),
            is_active=value.get("loginEnabled", True),
            created_at=value.get("createdAt") or clock.now(),
        )


class TokenImporter(Importer):
    """Of a token only its digest is kept. One that has expired stays so."""

    kind = TokenRecord
    identity = "permanentTokenId"

    def put(self, value: dict[str, Any], place: Place, notes: list[str]) -> Outcome:
        token = value["accessToken"]
        if not is_token(token):
            raise BadRequest("accessToken: No client could send such a token.")
        user = User.objects.by_login(value["userId"])
        if user is None:
            raise BadRequest("userId: There is no such user.")
        digest = digest_of(token)
        known = AccessToken.objects.filter(digest=digest).first()
        if known is not None:
            if known.user_id != user.pk:
                raise BadRequest("accessToken: Another user has this token.")
            return Outcome.UNCHANGED
        AccessToken.objects.create(
            token_id=value.get("permanentTokenId") or ids.new_id(),
            user=user,
            digest=digest,
            description=value.get("permanentTokenDescription", ""),
            created_at=value.get("createdAt") or clock.now(),
            expires_at=value.get("accessTokenExpiresAt"),
        )
        return Outcome.IMPORTED
