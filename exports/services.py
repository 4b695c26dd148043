"""Asking for an export: everything is checked before a task exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from cases.models import Case, Project, Revision
from cases.patients import projects_with_patient_info
from casestore.accounts.models import User
from casestore.errors import BadRequest, InsufficientPrivilege, Problem
from casestore.tasks.models import Task
from casestore.tasks.services import create_task
from exports.folders import folders


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry of a request: a case and one of its revisions, counted from the end where negative."""

    case_id: str
    revision_index: int = -1


# How the name of a task calls them.
FORMAT_NAMES = {"mhd": "MHD", "nrrd": "NRRD", "nifti": "NIfTI", "dicom-seg": "DICOM"}


def request_export(*, user: User, wanted: Sequence[Wanted], options: dict[str, Any]) -> Task:
    """Needs what `find_cases` needs."""
    from exports.tasks import export_mhd

    entries = resolve(find_cases(user, wanted, options), wanted)
    format_name = FORMAT_NAMES[options.get("format", "mhd")]
    return create_task(
        owner=user,
        name=f"Export {len(entries)} case{'s' if len(entries) != 1 else ''} as {format_name}",
        parameters={"entries": entries, **options},
        total=len(entries),
        run_by=export_mhd,
    )


def find_cases(user: User, wanted: Sequence[Wanted], options: Mapping[str, Any]) -> dict[str, Case]:
    """By caseId. Needs `downloadVolume`, `read` in the project of every case, and what the format needs."""
    _check_privilege(user)
    ids = {entry.case_id for entry in wanted}
    cases = {case.case_id: case for case in Case.objects.visible_to(user).filter(case_id__in=ids)}
    for case_id in ids - cases.keys():
        Case.objects.get_for(user, case_id)  # Says what is wrong with it: unknown, or not readable.
    check_format(user, {case.project_id for case in cases.values()}, options)
    return cases


def _check_privilege(user: User) -> None:
    if not user.has_privilege("downloadVolume"):
        raise InsufficientPrivilege('You do not have the "downloadVolume" privilege.')


def check_format(user: User, projects: AbstractSet[int], options: Mapping[str, Any]) -> None:
    """Original DICOM files name the patient: they need what `patientInfo` needs in each of the projects."""
    if options.get("format") != "dicom-seg":
        return
    if not user.wants_patient_info:
        raise InsufficientPrivilege(
            'DICOM files name the patient: you do not have the "personalInfoView" privilege, or switched it off in your'
            " preferences."
        )
    if not projects <= projects_with_patient_info(user):
        raise InsufficientPrivilege('You do not have "viewPersonalInfo" privilege of this project.')


def resolve(cases: Mapping[str, Case], wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """The primary key of each revision and the folder that it gets; equal entries once."""
    indexes: dict[tuple[str, int], None] = {}
    for position, entry in enumerate(wanted):
        count = cases[entry.case_id].revision_count
        index = entry.revision_index + (count if entry.revision_index < 0 else 0)
        if not 0 <= index < count:
            path = f"caseIds[{position}].revisionIndex"
            sentence = (
                f"The case has {count} revision{'s' if count != 1 else ''}; there is no index {entry.revision_index}."
            )
            raise BadRequest(f"{path}: {sentence}", problems=[Problem(path, sentence)])
        indexes[entry.case_id, index] = None
    keys = {
        (case_id, index): key
        for key, case_id, index in Revision.objects.filter(
            case__in=cases.values(), index__in={index for _, index in indexes}
        ).values_list("pk", "case__case_id", "index")
    }
    mentions = Counter(entry.case_id for entry in wanted)
    names = folders(list(indexes), {case_id for case_id, count in mentions.items() if count > 1})
    return [
        {
            "revision": keys[case_id, index],
            "caseId": case_id,
            "revisionIndex": index,
            "project": cases[case_id].project_id,
            "folder": folder,
        }
        for (case_id, index), folder in zip(indexes, names, strict=True)
    ]


def check_download(user: User, task: Task) -> None:
    """Whoever may not make the export any more may not have its archive either."""
    _check_privilege(user)
    projects = {entry["project"] for entry in task.parameters["entries"]}
    readable = Project.objects.visible_to(user).filter(pk__in=projects).values_list("pk", flat=True)
    if not projects or projects - set(readable):
        raise InsufficientPrivilege('You do not have "read" privilege of this project.')
    check_format(user, projects, task.parameters)
