"""What the benchmarks work on: something like a CT, and labels on it; the same every time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = HEIGHT = 512
LABEL = (100, 100, 60)


def voxels(depth: int) -> np.ndarray:
    """Smooth anatomy, noise, air outside: int16 (z, y, x), which deflate halves."""
    random = np.random.default_rng(2024)
    z, y, x = np.ogrid[-1 : 1 : depth * 1j, -1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    volume = np.empty((depth, HEIGHT, WIDTH), np.int16)
    for k in range(depth):
        body = ((x / 0.8) ** 2 + (y / 0.6) ** 2)[0] < 1
        smooth = 60 * np.sin(7 * x[0] + 3 * z[k]) * np.cos(5 * y[0]) + 40
        clean = np.where(body, smooth, -1000.0)
        volume[k] = (clean + random.normal(0, np.where(body, 14, 6), (HEIGHT, WIDTH))).astype(np.int16)
    return volume


def masks(depth: int, count: int = 4) -> list[tuple[list[int], np.ndarray]]:
    """Ellipsoids, each in its box: origin (x, y, z) and mask (z, y, x)."""
    size = np.array([*LABEL[:2], min(LABEL[2], depth)])
    grid = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in size[::-1])]
    found = []
    for index in range(count):
        origin = [20 + 12 * index, 390 - 12 * index, (depth - int(size[2])) * index // max(count - 1, 1)]
        # No two are the same, so that none is stored for another.
        found.append((origin, sum(axis**2 for axis in grid) <= 1 - index / 100))
    return found


def write_series(folder: Path, volume: np.ndarray, uid: str) -> str:
    from tests.dicom import image

    folder.mkdir(parents=True)
    for k, pixels in enumerate(volume, 1):
        place = {
            "ImagePositionPatient": [-200, -200, 1.0 * k],
            "SeriesInstanceUID": uid,
            "SOPInstanceUID": f"{uid}.{k}",
        }
        image(k, pixels, **place).save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return uid


def members(volume: np.ndarray) -> list[np.ndarray]:
    """The raw files of an export with isolated labels."""
    parts = [volume]
    for origin, mask in masks(len(volume)):
        full = np.zeros(volume.shape, np.uint8)
        z, y, x = (slice(o, o + n) for o, n in zip(origin[::-1], mask.shape, strict=True))
        full[z, y, x] = mask
        parts.append(full)
    return parts


def make_case(user: Any, series_uid: str, depth: int, labels: int = 4) -> str:
    """A case with labels; its id."""
    from cases import label_bits
    from cases.services.blobs import store_blob
    from cases.services.cases import append_revision, create_case

    series = [{"seriesUid": series_uid, "partialVolumeDescriptor": None}]
    case = create_case(user=user, project_id="bench", series=series, tags=[])
    drawn = []
    for origin, mask in masks(depth, labels):
        data = label_bits.pack(mask)
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        store_blob(user=user, sha1=sha1, data=data)
        box = {"voxels": sha1, "origin": origin, "size": list(mask.shape[::-1])}
        drawn.append({"type": "voxel", "data": box, "attributes": {}})
    append_revision(
        user=user,
        case_id=case.case_id,
        description="",
        attributes={},
        status="draft",
        series=[{**series[0], "labels": drawn}],
    )
    return case.case_id
