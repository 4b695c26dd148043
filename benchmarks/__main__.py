"""`make bench`: importing and exporting a CT of 512 x 512 x 300 with four labels.

Voxels per second, peak memory of the importer and of a real Celery worker, and beside them a floor: `tar` of the same
bytes through isal's igzip at the level of the same number.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from casestore.embedded import servers
from casestore.embedded.places import ROOT

WIDTH = HEIGHT = 512
MB = 1e6


def voxels(depth: int) -> np.ndarray:
    """Something like a CT: smooth anatomy, noise of a few HU, air outside. int16 (z, y, x), the same every time."""
    random = np.random.default_rng(2024)
    z, y, x = np.ogrid[-1 : 1 : depth * 1j, -1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    volume = np.full((depth, HEIGHT, WIDTH), -1000, np.int16)
    for k in range(depth):
        body = ((x / 0.8) ** 2 + (y / 0.6) ** 2)[0] < 1
        smooth = 60 * np.sin(7 * x[0] + 3 * z[k]) * np.cos(5 * y[0]) + 40
        noise = random.normal(0, 12, (HEIGHT, WIDTH))
        volume[k][body] = (smooth + noise)[body].astype(np.int16)
    return volume


def masks(depth: int) -> list[tuple[list[int], np.ndarray]]:
    """Four ellipsoids, each in its box: origin (x, y, z) and mask (z, y, x)."""
    found = []
    for index in range(4):
        size = np.array([120 + 20 * index, 90, depth // 2])
        grid = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in size[::-1])]
        origin = [60 + 60 * index, 100 + 50 * index, depth // 5]
        found.append((origin, sum(axis**2 for axis in grid) <= 1))
    return found


def write_series(folder: Path, volume: np.ndarray) -> str:
    from tests.dicom import SERIES_UID, image

    for k, pixels in enumerate(volume, 1):
        place = {"ImagePositionPatient": [-200, -200, 1.0 * k], "SeriesInstanceUID": SERIES_UID}
        image(k, pixels, **place).save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return SERIES_UID


def peak_of(pid: int) -> float:
    """Peak resident memory in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / MB


