"""Tags of one case, and of many at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from django.db import transaction

from cases.models import Case
from cases.models.cases import MAX_TAGS
from cases.services.cases import check_version, lock_case
from casestore.accounts.models import User
from casestore.errors import BadRequest, CasestoreError, NotFound, Problem

# What each does to the tags that a case has; their order is kept.
OPERATIONS: dict[str, Callable[[list[str], list[str]], list[str]]] = {
    "add": lambda there, tags: [*there, *(tag for tag in tags if tag not in there)],
    "remove": lambda there, tags: [tag for tag in there if tag not in tags],
    "set": lambda there, tags: tags,
}


@transaction.atomic
def replace_tags(*, user: User, case_id: str, tags: Sequence[str], expected: Collection[int] | None = None) -> Case:
    """Needs `write`. PreconditionFailed where the case's version is none of those `expected`."""
    case = lock_case(user=user, case_id=case_id, role="write")
    check_version(case, expected)
    wanted = list(dict.fromkeys(tags))
    if wanted != case.tags:
        case.tags = wanted
        case.touch()
        case.save(update_fields=["tags", "version", "updated_at"])
    return case


@transaction.atomic
def change_tags(
    *,
    user: User,
    case_ids: Sequence[str],
    operation: str,
    tags: Sequence[str],
    expected: Collection[int] | None = None,
) -> None:
    """All of the cases or none. Needs `write` of each; a case that the operation does not change stays as it is.

    Raises what `get_for` raises for the first case that is not there, BadRequest where one would have too many, and
    PreconditionFailed where the version of one is none of those `expected`.
    """
    change, wanted = OPERATIONS[operation], list(dict.fromkeys(tags))
    changed = []
    for case in _lock_cases(user, case_ids):
        check_version(case, expected)
        new = change(case.tags, wanted)
        if len(new) > MAX_TAGS and len(new) > len(case.tags):
            raise BadRequest(f"A case has at most {MAX_TAGS} tags; {case.case_id} would have {len(new)}.")
        if new != case.tags:
            case.tags = new
            case.touch()
            changed.append(case)
    Case.objects.bulk_update(changed, ["tags", "version", "updated_at"])


def _lock_cases(user: User, case_ids: Sequence[str]) -> list[Case]:
    wanted = set(case_ids)
    visible = Case.objects.visible_to(user, "write").filter(case_id__in=wanted)
    # Always in this order, so that two requests that share cases wait for each other and not in a circle.
    rows = list(visible.only("case_id", "tags", "version", "updated_at").order_by("pk").select_for_update(of=("self",)))
    if len(rows) < len(wanted):
        found = {case.case_id for case in rows}
        index = next(index for index, case_id in enumerate(case_ids) if case_id not in found)
        raise _refusal(user, case_ids[index], f"caseIds[{index}]")
    return rows


def _refusal(user: User, case_id: str, path: str) -> CasestoreError:
    """What is wrong with a case that could not be locked."""
    error: CasestoreError = NotFound("There is no such case.")
    try:
        Case.objects.get_for(user, case_id, "write")
    except CasestoreError as refusal:
        error = refusal
    error.problems = [Problem(path, error.sentence)]
    return error
