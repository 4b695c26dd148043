"""From the revisions of a dump to rows: their series, the images of these that they use, the voxels of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rest_framework.exceptions import ValidationError

from cases.documents import revision_document, stored_revision_document
from cases.image_numbers import PartialVolume
from cases.label_bits import byte_length
from cases.models import Blob, Label, LabelType, Revision, RevisionSeries, Series
from cases.serializers.labels import SHA1, SHAPES
from cases.services.cases import Draft
from cases.services.partial_volumes import Entry, auto_volume
from casestore.errors import BadRequest
from mylists.circus.serializers import MAX_IMAGES


def equal(draft: Draft, stored: Revision) -> bool:
    """Whether a revision, of which all that it holds is prefetched, says the same."""
    rows = [
        (
            RevisionSeries(
                series=entry.series, start=entry.volume.start, end=entry.volume.end, delta=entry.volume.delta
            ),
            [
                Label(name=x.get("name"), type=x["type"], data=x["data"], attributes=x.get("attributes"))
                for x in entry.labels
            ],
        )
        for entry in draft.entries
    ]
    here, there = revision_document(draft.revision, rows), stored_revision_document(stored)
    return bool(_comparable(here) == _comparable(there))


def _comparable(value: Any) -> Any:
    """Numbers as doubles: a database gives 1e300 back as a whole number, which is not quite the same in Python."""
    if isinstance(value, dict):
        return {name: _comparable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def voxels_of(label: dict[str, Any]) -> str | None:
    """The SHA-1 of the blob that a label names."""
    sha1 = label["data"].get("voxels") if label["type"] == LabelType.VOXEL else None
    return sha1 if isinstance(sha1, str) and SHA1.match(sha1) else None


def _has_shape(label: dict[str, Any]) -> bool:
    try:
        SHAPES[label["type"]].run_validation(label["data"])
    except ValidationError:
        return False
    return True


class Resolver:
    """`series` and `blobs` are those that are here of what some records name."""

    def __init__(self, series: dict[str, Series], blobs: dict[str, Blob]) -> None:
        self.series, self.blobs = series, blobs

    def resolve(self, case: dict[str, Any], stored: Sequence[Revision], notes: list[str]) -> list[Draft]:
        """All revisions of a record; `stored` are those of the case that are here. Raises BadRequest."""
        drafts: list[Draft] = []
        date: datetime | None = case.get("createdAt")
        volumes: dict[str, PartialVolume] = {}
        for index, item in enumerate(case["revisions"]):
            path = f"revisions[{index}]"
            if item.get("date") is None:
                notes.append(f"{path}.date: There is none; it is taken to be the date before it.")
            date = item.get("date") or date
            if date is None:
                raise BadRequest(f"{path}.date: There is no date for this revision.")
            revision = Revision(
                creator=item["creator"],
                date=date,
                description=item["description"],
                status=item["status"],
                attributes=item["attributes"],
            )
            entries: list[Entry] = []
            blobs: dict[str, Blob] = {}
            if index < len(stored):
                # What a missing descriptor meant when it came, it means now.
                volumes |= {
                    row.series.series_uid: PartialVolume(row.start, row.end, row.delta)
                    for row in stored[index].series_set.all()
                }
            for position, entry in enumerate(item["series"]):
                resolved = self._entry(entry, volumes, f"{path}.series[{position}]", notes)
                volumes[resolved.series.series_uid] = resolved.volume
                entries.append(resolved)
                blobs |= self._blobs(resolved, f"{path}.series[{position}]", notes)
            drafts.append(Draft(revision, entries, blobs))
        return drafts

    def _entry(self, item: dict[str, Any], volumes: dict[str, PartialVolume], path: str, notes: list[str]) -> Entry:
        series = self.series.get(item["seriesUid"])
        if series is None:
            raise BadRequest(f"{path}.seriesUid: There is no such series.")
        path = f"{path}.partialVolumeDescriptor"
        if "partialVolumeDescriptor" in item:
            volume = _volume(item["partialVolumeDescriptor"], path)
        else:
            volume = volumes.get(series.series_uid) or auto_volume(series, path)
            notes.append(f"{path}: There is none; the series' volume of the revision before is taken, or all of it.")
        if (volume.end - volume.start) % volume.delta:
            notes.append(f"{path}: delta {volume.delta} does not lead to {volume.end} exactly.")
        missing = volume.missing_from(series.image_ranges)
        if missing is not None:
            if len(volume) > MAX_IMAGES:
                raise BadRequest(f"{path}: A partial volume has at most {MAX_IMAGES} images.")
            notes.append(f"{path}: The series has no image {missing}.")
        return Entry(series, volume, item["labels"])

    def _blobs(self, entry: Entry, path: str, notes: list[str]) -> dict[str, Blob]:
        """Of the labels whose voxels are here and fit; notes about the others."""
        found = {}
        extent = (entry.series.width, entry.series.height, len(entry.volume))
        for index, label in enumerate(entry.labels):
            place, data = f"{path}.labels[{index}].data", label["data"]
            if not _has_shape(label):
                notes.append(f"{place}: These are not the data of a {label['type']}; they are kept as they are.")
                continue
            sha1 = voxels_of(label)
            if sha1 is None:
                continue
            blob = self.blobs.get(sha1)
            if blob is None:
                notes.append(f"{place}.voxels: There is no such blob; the label is kept without its voxels.")
            elif not _fits(data, blob, extent):
                notes.append(
                    f"{place}: The voxels do not fit their box and its volume; the label is kept without them."
                )
            else:
                found[sha1] = blob
        return found


def _volume(item: dict[str, int], path: str) -> PartialVolume:
    """As it is written, if only it leads in the right direction. One image may have a delta of 0."""
    start, end, delta = item["start"], item["end"], item["delta"]
    if start == end and delta == 0:
        delta = 1
    if delta == 0 or (end - start) // delta < 0:
        raise BadRequest(f"{path}: delta {delta} does not lead from {start} to {end}.")
    return PartialVolume(start, end, delta)


def _fits(data: dict[str, Any], blob: Blob, extent: tuple[int, int, int]) -> bool:
    origin, size = ([int(x) for x in data[name]] for name in ("origin", "size"))
    inside = all(o + s <= e for o, s, e in zip(origin, size, extent, strict=True))
    return inside and byte_length(size) == blob.size
