"""Label voxels that may be swept, and whether they were."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from django.core.files.storage import default_storage

from cases.models import Blob, Case
from casestore import clock
from tests.world import World, revision, voxel_label

SIDE = 5


def mask(number: int) -> np.ndarray:
    """Another one for each number."""
    voxels = np.unpackbits(np.array([number], ">u4").view(np.uint8))
    return np.resize(voxels, (SIDE, SIDE, SIDE)).astype(bool)


def label(sha1: str) -> dict[str, Any]:
    return voxel_label(sha1, [0, 0, 0], [SIDE, SIDE, SIDE])


def append(world: World, case: Case, *sha1s: str) -> int:
    body = revision([{"seriesUid": "1.2.3", "labels": [label(sha1) for sha1 in sha1s]}])
    answer = world.client("annotator").post(f"/api/cases/{case.case_id}/revision", body)
    if answer.status_code == 400:
        assert answer.json()["validationErrors"][0]["message"] == "There is no such blob."
    return int(answer.status_code)


def path_of(sha1: str) -> Path:
    return Path(default_storage.path(f"blobs/{sha1[:2]}/{sha1}"))


def age(*sha1s: str, days: float = 31) -> None:
    assert Blob.objects.filter(pk__in=sha1s).update(stored_at=clock.now() - timedelta(days=days)) == len(sha1s)


def age_file(path: Path, days: float = 2) -> None:
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))


def is_whole(sha1: str) -> bool:
    """Here or gone, its row and its file alike."""
    here = Blob.objects.filter(pk=sha1).exists()
    assert path_of(sha1).exists() == here
    return here
