"""From planes to a volume: spacing, origin, direction, and warnings that say by how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases.geometry import IDENTITY, Plane, volume_geometry

AXIAL = (1.0, 0, 0, 0, 1.0, 0)


def planes(zs: list[float], **more: Any) -> list[Plane]:
    base: dict[str, Any] = {"orientation": AXIAL, "spacing": (0.5, 0.75)} | more
    return [Plane(number=n, position=(1.0, 2.0, z), **base) for n, z in enumerate(zs, 1)]


def test_a_regular_volume() -> None:
    geometry = volume_geometry(planes([10, 12.5, 15, 17.5]))
    assert geometry.spacing == (0.5, 0.75, 2.5)
    assert geometry.origin == (1.0, 2.0, 10.0)
    assert geometry.direction == IDENTITY
    assert geometry.warnings == ()


def test_the_normal_is_negated_where_the_volume_runs_against_it() -> None:
    geometry = volume_geometry(planes([10, 8, 6]))
    assert geometry.origin[2] == 10
    assert geometry.direction == (1, 0, 0, 0, 1, 0, 0, 0, -1)
    assert geometry.spacing[2] == 2


def test_oblique_planes_give_an_orthonormal_matrix() -> None:
    row = np.array([0.9, 0.3, 0.1])
    row /= np.linalg.norm(row)
    normal = np.cross(row, [0, 0.2, 1.0])
    normal /= np.linalg.norm(normal)
    column = np.cross(normal, row)
    rounded = tuple(np.round([*row, *column], 4))
    at = [Plane(k, tuple(normal * 3 * k), rounded, (1.0, 1.0)) for k in range(1, 6)]
    geometry = volume_geometry(at)
    matrix = np.array(geometry.direction).reshape(3, 3)
    assert np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-15)
    assert np.allclose(matrix, np.column_stack([row, column, normal]), atol=2e-4)
    assert geometry.spacing[2] == pytest.approx(3, abs=1e-6)
    assert geometry.warnings == ()


def test_uneven_spacing_says_by_how_much() -> None:
    geometry = volume_geometry(planes([0, 2, 4, 8, 10]))
    assert geometry.spacing[2] == 2
    (warning,) = geometry.warnings
    assert "unevenly spaced" in warning
    assert "2 to 4 mm" in warning
    assert "up to 2 mm" in warning


def test_shear_says_by_how_much() -> None:
    sheared = [Plane(k, (0.0, 0.5 * k, 2.0 * k), AXIAL, (1.0, 1.0), tilt=-14.0) for k in range(4)]
    geometry = volume_geometry(sheared)
    assert geometry.spacing[2] == 2
    assert geometry.origin == (0, 0, 0)
    tilt, shear = geometry.warnings
    assert "-14 degrees" in tilt
    assert "1.5 mm" in shear


def test_time_series() -> None:
    by_time = volume_geometry(planes([0, 5, 10, 0, 5, 10]))
    assert by_time.spacing[2] == 5
    assert any("6 images at 3 positions" in warning for warning in by_time.warnings)
    by_place = volume_geometry(planes([10, 10, 10, 5, 5, 5, 0, 0, 0]))
    assert by_place.spacing[2] == 5
    assert by_place.direction[8] == -1


def test_missing_images_are_named() -> None:
    gapped = [Plane(n, (0, 0, float(n)), AXIAL, (1.0, 1.0)) for n in (1, 2, 5, 6, 8)]
    assert any("3-4, 7" in warning for warning in volume_geometry(gapped).warnings)
    every_second = [Plane(n, (0, 0, float(n)), AXIAL, (1.0, 1.0)) for n in (9, 7, 5)]
    assert volume_geometry(every_second, step=-2).warnings == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"position": None}, "No image has a position"), ({"orientation": None}, "No image has a position")],
)
def test_a_plain_stack(changes: dict[str, Any], says: str) -> None:
    base: dict[str, Any] = {"position": (1.0, 2.0, 3.0), "orientation": AXIAL, "spacing": (0.5, 0.75)} | changes
    geometry = volume_geometry([Plane(n, **base) for n in (1, 2)])
    assert geometry.spacing == (0.5, 0.75, 1.0)
    assert geometry.direction == IDENTITY
    assert geometry.origin == ((1.0, 2.0, 3.0) if base["position"] else (0, 0, 0))
    assert any(says in warning and "plain stack" in warning for warning in geometry.warnings)


def test_mixed_orientations_take_the_first_images() -> None:
    coronal = (1.0, 0, 0, 0, 0, -1.0)
    geometry = volume_geometry([Plane(1, (1.0, 2, 3), coronal, (2.0, 2.0)), Plane(2, (4.0, 5, 6), AXIAL, (2.0, 2.0))])
    assert geometry.origin == (1, 2, 3)
    assert geometry.direction == (1, 0, 0, 0, 0, 1, 0, -1, 0)
    assert geometry.spacing == (2, 2, 1)
    assert any("mixed orientations" in warning for warning in geometry.warnings)


def test_some_without_position_is_no_volume() -> None:
    some = [Plane(1, (0, 0, 0), AXIAL, (1.0, 1.0)), Plane(2, None, AXIAL, (1.0, 1.0))]
    assert any("1 of 2 images" in warning for warning in volume_geometry(some).warnings)


def test_single_images() -> None:
    one = planes([5.0], thickness=3.0)
    assert volume_geometry(one).spacing[2] == 3
    assert volume_geometry(one, fallback_z=2.5).spacing[2] == 2.5
    assert volume_geometry(planes([5.0])).spacing[2] == 1


def test_pixel_spacing() -> None:
    assert volume_geometry(planes([0, 1], spacing=None)).spacing[:2] == (1, 1)
    assert any("no pixel spacing" in w for w in volume_geometry(planes([0, 1], spacing=None)).warnings)
    differing = [planes([0])[0], Plane(2, (1.0, 2.0, 1.0), AXIAL, (0.5, 0.8))]
    assert any("differs" in w and "0.05 mm" in w for w in volume_geometry(differing).warnings)
