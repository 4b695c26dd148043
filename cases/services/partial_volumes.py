"""From the series of a request to rows: which series, which of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cases.image_numbers import PartialVolume, auto_partial_volume
from cases.models import Series
from casestore.accounts.models import User
from casestore.errors import BadRequest, Problem


@dataclass(frozen=True, slots=True)
class Entry:
    """A checked series of a request: every image of `volume` is in `series`."""

    series: Series
    volume: PartialVolume
    labels: list[dict[str, Any]]


def resolve_entries(
    *,
    user: User,
    series: Sequence[dict[str, Any]],
    domains: Sequence[str] = (),
    previous: dict[str, PartialVolume] | None = None,
) -> list[Entry]:
    """Checks that the series exist for this user, share a domain (that of the case, if any) and have the images.

    An entry without a descriptor takes the one of `previous`, else "auto". Raises BadRequest.
    """
    uids = {item["seriesUid"] for item in series}
    known = {row.series_uid: row for row in Series.objects.visible_to(user).filter(series_uid__in=uids)}
    entries = []
    for index, item in enumerate(series):
        place = f"series[{index}]"
        row = known.get(item["seriesUid"])
        if row is None:
            raise _refusal(f"{place}.seriesUid", "There is no such series.")
        entries.append(Entry(row, _volume(row, item, previous or {}, place), item.get("labels", [])))
    _check_one_domain(entries, domains)
    return entries


def _volume(series: Series, item: dict[str, Any], previous: dict[str, PartialVolume], place: str) -> PartialVolume:
    path = f"{place}.partialVolumeDescriptor"
    volume: PartialVolume | None = item.get("partialVolumeDescriptor")
    if "partialVolumeDescriptor" not in item:
        volume = previous.get(series.series_uid)
    if volume is None:
        return auto_volume(series, path)
    missing = volume.missing_from(series.image_ranges)
    if missing is not None:
        raise _refusal(path, f"The series has no image {missing}; it has {shorten(series.images)}.")
    return volume


def auto_volume(series: Series, path: str) -> PartialVolume:
    def z_of(number: int) -> float | None:
        position = series.image_set.filter(number=number).values_list("position", flat=True).first()
        return position[2] if position else None

    try:
        return auto_partial_volume(series.image_ranges, z_of)
    except ValueError as error:
        raise _refusal(path, str(error)) from None


def _check_one_domain(entries: Sequence[Entry], domains: Sequence[str]) -> None:
    found = {entry.series.domain_id for entry in entries}
    if len(found) > 1:
        raise _refusal("series", "All series of a case must be of the same domain.")
    if domains and not found <= set(domains):
        raise _refusal("series", "The series are not of the domain of this case.")


def shorten(images: str, length: int = 100) -> str:
    return images if len(images) <= length else images[: length - 1] + "…"


def _refusal(path: str, message: str) -> BadRequest:
    return BadRequest(f"{path}: {message}", problems=[Problem(path, message)])
