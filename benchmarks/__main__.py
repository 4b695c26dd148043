"""`make bench`: importing and exporting CTs of 512 x 512 x 300 with four labels, beside floors of the same run.

Medians; a ratio is that of two medians. Voxels, disk and processor are the same for both sides of a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import data, floors
from benchmarks.measured import peak_of
from casestore.embedded import servers
from casestore.embedded.places import ROOT

MB = 1e6
UID = "1.2.826.0.1.3680043.8.498.100"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--depth", type=int, default=300, help="number of images (default 300)")
    parser.add_argument("--repeat", type=int, default=3, help="the median of so many runs is shown (default 3)")
    parser.add_argument("--cases", type=int, default=10, help="cases of the end-to-end export (default 10)")
    parser.add_argument(
        "--many", type=int, default=100, help="cases of the export whose memory is measured (default 100)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="casestore-bench-") as temporary:
        os.environ |= {"CASESTORE_HOME": f"{temporary}/home", "DJANGO_SETTINGS_MODULE": "casestore.settings"}
        os.environ |= {"CASESTORE_LOG_LEVEL": "ERROR", "CASESTORE_SPOOL": temporary}
        with servers(Path(temporary, "home")) as running:
            os.environ.update(running.environment)
            Bench(Path(temporary), options).run()


class Bench:
    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.volume = data.voxels(options.depth)
        self.parts = data.members(self.volume)

    def run(self) -> None:
        self.user = set_up()
        bytes_ = sum(part.nbytes for part in self.parts)
        print(
            f"A CT of {data.WIDTH} x {data.HEIGHT} x {self.options.depth}, int16, with four labels: "
            f"{self.volume.nbytes / MB:.0f} MB of voxels, {bytes_ / MB:.0f} MB of files. "
            f"Medians of {self.options.repeat}.\n"
        )
        print(f"{'':52}{'s':>8}   ratio")
        self.measure_import()
        self.case = data.make_case(self.user, UID, self.options.depth)
        self.measure_packing()
        self.measure_end_to_end()
        self.measure_memory()

    def repeated(self, work: Callable[[], float]) -> float:
        def once() -> float:
            # What was written before must not slow down what is measured now.
            os.sync()
            return work()

        return median(once() for _ in range(self.options.repeat))

    def measure_import(self) -> None:
        from cases.models import Series

        source = self.folder / "series"
        data.write_series(source, self.volume, UID)
        peaks = []

        def once() -> float:
            Series.objects.all().delete()
            seconds, peak = import_series(self.folder, source)
            peaks.append(peak)
            return seconds

        ours = self.repeated(once)
        itk = self.repeated(lambda: floors.simple_itk(source, self.folder / "x.mha"))
        show("SimpleITK: read, write compressed MetaImage", itk)
        bare = self.repeated(lambda: floors.bare_import(source, self.folder / "bare"))
        show("reading, hashing, compressing and copying alone", bare, f"{itk / bare:.2f} times as fast")
        show(
            "import",
            ours,
            f"{itk / ours:.2f} times as fast; {ours / bare:.2f} times the work alone; "
            f"{self.volume.nbytes / MB / ours:.0f} MB/s of voxels",
        )
        show("", None, f"peak of the process {max(peaks):.0f} MB")

    def measure_packing(self) -> None:
        target = self.folder / "floor"
        floor = {"tgz": self.repeated(lambda: floors.tar_gzip(self.parts, target))}
        sizes = {"tgz": target.stat().st_size}
        floor["zip"] = self.repeated(lambda: floors.zipped(self.parts, target))
        sizes["zip"] = target.stat().st_size
        igzip = self.repeated(lambda: floors.igzip_tar(self.parts, target))
        show("Python's tarfile, gzip level 6", floor["tgz"])
        show("Python's zipfile, level 6", floor["zip"])
        show("tarfile through isal's igzip, level 3", igzip)
        for kind in ("tgz", "zip"):
            self.measure_archive(kind, floor[kind], sizes[kind], igzip)
        self.level6 = floor["tgz"]

    def measure_archive(self, kind: str, floor: float, size: int, igzip: float) -> None:
        target = self.folder / "floor"
        first = self.repeated(lambda: self.pack(kind, first=True)[0])
        show(f"first export, {kind}: blocks not made yet", first, f"{floor / first:.0f} times as fast")
        later = self.repeated(lambda: self.pack(kind)[0])
        archive = self.pack(kind)[1]
        disk = self.repeated(lambda: floors.write_and_hash(archive, target))
        show(f"writing and hashing these bytes, {kind}", disk)
        show(
            f"later export, {kind}",
            later,
            f"{floor / later:.0f} times as fast; {later / disk:.2f} times writing and hashing; "
            f"{igzip / later:.1f} times igzip; {len(archive) / size:.3f} of the size of level 6",
        )

    def pack(self, kind: str, *, first: bool = False, cases: list[str] | None = None) -> tuple[float, bytes]:
        """Seconds of the packer alone, and the archive."""
        from django.core.files.storage import default_storage

        from cases.models import StoredVolume
        from casestore.tasks.models import Task
        from casestore.tasks.services import Progress
        from exports.models import ContentDigest
        from exports.packing import pack
        from exports.services import Wanted, find_cases, resolve

        if first:
            StoredVolume.objects.all().delete()
            ContentDigest.objects.all().delete()
        wanted = [Wanted(case) for case in cases or [self.case]]
        parameters = {
            "entries": resolve(find_cases(self.user, wanted, {}), wanted),
            **export_options(kind),
        }
        task = Task.objects.create(owner=self.user, name="bench", parameters=parameters)
        start = time.perf_counter()
        result = pack(task, Progress(task))
        seconds = time.perf_counter() - start
        with default_storage.open(result.key) as file:
            archive: bytes = file.read()
        default_storage.delete(result.key)
        task.delete()
        return seconds, archive

    def measure_end_to_end(self) -> None:
        """Through HTTP, Celery and the database, on series of their own."""
        cases = [self.case]
        for number in range(1, self.options.cases):
            uid = f"{UID}.{number}"
            folder = self.folder / f"series {number}"
            data.write_series(folder, self.volume + number, uid)
            import_series(self.folder, folder)
            cases.append(data.make_case(self.user, uid, self.options.depth))
        self.pack("tgz", cases=cases)
        alone = self.repeated(lambda: self.pack("tgz", cases=cases)[0])
        with worker(), web() as url:
            self.export(url, cases[:1])
            through = self.repeated(lambda: self.export(url, cases))
        show(f"{len(cases)} cases, packer alone", alone)
        floor = self.level6 * len(cases)
        show(
            f"{len(cases)} cases through HTTP, Celery and the database",
            through,
            f"{floor / through:.0f} times as fast as tarfile; {through / alone:.2f} times the packer alone",
        )

    def export(self, url: str, cases: list[str]) -> float:
        """Seconds from the request to the task's end."""
        from casestore.accounts.services import create_token

        _, token = create_token(user=self.user)
        start = time.perf_counter()
        task = ask(f"{url}/api/cases/export-mhd", token, {"caseIds": cases})["taskId"]
        while (state := ask(f"{url}/api/tasks/{task}", token))["status"] == "processing":
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        assert state["status"] == "finished", state
        ask(f"{url}/api/tasks/{task}", token, method="DELETE")
        return seconds

    def measure_memory(self) -> None:
        """Of a worker process, which has Python, Django and Celery in it: for one case and for many."""
        many = [data.make_case(self.user, UID, self.options.depth) for _ in range(self.options.many)]
        for cases in (many[:1], many):
            with worker() as pid, web() as url:
                self.export(url, cases)
                show(f"peak of the worker, {len(cases)} cases", None, f"{peak_of(pid):.0f} MB")


