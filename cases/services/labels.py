"""Checks of labels that need more than their own shape: the volume they lie in, the blob they name, the schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable

from cases.label_bits import byte_length
from cases.models import Blob, Case, LabelType, Project
from cases.services.blobs import hold_blobs
from cases.services.partial_volumes import Entry
from casestore.accounts.models import User
from casestore.errors import MAX_PROBLEMS, BadRequest, InvalidBody, Problem


def find_blobs(*, user: User, case: Case, entries: Sequence[Entry]) -> dict[str, Blob]:
    """The blobs that the labels name, by SHA-1; they stay until the transaction ends.

    Raises BadRequest for one that does not exist for this user.
    """
    wanted = {
        label["data"]["voxels"]: f"series[{i}].labels[{k}].data.voxels"
        for i, entry in enumerate(entries)
        for k, label in enumerate(entry.labels)
        if label["type"] == LabelType.VOXEL and label["data"]["voxels"] is not None
    }
    hold_blobs(wanted)
    found = {blob.sha1: blob for blob in Blob.objects.usable_by(user, case).filter(pk__in=wanted)}
    for sha1, path in wanted.items():
        if sha1 not in found:
            raise BadRequest(f"{path}: There is no such blob.", problems=[Problem(path, "There is no such blob.")])
    return found


def check_voxel_labels(entries: Sequence[Entry], blobs: dict[str, Blob]) -> None:
    """Each box lies inside its partial volume, each blob has the bytes for its box. Raises InvalidBody."""
    problems = []
    for i, entry in enumerate(entries):
        extent = (entry.series.width, entry.series.height, len(entry.volume))
        for k, label in enumerate(entry.labels):
            if label["type"] != LabelType.VOXEL:
                continue
            path = f"series[{i}].labels[{k}].data"
            problems += [Problem(f"{path}.{p.path}", p.message) for p in _voxel_problems(label["data"], extent, blobs)]
    _raise_if(problems)


def _voxel_problems(data: dict[str, Any], extent: tuple[int, int, int], blobs: dict[str, Blob]) -> Iterable[Problem]:
    if data["voxels"] is None:
        return
    origin = [int(value) for value in data["origin"]]
    size = [int(value) for value in data["size"]]
    if any(o + s > e for o, s, e in zip(origin, size, extent, strict=True)):
        yield Problem("size", f"The box {origin} + {size} does not lie inside the partial volume of {list(extent)}.")
    needed, stored = byte_length(size), blobs[data["voxels"]].size
    if needed != stored:
        yield Problem("voxels", f"The blob has {stored} bytes; a box of {size} voxels needs {needed}.")


def check_attributes(project: Project, attributes: dict[str, Any], entries: Sequence[Entry]) -> None:
    """Enforces the project's JSON Schemas on case and labels. Raises InvalidBody with the failing paths."""
    problems = list(_schema_problems(project.case_attributes_schema, attributes, "attributes"))
    for i, entry in enumerate(entries):
        for k, label in enumerate(entry.labels):
            problems += _schema_problems(
                project.label_attributes_schema,
                label.get("attributes", {}),
                f"series[{i}].labels[{k}].attributes",
            )
    _raise_if(problems)


def _schema_problems(schema: dict[str, Any], value: Any, path: str) -> Iterable[Problem]:
    if not schema:
        return
    validator = validator_for(schema)(schema)
    try:
        for error in validator.iter_errors(value):
            yield Problem(path + error.json_path.removeprefix("$"), error.message[:500])
    except (Unresolvable, SchemaError, RecursionError):
        yield Problem(path, "The project's schema cannot be applied: it refers to something that is not there.")


def _raise_if(problems: Sequence[Problem]) -> None:
    if problems:
        first = problems[0]
        raise InvalidBody(f"{first.path}: {first.message}", problems=problems[:MAX_PROBLEMS])
