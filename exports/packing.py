"""The work of an export task: revisions into one archive, a file at a time, a slice at a time."""

from __future__ import annotations

import logging
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from textwrap import indent
from types import ModuleType
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Count, Q

from cases.deflate import piece_of
from cases.documents import stored_revision_document
from cases.image_numbers import PartialVolume
from cases.models import LabelType, Revision, RevisionSeries
from cases.slices import DamagedSlices
from casestore import clock
from casestore.errors import CasestoreError
from casestore.json_text import dump
from casestore.tasks.models import DownloadFileType, Task
from casestore.tasks.services import Progress, Result, WorkFailed, ends_task
from exports.contents import Member, Volume, load_revision, spool, volumes_of
from exports.formats import dicom_seg, meta_image, nifti, nrrd
from exports.growing import GrowingArchive
from exports.jobs import Job
from exports.ledger import Ledger
from exports.pieces import PORTION, Pieces
from exports.shapes import KINDS

logger = logging.getLogger(__name__)

FILE_TYPES = {"tgz": DownloadFileType.GZIP, "zip": DownloadFileType.ZIP}
FORMATS: dict[str, ModuleType] = {"mhd": meta_image, "nrrd": nrrd, "nifti": nifti, "dicom-seg": dicom_seg}
MANIFEST_VERSION = 1
# A sentence in a task; the manifest has them all.
MAX_REASONS = 10
# So many files may be hashed while the next one is made.
HASHED_AT_ONCE = 2


def pack(task: Task, progress: Progress) -> Result:
    """Packs the revisions that the task names; the file takes its final name only when it is whole.

    A case that cannot be packed is left out whole, and told in the manifest and the task's results; with `strict`, or
    where none could be packed, the task fails. After a crash the cases that were packed are not packed again.
    """
    options, entries = task.parameters, task.parameters["entries"]
    # Of each claim its own: a worker that lost the task and does not know it yet harms no other.
    key = f"exports/{task.task_id}/{task.claimed_by or 'archive'}"
    # A checkpoint of an earlier version is of no use.
    checkpoint = task.checkpoint if "ledger" in task.checkpoint else None
    growing = GrowingArchive(key, options["compressionFormat"], checkpoint)
    try:
        ledger = Ledger(task, list(task.checkpoint["ledger"]) if growing.resumed else [])
        furthest = task.checkpoint.get("furthest", 0)
        if growing.resumed:
            # From now on its copy is what the next one goes on with.
            _keep(progress, growing, ledger, furthest)
        else:
            with transaction.atomic():
                progress.beat()
                ledger.forget()
        expected = expected_bytes(entries, options)
        for number, entry in list(enumerate(entries))[len(ledger.cases) :]:
            meter = _Meter(progress, number, expected, ledger.bytes)
            meter.beat()
            case = CasePacker(growing, entry, options, meter).pack()
            if case["status"] == "failed" and options.get("strict"):
                raise WorkFailed(f"{case['folder']}: {case['reason']}", results=_results([*ledger.cases, case]))
            ledger.add(case)
            furthest = _keep(progress, growing, ledger, furthest)
        if not ledger.packed:
            reasons = _reasons(ledger.failed, "the task's results say which.")
            raise WorkFailed(f"No case could be exported. {reasons}", results=_results(ledger.cases))
        progress.report(len(entries), "Writing the manifest.")
        _add_manifest(growing, ledger, options)
        growing.publish()
    except BaseException:
        # What there is so far is for whoever goes on; when the task has ended, its files are removed.
        growing.close()
        raise
    return Result(
        _sentence(ledger),
        key,
        FILE_TYPES[options["compressionFormat"]],
        size=growing.position,
        sha256=growing.sha256,
        results=_results(ledger.cases),
    )


def _keep(progress: Progress, growing: GrowingArchive, ledger: Ledger, furthest: int) -> int:
    """A checkpoint behind these cases; `furthest` is how many any attempt had done, before and, returned, after.

    An attempt that has to begin anew gets on only when it comes further than those before it: else a case that kills
    its worker would do so for ever.
    """
    after = max(furthest, len(ledger.cases))
    state = growing.checkpoint() | {"ledger": ledger.cases, "furthest": after}
    with transaction.atomic():
        progress.checkpoint(state, further=after > furthest)
        ledger.save()
    growing.let_go()
    return after