def ask(url: str, token: str, body: Any = None, method: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def show(name: str, seconds: float | None, ratio: str = "") -> None:
    print(f"{name:52}{'' if seconds is None else f'{seconds:.3f}':>8}   {ratio}", flush=True)


def export_options(kind: str) -> dict[str, Any]:
    return {"labelPackType": "isolated", "compressionFormat": kind, "mhdLineEnding": "lf"}


def set_up() -> Any:
    import django
    from django.core.management import call_command

    django.setup()
    from cases.provisioning import provision
    from casestore.accounts.models import User

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
    return User.objects.get(login_id="bench")


def import_series(temporary: Path, folder: Path) -> tuple[float, float]:
    """Seconds of the import itself, and peak MB of `manage.py import_dicom`."""
    command = [sys.executable, "-m", "benchmarks.measured", "import_dicom", "--domain", "bench.example", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.strip().splitlines()[-1].split()
    return float(seconds), float(peak)


@contextmanager
def worker() -> Iterator[int]:
    """One process, so that its peak is the worker's."""
    from casestore.supervisor import WORKER

    command = [sys.executable, "-m", *WORKER, "--pool=solo"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def web() -> Iterator[str]:
    from casestore.supervisor import WEB

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", *WEB, f"--bind=127.0.0.1:{port}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/api/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
