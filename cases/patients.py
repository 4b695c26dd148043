"""Who sees whose patient information."""

from __future__ import annotations

from cases.models import ProjectRole, RoleName
from casestore.accounts.models import User


def projects_with_patient_info(user: User) -> frozenset[int]:
    """Primary keys of the projects whose cases show `patientInfo` to this user."""
    if not user.wants_patient_info:
        return frozenset()
    roles = ProjectRole.objects.filter(group__user=user, role=RoleName.VIEW_PERSONAL_INFO)
    return frozenset(roles.values_list("project_id", flat=True))