class _Meter:
    """Reports the progress of one case of many, of which so many bytes are `expected`."""

    def __init__(self, progress: Progress, number: int, expected: Sequence[int], bytes_before: int) -> None:
        self._progress, self._number = progress, number
        self._message = f"Packing case {number + 1} of {len(expected)}."
        self._before, self._expected, self._after = bytes_before, expected[number], sum(expected[number + 1 :])
        self.bytes = 0
        self.check = progress.check

    def add(self, size: int) -> None:
        self.bytes += size
        self.beat()

    def beat(self) -> None:
        total = self._before + max(self._expected, self.bytes) + self._after
        self._progress.report(self._number, self._message, bytes_done=self._before + self.bytes, bytes_total=total)


class CasePacker:
    """Packs one revision into `<folder>/…`. Files carry the revision's date: the same revisions, the same bytes."""

    def __init__(self, growing: GrowingArchive, entry: dict[str, Any], options: dict[str, Any], meter: _Meter) -> None:
        self.growing, self.entry, self.options, self.meter = growing, entry, options, meter
        self.told: dict[str, Any] = {name: entry[name] for name in ("caseId", "folder", "revisionIndex")}
        self.files: list[dict[str, Any]] = []
        self._hashed: deque[tuple[dict[str, Any], Member]] = deque()

    def pack(self) -> dict[str, Any]:
        """What the manifest says of the case. A case that fails leaves nothing in the archive."""
        mark = self.growing.mark()
        try:
            try:
                return self._pack(anew=False)
            except DamagedSlices:
                # Only a cache: it is made again from the DICOM files.
                self.growing.go_back(mark)
                return self._pack(anew=True)
        except Exception as error:
            if ends_task(error):
                raise
            self.growing.go_back(mark)
            return self.told | {"status": "failed", "reason": reason_of(error), "bytes": self.meter.bytes}

    def _pack(self, *, anew: bool) -> dict[str, Any]:
        self.files = []
        self._hashed.clear()
        revision = load_revision(self.entry["revision"])
        if revision is None:
            raise CasestoreError("The case was deleted before it was packed.")
        self.told["revisionDate"] = clock.iso(revision.date)
        volumes = volumes_of(revision)
        self._add(revision, data_file(revision))
        series = [self._pack_volume(revision, volume, anew=anew) for volume in volumes]
        self._settle(leave=0)
        return self.told | {
            "status": "packed",
            "files": self.files,
            "series": series,
            "bytes": self.meter.bytes,
        }

    def _pack_volume(self, revision: Revision, volume: Volume, *, anew: bool) -> dict[str, Any]:
        entry = volume.entry
        told: dict[str, Any] = {
            "volume": volume.name,
            "seriesUid": entry.series.series_uid,
            "partialVolumeDescriptor": {"start": entry.start, "end": entry.end, "delta": entry.delta},
            "warnings": list(volume.geometry.warnings),
            "seriesWarnings": entry.series.geometry.get("warnings", []),
        }
        chosen = FORMATS[self.options.get("format", "mhd")]
        job = Job(self.options, self.meter.beat, self.meter.check, anew)
        for member in chosen.volume_files(volume, job):
            self._add(revision, member)
        for member in chosen.label_files(volume, job, told):
            self._add(revision, member)
        return told

    def _add(self, revision: Revision, member: Member) -> None:
        name = f"{self.entry['folder']}/{member.name}"
        self.growing.archive.add(name, revision.date, member.content)
        told: dict[str, Any] = {"name": name, "size": member.content.size}
        self.files.append(told)
        if member.digest is None:
            told["sha256"] = member.sha256()
        else:
            # It is still being computed, while the next one is made.
            self._hashed.append((told, member))
            self._settle(leave=HASHED_AT_ONCE)
        self.meter.add(member.content.size)

    def _settle(self, *, leave: int) -> None:
        while len(self._hashed) > leave:
            told, member = self._hashed.popleft()
            told["sha256"] = member.sha256()


