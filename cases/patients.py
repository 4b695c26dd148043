"""Who sees whose patient information: in answers, in what a filter matches, and in orders."""

from __future__ import annotations

from cases.models import ProjectRole, RoleName
from casestore.accounts.models import User
from casestore.search.translate import Patients


def projects_with_patient_info(user: User) -> frozenset[int]:
    """Primary keys of the projects whose cases show `patientInfo` to this user."""
    if not user.wants_patient_info:
        return frozenset()
    roles = ProjectRole.objects.filter(group__user=user, role=RoleName.VIEW_PERSONAL_INFO)
    return frozenset(roles.values_list("project_id", flat=True))


def patients_of_cases(user: User) -> Patients:
    """For searches among the cases that the user may read."""
    if not user.wants_patient_info:
        return Patients()
    roles = ProjectRole.objects.filter(group__user=user, role__in=[RoleName.READ, RoleName.VIEW_PERSONAL_INFO])
    projects: dict[str, set[int]] = {RoleName.READ: set(), RoleName.VIEW_PERSONAL_INFO: set()}
    for role, project in roles.values_list("role", "project_id"):
        projects[role].add(project)
    shown = frozenset(projects[RoleName.VIEW_PERSONAL_INFO])
    return Patients(everywhere=projects[RoleName.READ] <= shown, column="project_id", values=shown)


def patients_of_series(user: User) -> Patients:
    """Series belong to no project: the global privilege alone decides."""
    return Patients(everywhere=user.wants_patient_info)
