"""The `ETag` of a case: its version, and whether patient information is shown, which not everybody is."""

from __future__ import annotations

import re

from rest_framework.request import Request

from cases.models import Case
from cases.patients import projects_with_patient_info
from casestore.accounts.models import User
from casestore.api.etags import ANY, entity_tags
from casestore.errors import BadRequest

# Weak tags (W/"7") never match: they do not say that nothing has changed.
_TAG = re.compile(r'"([1-9][0-9]{0,17})p?"\Z')


def etag(case: Case, *, with_patient: bool) -> str:
    return f'"{case.version}p"' if with_patient else f'"{case.version}"'


def etag_for(user: User, case: Case) -> str:
    """As the user gets it when reading the case."""
    return etag(case, with_patient=case.project_id in projects_with_patient_info(user))


def expected_versions(request: Request) -> frozenset[int] | None:
    """The versions that `If-Match` names; None where any will do. BadRequest for a malformed header."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    tags = entity_tags(header, "If-Match")
    if tags == [ANY]:
        return None
    return frozenset(int(found[1]) for tag in tags if (found := _TAG.match(tag)))


def is_known(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` says that the client has this already. A malformed header says nothing."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    try:
        tags = entity_tags(header, "If-None-Match")
    except BadRequest:
        return False
    # The weak comparison, which this header asks for (RFC 9110, 13.1.2).
    return tags == [ANY] or tag in {known.removeprefix("W/") for known in tags}
