"""Cases to pack, packing them in this process, and reading what came of it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from django.core.files.storage import default_storage

from cases.image_numbers import PartialVolume
from cases.models import SeriesFile, StoredVolume
from casestore.tasks.models import Task
from casestore.tasks.services import Progress, Superseded, run_task
from exports.packing import pack
from exports.services import Wanted, request_export
from tests.dicom import SERIES_UID, write_series
from tests.test_export import make_case
from tests.test_import import run
from tests.world import World, voxel_label

ALL = PartialVolume(1, 4, 1)


OPTIONS = {"labelPackType": "isolated", "compressionFormat": "tgz", "mhdLineEnding": "lf", "strict": False}


def make_cases(world: World, tmp_path: Path) -> list[str]:
    """Three cases on series of their own, the first with labels that overlap."""
    made = []
    for number in range(3):
        uid = f"{SERIES_UID}.{number}"
        write_series(tmp_path / uid, range(1, 5), SeriesInstanceUID=uid, pixels=noise(number))
        run(tmp_path / uid, spool=tmp_path)
        made.append(make_case(world, uid, PartialVolume(4, 1, -1), labels(world) if number == 0 else []))
    return made


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, (4, 6)).astype(np.int16)


def labels(world: World) -> list[dict[str, Any]]:
    box = np.ones((2, 2, 3), bool)
    sha1 = world.blob(box)
    return [
        voxel_label(sha1, [0, 0, 0], [3, 2, 2], name="under"),
        {"type": "point", "data": {"location": [1, 1, 1]}},
        voxel_label(sha1, [2, 1, 1], [3, 2, 2], name="over"),
        voxel_label(None, [0, 0, 0], [1, 1, 1]),
    ]


class Stop(Progress):
    """Progress that is cut off when so many cases are done, as by a crash."""

    def __init__(self, task: Task, after: int) -> None:
        super().__init__(task)
        self.after = after

    def report(self, finished: int, message: str, **options: Any) -> None:
        if finished >= self.after:
            raise Superseded
        super().report(finished, message, **options)


def packed(world: World, cases: list[str], **options: Any) -> tuple[Any, bytes]:
    """The result of packing, in this process, and the archive."""
    task = make_task(world, cases, **options)
    result = pack(task, Progress(task))
    return result, content(result)


def make_task(world: World, cases: list[str], **options: Any) -> Task:
    wanted = [Wanted(case) for case in cases]
    return request_export(user=world.user("everything"), wanted=wanted, options=OPTIONS | options)


def content(result: Any) -> bytes:
    with default_storage.open(result.key) as file:
        data: bytes = file.read()
    assert (result.size, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


def files(data: bytes) -> dict[str, bytes]:
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def manifest(data: bytes) -> Any:
    return json.loads(files(data)["manifest.json"])


def break_dicom(uid: str) -> None:
    key = SeriesFile.objects.filter(series__series_uid=uid).order_by("pk")[1].storage_key
    path = Path(default_storage.path(key))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    forget_volume(uid)


def remove_dicom(uid: str) -> None:
    key = SeriesFile.objects.filter(series__series_uid=uid).order_by("pk")[1].storage_key
    Path(default_storage.path(key)).unlink()
    forget_volume(uid)


def forget_volume(uid: str) -> None:
    for row in StoredVolume.objects.filter(series__series_uid=uid):
        Path(default_storage.path(row.storage_key)).unlink()


def ended(task: Task) -> Task:
    """As a worker does it, in this process."""
    assert run_task(task.task_id, pack)
    task.refresh_from_db()
    return task


def archives() -> list[Path]:
    folder = Path(default_storage.path("exports"))
    return [path for path in folder.rglob("*") if path.is_file()]