def reason_of(error: Exception) -> str:
    """Why a case was left out; never what an unforeseen exception says."""
    if isinstance(error, CasestoreError):
        return error.sentence
    if isinstance(error, DamagedSlices):
        return "A volume that was just made from the DICOM files could not be read back."
    # The message of an unforeseen exception may quote a data set; its type and place do not.
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a case could not be exported: %s\n%s", type(error).__name__, place)
    return f"It could not be packed ({type(error).__name__})."


def data_file(revision: Revision) -> Member:
    """The case as this revision left it, so that later changes of the case do not change the export."""
    case = revision.case
    document = {
        "caseId": case.case_id,
        "createdAt": clock.iso(case.created_at),
        "updatedAt": clock.iso(revision.date),
        "projectId": case.project.project_id,
        "revision": stored_revision_document(revision),
    }
    return Member("data.json", piece_of(dump(document, indent=True) + b"\n"))


def expected_bytes(entries: Sequence[dict[str, Any]], options: dict[str, Any]) -> list[int]:
    """About how many bytes the files of each case have: for progress."""
    is_dicom, isolated = options.get("format") == "dicom-seg", options.get("labelPackType") == "isolated"
    kinds = {LabelType.VOXEL.value, *(KINDS if options.get("rasterizeShapes") else ())}
    rows = RevisionSeries.objects.filter(revision__in=[entry["revision"] for entry in entries])
    rows = rows.select_related("series").annotate(label_count=Count("labels", filter=Q(labels__type__in=kinds)))
    total: Counter[int] = Counter()
    for row in rows.iterator(chunk_size=100):
        voxels = row.series.width * row.series.height * len(PartialVolume(row.start, row.end, row.delta))
        # The type in the original files is seldom another one.
        kind = (is_dicom and row.series.stored_type) or row.series.geometry.get("pixelType", "int16")
        masks = row.label_count if isolated else min(row.label_count, 1)
        total[row.revision_id] += voxels * (row.series.channels * np.dtype(kind).itemsize + masks)
    return [total[entry["revision"]] for entry in entries]


def _add_manifest(growing: GrowingArchive, ledger: Ledger, options: dict[str, Any]) -> None:
    """Put together from what is told of each case: it may be larger than a worker's memory."""
    names = ("format", "labelPackType", "labelValues", "rasterizeShapes", "mhdLineEnding", "compressionFormat")
    document = {"version": MANIFEST_VERSION, "options": {name: options[name] for name in names if name in options}}
    text = dump(document, indent=True).removesuffix(b"\n}") + b',\n  "cases": ['
    newest = max(datetime.fromisoformat(case["revisionDate"]) for case in ledger.packed)
    with spool() as file:
        pieces = Pieces(file)
        for number, told in enumerate(ledger.told()):
            text += b"," * bool(number) + indent(f"\n{told}", "    ").encode()
            if len(text) >= PORTION:
                pieces.add(text)
                text = b""
        pieces.add(text + b"\n  ]\n}\n")
        growing.archive.add("manifest.json", newest, pieces.content)


def _results(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    names = ("caseId", "revisionIndex", "status", "reason")
    return [{name: case[name] for name in names if name in case} for case in cases]


def _sentence(ledger: Ledger) -> str:
    packed, failed = ledger.packed, ledger.failed
    message = f"Exported {len(packed)} case{'s' if len(packed) != 1 else ''}."
    if failed:
        message += f" {len(failed)} left out: {_reasons(failed, 'manifest.json says which.')}"
    if warned := sum(case["warned"] for case in packed):
        message += f" {warned} with warnings about geometry; manifest.json says which."
    return message


def _reasons(failed: Sequence[dict[str, Any]], where: str) -> str:
    reasons = [f"{case['folder']}: {case['reason']}" for case in failed[:MAX_REASONS]]
    if len(failed) > MAX_REASONS:
        reasons.append(f"and {len(failed) - MAX_REASONS} more; {where}")
    return " ".join(reasons)
