"""Labels as other servers' dumps bring them: their data may be anything."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cases.models import Blob, Label, LabelType, RevisionSeries
from casestore.tasks.services import Progress, WorkFailed
from exports.packing import pack
from exports.planning import plan
from exports.serializers import DEFAULTS
from exports.services import Wanted
from tests.formats import FORMATS, phantom_case
from tests.packing import make_task
from tests.world import World

GOOD: dict[str, dict[str, Any]] = {
    "voxel": {"origin": [0, 0, 0], "size": [2, 2, 1]},
    "cuboid": {"min": [0, 0, 0], "max": [9.5, 9, 9]},
    "ellipsoid": {"min": [0, 0, 0], "max": [9, 9, 9]},
    "rectangle": {"min": [0, 0], "max": [9, 9], "z": 4},
    "ellipse": {"min": [0, 0], "max": [9, 9], "z": 4},
    "polyline": {"points": [[0, 0], [9, 0], [9, 9.25]], "z": 4},
}
ODD = [None, True, "", "red", "NaN", -1, 1.5, 7, 10**30, 1e300, [], [1], [1, 2, 3, 4], [[1, 2]], {}, {"a": 1}, [None]]


@pytest.fixture
def case(world: World, tmp_path: Path) -> str:
    """Without labels."""
    return phantom_case(world, tmp_path, [])


def outcomes(world: World, case: str, kind: str, data: Any, **more: Any) -> set[tuple[str, str]]:
    """Status and reason of a case with such a label, of a dry run and of an export in every format."""
    found = set()
    with transaction.atomic():
        entry = RevisionSeries.objects.order_by("-revision__index", "-pk").first()
        assert entry is not None
        Label.objects.create(revision_series=entry, position=0, type=kind, data=data, **more)
        for name in FORMATS:
            options = {"format": name, "rasterizeShapes": True, **DEFAULTS[name]}
            (planned,) = plan(user=world.user("everything"), wanted=[Wanted(case)], options=options)["cases"]
            task = make_task(world, [case], **options)
            try:
                (packed,) = pack(task, Progress(task)).results
            except WorkFailed as failure:
                (packed,) = failure.results
            found |= {(told["status"], told.get("reason", "")) for told in (planned, packed)}
        transaction.set_rollback(True)
    return found


def blob(world: World) -> Blob:
    return Blob.objects.get(pk=world.blob(np.ones((1, 2, 2), bool)))


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("cuboid", {"min": [0, 0], "max": [9, 9, 9]}, "data.min: Ensure this field has at least 3 elements."),
    ("cuboid", {"min": [0, None, 0], "max": [9, 9, 9]}, "data.min[1]: This field may not be null."),
    ("cuboid", {"max": [9, 9, 9]}, "data.min: This field is required."),
    ("ellipsoid", {"min": [0, 0, 0], "max": "far"}, 'data.max: Expected a list of items but got type "str".'),
    ("rectangle", {"min": [0, 0], "max": [1e300, 9], "z": 4}, "data.max[0]: This must lie between -1e+15 and 1e+15."),
    ("cuboid", {"min": ["Secret", 0, 0], "max": [9, 9, 9]}, "data.min[0]: This must be a number."),
    ("ellipse", {"min": [0, 0], "max": [9, 9], "z": "4"}, "data.z: This must be a number."),
    ("polyline", {"points": [], "z": 4}, "data.points: Ensure this field has at least 1 elements."),
    ("voxel", {"origin": [0, 0, 0], "size": [2, 2]}, "data.size: Ensure this field has at least 3 elements."),
    ("voxel", {"origin": [0, -1, 0], "size": [2, 2, 1]}, "data.origin[1]: "),
    ("voxel", {"origin": [12, 0, 0], "size": [2, 2, 1]}, "data.size: The box does not lie inside the partial volume"),
    ("voxel", {"origin": [0, 0, 0], "size": [3, 3, 1]}, "data.voxels: The voxels are 1 bytes; the box needs 2."),
]


@pytest.mark.parametrize(("kind", "data", "reason"), WRONG)
def test_what_is_wrong_is_said_alike_everywhere(
    world: World, case: str, kind: str, data: dict[str, Any], reason: str
) -> None:
    stored = blob(world) if kind == LabelType.VOXEL else None
    more = {"voxels": stored.sha1} if stored else {}
    ((status, said),) = outcomes(world, case, kind, data | more, blob=stored)
    assert status == "failed"
    uid = RevisionSeries.objects.select_related("series").latest("pk").series.series_uid
    assert said.startswith(f"Label 0 of series {uid}: {reason}")
    assert "Secret" not in said


@pytest.mark.parametrize("color", ["red", "#12345", "#gggggg", None, 7, ["#ffffff"], "#12345678"])
@pytest.mark.parametrize("kind", ["voxel", "cuboid"])
def test_an_odd_colour_costs_no_case(world: World, case: str, kind: str, color: Any) -> None:
    stored = blob(world) if kind == LabelType.VOXEL else None
    data = GOOD[kind] | {"color": color, "alpha": "much"} | ({"voxels": stored.sha1} if stored else {})
    assert outcomes(world, case, kind, data, blob=stored) == {("packed", "")}


@pytest.mark.parametrize("data", [{}, {"voxels": None, "origin": [1e300], "size": "none"}])
def test_the_box_of_an_empty_label_means_nothing(world: World, case: str, data: dict[str, Any]) -> None:
    assert outcomes(world, case, "voxel", data) == {("packed", "")}


def test_members_that_labels_do_not_have_are_left_alone(world: World, case: str) -> None:
    assert outcomes(world, case, "cuboid", GOOD["cuboid"] | {"note": 10**30}) == {("packed", "")}


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_they_are_the_outcome_is_one_sentence(world: World, case: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(GOOD)))
    stored = blob(world) if kind == LabelType.VOXEL else None
    made: Any = copy.deepcopy(GOOD[kind] | ({"voxels": stored.sha1} if stored else {}))
    place, name = made, data.draw(st.sampled_from(sorted(made)))
    while isinstance(place[name], list) and data.draw(st.booleans()):
        place, name = place[name], data.draw(st.integers(0, len(place[name]) - 1))
    place[name] = data.draw(st.sampled_from(ODD))
    ((status, reason),) = outcomes(world, case, kind, made, blob=stored)
    assert status == "packed" or reason.startswith("Label 0 of series "), (made, reason)
