"""Image numbers of a series, and the partial volumes that are made of them. Plain integers, no Django.

A series' images are written as in `1-100,102`: inclusive ranges, ascending. A partial volume names the images
start, start + delta … end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MAX_RANGES = 100_000
MAX_NUMBER = 2**31 - 1
_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?\Z", re.ASCII)

Ranges = tuple[tuple[int, int], ...]


def parse_image_numbers(text: str) -> Ranges:
    """Inclusive ranges, ascending, neither overlapping nor touching. Raises ValueError with a sentence."""
    found = []
    parts = text.split(",", MAX_RANGES)
    if len(parts) > MAX_RANGES:
        raise ValueError(f"There are more than {MAX_RANGES} ranges of image numbers.")
    for part in parts:
        match = _RANGE.match(part.strip())
        if match is None:
            raise ValueError('Image numbers must be of the form "1-100,102".')
        first = int(match[1])
        last = int(match[2] or first)
        if last < first or last > MAX_NUMBER:
            raise ValueError(f"{first}-{last} is not a range of image numbers.")
        found.append((first, last))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def format_image_numbers(numbers: Iterable[int]) -> str:
    """The shortest text that `parse_image_numbers` reads as these numbers."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


@dataclass(frozen=True, slots=True)
class PartialVolume:
    """The images start, start + delta … end of a series; delta is negative where the volume runs backwards."""

    start: int
    end: int
    delta: int

    def validate(self) -> None:
        """Raises ValueError with a sentence."""
        if self.start < 1 or self.end < 1:
            raise ValueError("start and end must be positive.")
        if self.delta == 0:
            raise ValueError("delta must not be 0.")
        span = self.end - self.start
        if span % self.delta or span // self.delta < 0:
            raise ValueError(f"delta {self.delta} does not lead from {self.start} to {self.end}.")

    def __len__(self) -> int:
        return (self.end - self.start) // self.delta + 1

    def numbers(self) -> range:
        return range(self.start, self.end + (1 if self.delta > 0 else -1), self.delta)

    def missing_from(self, ranges: Ranges) -> int | None:
        """The lowest of the volume's image numbers that none of the ranges holds; None where all are there.

        Costs as much as there are ranges, however long the volume claims to be.
        """
        low, high, step = min(self.start, self.end), max(self.start, self.end), abs(self.delta)
        wanted = low
        for first, last in ranges:
            if wanted > high or wanted < first:
                break
            if wanted <= last:
                wanted += ((last - wanted) // step + 1) * step
        return wanted if wanted <= high else None


def auto_partial_volume(ranges: Ranges, z_of: Callable[[int], float | None]) -> PartialVolume:
    """The first contiguous run of image numbers from 1 on, ordered from head to feet.

    Ascending where the first image's z (third value of Image Position (Patient), PS3.3 C.7.6.2.1.1; LPS, so that it
    grows towards the head) is at least the last one's, or where either has none; else descending. Raises ValueError
    where no image has a positive number.
    """
    runs: Sequence[tuple[int, int]] = [(max(first, 1), last) for first, last in ranges if last >= 1]
    if not runs:
        raise ValueError("The series has no image with a positive number.")
    first, last = runs[0]
    return PartialVolume(last, first, -1) if from_feet(z_of(first), z_of(last)) else PartialVolume(first, last, 1)


def from_feet(first_z: float | None, last_z: float | None) -> bool:
    """Whether images whose first and last one are there run from the feet to the head."""
    return first_z is not None and last_z is not None and first_z < last_z
