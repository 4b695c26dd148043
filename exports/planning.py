"""What an export would hold: the formats' own code, on contents that are measured and not made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from cases.deflate import Deflated, measured
from cases.image_numbers import PartialVolume
from cases.models import Label, LabelType, RevisionSeries
from casestore.accounts.models import User
from casestore.errors import BadRequest, CasestoreError
from casestore.tasks.services import ends_task
from exports.contents import Member, Volume, check_voxels, is_empty, label_box, load_revision, volumes_of
from exports.jobs import Job, Make
from exports.packing import FORMATS, data_file, reason_of
from exports.segments import Segment, Survey, tell_overlaps
from exports.services import Wanted, find_cases, resolve

# A request is answered while its client waits: it reads so many rows of images and labels, and counts the overlaps of
# labels whose boxes hold so many voxels (some seconds), in the order of the cases.
MAX_IMAGES = 100_000
MAX_LABELS = 20_000
MAX_VOXELS = 100_000_000
MAX_FILES = 1000
MAX_OVERLAPS = 1000


@dataclass
class Budget:
    """What is left of the voxels that a request may count."""

    voxels: int = MAX_VOXELS


@dataclass(frozen=True)
class DryJob(Job):
    """The formats get contents of the right size, and whether labels overlap as far as the budget goes."""

    budget: Budget = field(default_factory=Budget)
    known: dict[str, tuple[list[Segment], Survey | None]] = field(default_factory=dict)

    @property
    def is_dry(self) -> bool:
        return True

    def segments_of(self, volume: Volume, *, named_only: bool = False) -> list[Segment]:
        return super().segments_of(volume, named_only=True) if named_only else self._looked_at(volume)[0]

    def survey(self, segments: Sequence[Segment], volume: Volume) -> Survey:
        found = self.counted(volume)
        if found is not None:
            return found
        # As if each had voxels everywhere and none overlapped.
        present = np.ones((len(segments), volume.size[2]), bool)
        return Survey({}, {}, (None,) * len(segments), present, {}, (0,) * len(segments))

    def counted(self, volume: Volume) -> Survey | None:
        """None where the budget was not enough."""
        return self._looked_at(volume)[1]

    def _looked_at(self, volume: Volume) -> tuple[list[Segment], Survey | None]:
        if volume.name not in self.known:
            voxels = sum(_voxels(valued.label, volume) for valued in self.labels_of(volume))
            fits = voxels <= self.budget.voxels
            self.budget.voxels -= voxels if fits else 0
            segments = super().segments_of(volume, named_only=not fits)
            self.known[volume.name] = segments, super().survey(segments, volume) if fits else None
        return self.known[volume.name]

    @contextmanager
    def voxels(self, volume: Volume) -> Iterator[tuple[Deflated, str]]:
        check_voxels(volume)
        width, height, depth = volume.size
        yield measured(width * height * depth * volume.channels * np.dtype(volume.element_type).itemsize), ""

    @contextmanager
    def made(self, size: int, make: Make) -> Iterator[Deflated]:
        yield measured(size)

    @contextmanager
    def member(
        self, name: str, size: int, make: Make, *, made_of: Sequence[Any], header: bytes = b""
    ) -> Iterator[Member]:
        yield Member(name, measured(len(header) + size), made_of)


def plan(*, user: User, wanted: Sequence[Wanted], options: dict[str, Any]) -> dict[str, Any]:
    """Needs what an export needs. Raises BadRequest where it would take too long to tell."""
    entries = resolve(find_cases(user, wanted, options), wanted)
    _check_size([entry["revision"] for entry in entries])
    budget = Budget()
    cases: list[dict[str, Any]] = [_planned(entry, options, budget) for entry in entries]
    return {
        "cases": cases,
        "size": sum(case.get("size", 0) for case in cases),
        "failed": len([case for case in cases if case["status"] == "failed"]),
    }


def _check_size(revisions: Sequence[int]) -> None:
    rows = RevisionSeries.objects.filter(revision__in=revisions).values_list("start", "end", "delta")
    images = sum(len(PartialVolume(*row)) for row in rows)
    labels = Label.objects.filter(revision_series__revision__in=revisions).count()
    if images > MAX_IMAGES or labels > MAX_LABELS:
        raise BadRequest(
            f"The cases have {images} images and {labels} labels; a dry run can look at {MAX_IMAGES} and {MAX_LABELS}. "
            "Ask for fewer cases."
        )


def _planned(entry: dict[str, Any], options: dict[str, Any], budget: Budget) -> dict[str, Any]:
    told = {name: entry[name] for name in ("caseId", "folder", "revisionIndex")}
    job = DryJob(options, _beat, _beat, budget=budget)
    try:
        revision = load_revision(entry["revision"])
        if revision is None:
            raise CasestoreError("The case was deleted.")
        members = [data_file(revision)]
        series = [_planned_volume(volume, job, members) for volume in volumes_of(revision)]
    except Exception as error:  # As when it is packed: what other servers' dumps brought may not be as it should.
        if ends_task(error):
            raise
        return told | {"status": "failed", "reason": reason_of(error)}
    files = [{"name": f"{entry['folder']}/{member.name}", "size": member.content.size} for member in members]
    return told | {
        "status": "packed",
        "series": series,
        "files": files[:MAX_FILES],
        "fileCount": len(files),
        "size": sum(member.content.size for member in members),
    }


def _planned_volume(volume: Volume, job: DryJob, members: list[Member]) -> dict[str, Any]:
    chosen = FORMATS[job.options["format"]]
    members += chosen.volume_files(volume, job)
    members += chosen.label_files(volume, job, {})
    found = job.counted(volume)
    overlaps: dict[str, Any] = {"overlaps": []}
    if found is not None:
        tell_overlaps(overlaps, job.segments_of(volume), found)
    # The bits are not needed any more.
    job.known.clear()
    return {
        "volume": volume.name,
        "seriesUid": volume.entry.series.series_uid,
        "warnings": list(volume.geometry.warnings),
        "labelCount": len(job.labels_of(volume)),
        "overlaps": None if found is None else overlaps["overlaps"][:MAX_OVERLAPS],
    }


def _voxels(label: Label, volume: Volume) -> int:
    """How many voxels have to be looked at; of a shape at most the volume, or a slice."""
    width, height, depth = volume.size
    if is_empty(label):
        return 0
    if label.type == LabelType.VOXEL:
        return prod(label_box(label)[1])
    return width * height * (1 if "z" in label.data else depth)


def _beat() -> None:
    """Nobody waits for a sign of life."""
