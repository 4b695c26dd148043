"""Where the voxels of a volume are: DICOM planes into spacing, origin and direction. numpy only, no Django.

Coordinates are mm in DICOM's LPS (PS3.3 C.7.6.2): x towards the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# Direction cosines are decimal strings of at most 16 characters; scanners round them to about six digits.
SAME_ORIENTATION = 1e-3
# Deviations from a regular grid that are worth a warning, mm and degrees.
TOLERANCE = 0.01
TILTED = 0.01

INTEGER_TYPES = ("int16", "uint16", "int32")


@dataclass(frozen=True, slots=True)
class Plane:
    """One image. `orientation` holds the row's, then the column's direction cosines; `spacing` is (x, y)."""

    number: int
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float | None = None
    tilt: float = 0.0


@dataclass(frozen=True, slots=True)
class VolumeGeometry:
    """`direction` is an orthonormal 3x3 matrix, row by row, whose columns are the directions of x, y and z."""

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def volume_geometry(planes: Sequence[Plane], *, step: int = 1, fallback_z: float | None = None) -> VolumeGeometry:
    """The geometry of a volume whose slice k is `planes[k]`; what does not fit a regular grid becomes a warning.

    `step` is the distance of consecutive image numbers; `fallback_z` the spacing of a volume that has one image.
    """
    first = planes[0]
    warnings = [*_missing(planes, step), *_tilt(planes), *_in_plane(planes)]
    axes = None if first.orientation is None else _axes(first.orientation)
    problem = _why_no_volume(planes, axes)
    if problem or axes is None or first.position is None:
        return VolumeGeometry(
            spacing=(*_in_plane_spacing(first), 1.0),
            origin=_triple(first.position or (0.0, 0.0, 0.0)),
            direction=IDENTITY if axes is None else _matrix(*axes),
            warnings=(*warnings, f"{problem} The images are a plain stack."),
        )
    row, column, normal = axes
    offsets = np.array([plane.position for plane in planes]) - np.array(first.position)
    along = offsets @ normal
    if _runs_against(along):
        normal, along = -normal, -along
    z, distances = _slice_spacing(first, along, fallback_z)
    warnings += _repeated(offsets)
    warnings += _uneven(along, distances, z)
    warnings += _sheared(offsets, normal, along)
    return VolumeGeometry(
        spacing=(*_in_plane_spacing(first), z),
        origin=_triple(first.position),
        direction=_matrix(row, column, normal),
        warnings=tuple(warnings),
    )


def element_type(minimum: float, maximum: float, integral: bool, channels: int) -> str:
    """numpy name of the exported type: int16 if every value fits, else the first of uint16, int32, float32 that does.

    Colour is uint8.
    """
    if channels == 3:
        return "uint8"
    if integral:
        for name in INTEGER_TYPES:
            limits = np.iinfo(name)
            if limits.min <= minimum and maximum <= limits.max:
                return name
    return "float32"


def _axes(orientation: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Row, column and their cross product, orthonormal; None where the cosines span no plane."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.isfinite([*row, *column]).all() or min(lengths) < 0.5:
        return None
    row /= lengths[0]
    # Rounded cosines are not quite perpendicular; the row keeps its direction.
    column -= row * (row @ column)
    length = np.linalg.norm(column)
    if length < 0.5:
        return None
    column /= length
    return row, column, np.cross(row, column)


def _why_no_volume(planes: Sequence[Plane], axes: object) -> str | None:
    if axes is None or any(plane.orientation is None or plane.position is None for plane in planes):
        with_place = sum(plane.orientation is not None and plane.position is not None for plane in planes)
        if with_place == 0:
            return "No image has a position and an orientation."
        if with_place == len(planes):
            return "The direction cosines of the first image span no plane."
        return f"{len(planes) - with_place} of {len(planes)} images have no position or no orientation."
    orientations = np.array([plane.orientation for plane in planes])
    deviation = np.abs(orientations - orientations[0]).max()
    if deviation > SAME_ORIENTATION:
        return f"The images have mixed orientations (direction cosines differ by up to {deviation:.4g})."
    return None


def _runs_against(along: np.ndarray) -> bool:
    """Whether most steps go against the normal. Of a time series the jump back to its first position is one of few."""
    steps = np.diff(along)
    steps = steps[np.abs(steps) > TOLERANCE]
    if not steps.size:
        return False
    return bool((np.median(steps) or along[-1]) < 0)


def _slice_spacing(first: Plane, along: np.ndarray, fallback: float | None) -> tuple[float, np.ndarray]:
    """The median distance of consecutive images along the normal, and all of the distances."""
    distances = np.abs(np.diff(along))
    moved = distances[distances > TOLERANCE]
    for candidates in (distances, moved):
        if candidates.size and (median := float(np.median(candidates))) > TOLERANCE:
            return median, distances
    for value in (fallback, first.thickness, 1.0):
        if value is not None and value > 0:
            break
    return float(value or 1.0), distances


def _missing(planes: Sequence[Plane], step: int) -> list[str]:
    numbers = sorted(plane.number for plane in planes)
    gaps = []
    for low, high in pairwise(numbers):
        if high - low > abs(step):
            gaps.append(f"{low + 1}-{high - 1}" if high - low > 2 else str(low + 1))
    if not gaps:
        return []
    shown = ", ".join(gaps[:5]) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
    return [f"Images are missing between {numbers[0]} and {numbers[-1]}: {shown}."]


def _tilt(planes: Sequence[Plane]) -> list[str]:
    tilt = max((plane.tilt for plane in planes), key=abs)
    return [f"The gantry was tilted by {tilt:.4g} degrees."] if abs(tilt) > TILTED else []


def _in_plane(planes: Sequence[Plane]) -> list[str]:
    spacings = {plane.spacing for plane in planes}
    if spacings == {None}:
        return ["The images have no pixel spacing; 1 mm is assumed."]
    if None in spacings:
        return ["Some images have no pixel spacing."]
    values = np.array(list(spacings))
    deviation = np.ptp(values, axis=0).max()
    return [f"The pixel spacing differs between images by up to {deviation:.4g} mm."] if deviation > 1e-4 else []


def _repeated(offsets: np.ndarray) -> list[str]:
    if len(offsets) == 1:
        return []
    distinct = len(np.unique(np.rint(offsets / TOLERANCE), axis=0))
    if distinct == len(offsets):
        return []
    return [f"Several images are at one position: {len(offsets)} images at {distinct} positions."]


def _uneven(along: np.ndarray, distances: np.ndarray, z: float) -> list[str]:
    deviation = np.abs(along - z * np.arange(len(along))).max()
    if deviation <= TOLERANCE:
        return []
    warning = (
        f"The images are unevenly spaced: distances along the normal are {distances.min():.4g} to "
        f"{distances.max():.4g} mm, their median is {z:.4g} mm; an image lies up to {deviation:.4g} mm from its slice."
    )
    return [warning]


def _sheared(offsets: np.ndarray, normal: np.ndarray, along: np.ndarray) -> list[str]:
    sideways = np.linalg.norm(offsets - np.outer(along, normal), axis=1).max()
    if sideways <= TOLERANCE:
        return []
    return [f"The images are sheared: one lies up to {sideways:.4g} mm beside the normal through the first."]


def _in_plane_spacing(plane: Plane) -> tuple[float, float]:
    if plane.spacing is None:
        return 1.0, 1.0
    return float(plane.spacing[0]), float(plane.spacing[1])


def _matrix(row: np.ndarray, column: np.ndarray, normal: np.ndarray) -> tuple[float, ...]:
    # Adding 0 turns -0.0 into 0.0.
    return tuple(float(value) + 0.0 for value in np.column_stack([row, column, normal]).ravel())


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)
