"""Progress of exports in bytes: what is expected is what comes, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from casestore.tasks.models import Task
from casestore.tasks.services import Progress
from exports.packing import pack
from tests.formats import box_label
from tests.packing import content, files, make_task, remove_dicom
from tests.test_export import make_case
from tests.test_import import run
from tests.world import World

WIDTH, HEIGHT, DEPTH = 128, 96, 12
OPTIONS: list[dict[str, Any]] = [
    {},
    {"labelPackType": "combined"},
    {"rasterizeShapes": True},
    {"format": "nrrd", "labelPackType": None},
    {"format": "nifti", "labelPackType": "isolated"},
    {"format": "dicom-seg", "labelPackType": None},
]


class Watched(Progress):
    """Remembers (bytes done, bytes in all) of each report, however soon one follows the other."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.seen: list[tuple[int, int]] = []

    def report(self, finished: int, message: str, **options: Any) -> None:
        if options:
            self.seen.append((options["bytes_done"], options["bytes_total"]))
        super().report(finished, message, **options)


def phantom_case(world: World, folder: Path, depth: int) -> tuple[str, str]:
    """A case with five labels, and a shape, on a series of its own; and that series."""
    uid = write_phantom(folder, size=(WIDTH, HEIGHT, depth)).series_uid
    run(folder, spool=folder.parent)
    box = np.ones((depth, 8, 8), bool)
    labels: list[dict[str, Any]] = [box_label(world, box, [9 * i, 9, 0], f"{i}") for i in range(5)]
    labels.append({"type": "cuboid", "data": {"min": [0, 0, 0], "max": [9, 9, 9]}})
    return make_case(world, uid, PartialVolume(1, depth, 1), labels), uid


@pytest.mark.parametrize("options", OPTIONS)
def test_bytes_are_expected_as_they_come(world: World, tmp_path: Path, options: dict[str, Any]) -> None:
    made = [phantom_case(world, tmp_path / f"{depth}", depth) for depth in (DEPTH - 1, DEPTH, DEPTH + 1)]
    remove_dicom(made[1][1])
    task = make_task(world, [case for case, _ in made], **options)
    progress = Watched(task)
    result = pack(task, progress)
    assert [row["status"] for row in result.results] == ["packed", "failed", "packed"]
    done, totals = ([pair[i] for pair in progress.seen] for i in (0, 1))
    assert done == sorted(done)
    assert all(some <= total for some, total in progress.seen)
    assert done[-1] == pytest.approx(totals[-1], rel=0.1)
    size = sum(map(len, files(content(result)).values()))
    assert totals[0] == pytest.approx(size * 3 / 2, rel=0.1)
    # Beside the archive's files there is what was done of the case that was left out.
    assert size * 0.95 < totals[-1] <= totals[0] * 1.1