def import_series(folder: Path) -> tuple[float, float]:
    """Seconds and peak MB of `manage.py import_dicom`, start of Python included."""
    command = [sys.executable, "-m", "benchmarks.measured", "import_dicom", "--domain", "bench.example", str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(done.stdout.strip().splitlines()[-1])


def floor(parts: list[np.ndarray], level: int) -> float:
    """Seconds of Python's tarfile through igzip, for the same uncompressed bytes."""
    import io
    import tarfile

    from isal import igzip

    start = time.perf_counter()
    with (
        tempfile.TemporaryFile() as file,
        igzip.IGzipFile(fileobj=file, mode="wb", compresslevel=level) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", bufsize=2**20) as archive,
    ):
        for index, part in enumerate(parts):
            info = tarfile.TarInfo(f"{index}.raw")
            info.size = part.nbytes
            archive.addfile(info, io.BytesIO(memoryview(part).cast("B")))
    return time.perf_counter() - start


def set_up(volume: np.ndarray, series_uid: str) -> tuple[Any, str]:
    from cases import label_bits
    from cases.services.blobs import store_blob
    from cases.services.cases import append_revision, create_case
    from casestore.accounts.models import User

    user = User.objects.get(login_id="bench")
    series = [{"seriesUid": series_uid, "partialVolumeDescriptor": None}]
    case = create_case(user=user, project_id="bench", series=series, tags=[])
    labels = []
    for origin, mask in masks(len(volume)):
        data = label_bits.pack(mask)
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        store_blob(user=user, sha1=sha1, data=data)
        box = {"voxels": sha1, "origin": origin, "size": list(mask.shape[::-1])}
        labels.append({"type": "voxel", "data": box, "attributes": {}})
    append_revision(
        user=user,
        case_id=case.case_id,
        description="",
        attributes={},
        status="draft",
        series=[{**series[0], "labels": labels}],
    )
    return user, case.case_id


def export(user: Any, case_id: str, **options: str) -> float:
    from casestore.tasks.models import Status, Task
    from exports.services import Wanted, request_export

    start = time.perf_counter()
    task = request_export(user=user, wanted=[Wanted(case_id)], options={"mhdLineEnding": "lf", **options})
    while (state := Task.objects.get(pk=task.pk)).status == Status.PROCESSING:
        time.sleep(0.005)
    assert state.status == Status.FINISHED, state.error_message
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--depth", type=int, default=300, help="number of images (default 300)")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs is shown (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="casestore-bench-") as temporary:
        os.environ |= {"CASESTORE_HOME": f"{temporary}/home", "DJANGO_SETTINGS_MODULE": "casestore.settings"}
        os.environ["CASESTORE_LOG_LEVEL"] = "ERROR"
        with servers(Path(temporary, "home")) as running:
            os.environ.update(running.environment)
            measure(Path(temporary), options.depth, options.repeat)


def measure(temporary: Path, depth: int, repeat: int) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    from cases.models import Series
    from cases.provisioning import provision
    from casestore.supervisor import WORKER

    call_command("migrate", verbosity=0)
    group = {"groupName": "bench", "privileges": ["downloadVolume"], "domains": ["bench.example"]}
    provision(
        {
            "domains": ["bench.example"],
            "projects": [{"projectId": "bench", "projectName": "Bench"}],
            "groups": [{**group, "roles": {"bench": ["read", "write"]}}],
            "users": [{"userEmail": "bench@bench.example", "loginId": "bench", "groups": ["bench"]}],
        }
    )
    volume = voxels(depth)
    folder = temporary / "series"
    folder.mkdir()
    series_uid = write_series(folder, volume)
    print(f"A CT of {WIDTH} x {HEIGHT} x {depth}, int16: {volume.nbytes / MB:.0f} MB of voxels. Best of {repeat}.\n")
    print(f"{'':34}{'s':>8}{'MB/s of voxels':>17}{'of the floor':>15}{'peak MB':>10}")

    def show(name: str, seconds: float, ratio: float | None = None, peak: float | None = None) -> None:
        columns = [f"{seconds:8.2f}", f"{volume.nbytes / MB / seconds:17.0f}"]
        columns += [f"{ratio:14.2f}x" if ratio else " " * 15, f"{peak:10.0f}" if peak else ""]
        print(f"{name:34}{''.join(columns)}", flush=True)

    runs = []
    for _ in range(repeat):
        Series.objects.all().delete()
        runs.append(import_series(folder))
    show("import", min(s for s, _ in runs), peak=max(p for _, p in runs))
    user, case_id = set_up(volume, series_uid)
    full = [volume, *(np.zeros(volume.shape, np.uint8) for _ in range(4))]
    for painted, (origin, mask) in zip(full[1:], masks(depth), strict=True):
        z, y, x = (slice(o, o + n) for o, n in zip(origin[::-1], mask.shape, strict=True))
        painted[z, y, x] = mask
    # One process, so that its peak is the worker's.
    command = [sys.executable, "-m", *WORKER, "--pool=solo"]
    worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        export(user, case_id, labelPackType="isolated", compressionFormat="tgz")
        floors = {
            "isolated": min(floor(full, 3) for _ in range(repeat)),
            "combined": min(floor(full[:2], 3) for _ in range(repeat)),
        }
        for kind in ("isolated", "combined"):
            show(f"floor: tar through igzip, {kind}", floors[kind])
            for compression in ("tgz", "zip"):
                chosen = {"labelPackType": kind, "compressionFormat": compression}
                seconds = min(export(user, case_id, **chosen) for _ in range(repeat))
                show(f"export {compression}, {kind}", seconds, seconds / floors[kind], peak_of(worker.pid))
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
