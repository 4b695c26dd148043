"""Exports while processes are killed, at random moments, over and over: nothing lost, nothing stuck, nothing wrong.

CASESTORE_FAULT_ROUNDS=20 does more of it; CASESTORE_FAULT_SEED chooses other moments.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest

from cases import label_bits
from tests.dicom import SERIES_UID, image, write
from tests.installation import Installation, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

ROUNDS = int(os.environ.get("CASESTORE_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("CASESTORE_FAULT_SEED", "1"))
PROJECT = "faults"
SIZE, DEPTH = 192, 40
CASES = 20
USERS = ("ann", "bob", "eve")
# Ends of tasks that the servers' return leaves time for.
MINUTE = 60.0
NO_ROOM = {"There is no room left on the disk.", "A file would be larger than this system allows."}


@dataclass
class World:
    installation: Installation
    tokens: dict[str, str]
    cases: list[str]
    # Of an export of all cases, undisturbed.
    sha256: str = ""
    seconds: float = 0.0

    def export(self, user: str, cases: list[str]) -> str:
        answer = self.installation.request("POST", "/api/cases/export-mhd", {"caseIds": cases}, self.tokens[user])
        return str(answer["taskId"])

    def task(self, user: str, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.installation.request("GET", f"/api/tasks/{task_id}", token=self.tokens[user])
        return found

    def ended(self, user: str, task_id: str, within: float = MINUTE) -> dict[str, Any]:
        def look() -> Any:
            task = self.task(user, task_id)
            return task if task["status"] != "processing" else None

        found: dict[str, Any] = wait_for(look, within)
        return found

    def download(self, user: str, task: dict[str, Any]) -> bytes:
        data: bytes = wait_for(lambda: self.installation.request("GET", task["downloadUrl"], token=self.tokens[user]))
        return data

    def left(self) -> list[Path]:
        """Files of exports, and whatever lies in the spool."""
        folders = (self.installation.storage / "exports", self.installation.spool)
        return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())

    def remove(self, user: str, task_id: str) -> None:
        self.installation.request("DELETE", f"/api/tasks/{task_id}", token=self.tokens[user])


def declaration() -> str:
    group = {
        "groupName": "g",
        "privileges": ["downloadVolume"],
        "domains": ["d"],
        "roles": {PROJECT: ["read", "write"]},
    }
    users = [{"userEmail": f"{name}@example.com", "loginId": name, "groups": ["g"]} for name in USERS]
    projects = [{"projectId": PROJECT, "projectName": "Faults"}]
    # YAML takes JSON.
    return json.dumps({"domains": ["d"], "projects": projects, "groups": [group], "users": users})


def write_series(folder: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 200, (DEPTH, SIZE, SIZE)).astype(np.int16)
    for number, pixels in enumerate(noise, 1):
        write(image(number, pixels), folder / f"{number}.dcm")


def fill(installation: Installation, folder: Path) -> World:
    (folder / "world.yaml").write_text(declaration())
    installation.manage("provision", str(folder / "world.yaml"))
    tokens = {name: installation.manage("create_token", f"{name}@example.com").strip() for name in USERS}
    write_series(folder / "in")
    installation.manage("import_dicom", "--domain", "d", str(folder / "in"))
    bits = label_bits.pack(np.random.default_rng(2).random((10, 60, 60)) < 0.5)
    sha1 = hashlib.sha1(bits).hexdigest()
    installation.request("PUT", f"/api/blob/{sha1}", bits, tokens["ann"])
    label = {"type": "voxel", "data": {"voxels": sha1, "origin": [20, 30, 5], "size": [60, 60, 10]}}
    series = [{"seriesUid": SERIES_UID, "labels": [label]}]
    cases = []
    for _ in range(CASES):
        body = {"projectId": PROJECT, "series": [{"seriesUid": SERIES_UID}]}
        case_id = installation.request("POST", "/api/cases", body, tokens["ann"])["caseId"]
        revision = {"description": "", "attributes": {}, "status": "s", "series": series}
        installation.request("POST", f"/api/cases/{case_id}/revision", revision, tokens["ann"])
        cases.append(case_id)
    return World(installation, tokens, cases)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    installation = Installation(folder / "home")
    try:
        installation.start()
        world = fill(installation, folder)
        task_id = world.export("ann", world.cases)
        start = time.monotonic()
        task = world.ended("ann", task_id)
        world.seconds = time.monotonic() - start
        assert task["status"] == "finished", task
        world.sha256 = task["sha256"]
        assert hashlib.sha256(world.download("ann", task)).hexdigest() == world.sha256
        world.remove("ann", task_id)
        assert world.left() == []
        yield world
    finally:
        installation.stop()


def faults(world: World, choose: random.Random) -> list[tuple[str, Callable[[], None]]]:
    installation = world.installation
    number = choose.choice([signal.SIGQUIT, signal.SIGKILL])
    found: list[tuple[str, Callable[[], None]]] = [
        ("a worker's child", lambda: installation.kill_a_child_of_the_worker(choose.choice)),
        ("the worker", installation.kill_the_worker),
        ("the worker, asked to stop", installation.stop_the_worker),
        ("the broker", installation.kill_the_broker),
        (f"the database, {number.name}", lambda: installation.kill_the_database(number)),
    ]
    choose.shuffle(found)
    return found


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_no_export_is_lost_stuck_or_wrong(world: World, round_number: int) -> None:
    choose = random.Random(SEED * 1000 + round_number)
    # Two run at a time, and of one user's three the third waits for its turn.
    tasks = [(user, world.export(user, world.cases)) for user in (*USERS, *USERS, USERS[0])]
    busy = world.seconds * len(tasks) / 2
    happened = []
    start = time.monotonic()
    moments = sorted(choose.uniform(0, busy) for _ in range(5))
    for moment, (name, fault) in zip(moments, faults(world, choose), strict=True):
        time.sleep(max(0.0, start + moment - time.monotonic()))
        happened.append(f"{name} at {time.monotonic() - start:.1f} s")
        fault()
    # The services are back: a minute for what was being done, and then their turn for those who wait.
    deadline = time.monotonic() + MINUTE + 2 * busy
    for user, task_id in tasks:
        task = world.ended(user, task_id, deadline - time.monotonic())
        assert task["status"] == "finished", (task, happened)
        assert task["sha256"] == world.sha256, happened
        assert hashlib.sha256(world.download(user, task)).hexdigest() == world.sha256, happened
    world.installation.manage("sweep_tasks", "--now")
    assert len(world.left()) == len(tasks), (world.left(), happened)
    for user, task_id in tasks:
        wait_for(lambda user=user, task_id=task_id: world.remove(user, task_id) or True)
    assert world.left() == []


def test_a_worker_that_is_asked_to_stop_hands_back_what_it_does(world: World) -> None:
    installation = world.installation
    task_id = world.export("ann", world.cases)
    wait_for(lambda: world.task("ann", task_id)["message"].startswith("Packing"))
    worker = installation.processes["worker"]
    worker.terminate()
    assert worker.wait(MINUTE) == 0
    task = world.task("ann", task_id)
    assert (task["status"], task["message"]) == ("processing", "Waiting for a worker.")
    installation.kill("worker")
    installation.start_worker()
    assert world.ended("ann", task_id)["sha256"] == world.sha256
    world.remove("ann", task_id)


def test_a_cancelled_export_stops_and_leaves_nothing(world: World) -> None:
    choose = random.Random(SEED)
    for _ in range(3):
        task_id = world.export("ann", world.cases)
        time.sleep(choose.uniform(0, world.seconds))
        if world.task("ann", task_id)["status"] == "processing":
            world.remove("ann", task_id)
            try:
                world.task("ann", task_id)
            except HTTPError as error:
                if error.code != 404:
                    raise
                # It ended just before, and so its row was removed.
                continue
        task = world.ended("ann", task_id)
        assert task["errorMessage"] in {None, "Cancelled by its owner."}
        if task["status"] == "finished":
            world.remove("ann", task_id)
    # The worker is free for others, and its files are gone.
    other = world.export("ann", world.cases[:1])
    assert world.ended("ann", other)["status"] == "finished"
    world.remove("ann", other)
    wait_for(lambda: world.left() == [])


@pytest.fixture
def little_room(world: World, tmp_path: Path) -> Iterator[None]:
    """Exports and spool on a file system of 8 MB; where it may not be mounted, the worker's files are limited to that."""
    installation = world.installation
    exports = installation.storage / "exports"
    room = tmp_path / "room"
    room.mkdir()
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(room)], capture_output=True, check=False
    ).returncode
    installation.kill("worker")
    if mounted:
        for folder in (exports, installation.spool):
            if folder.exists():
                folder.rmdir()
            (room / folder.name).mkdir()
            folder.symlink_to(room / folder.name)
    else:
        installation.limits = ["prlimit", f"--fsize={8 * 2**20}"]
    installation.start_worker()
    try:
        yield
    finally:
        installation.limits = []
        installation.kill("worker")
        if mounted:
            for folder in (exports, installation.spool):
                folder.unlink()
                folder.mkdir()
            subprocess.run(["umount", "--lazy", str(room)], check=True)
        installation.start_worker()


def test_a_full_disk(world: World, little_room: None) -> None:
    for _ in range(2):
        task_id = world.export("ann", world.cases)
        task = world.ended("ann", task_id)
        assert (task["status"], task["errorMessage"] in NO_ROOM) == ("error", True), task
        assert world.left() == []
        # What fits is exported.
        small = world.export("ann", world.cases[:1])
        assert world.ended("ann", small)["status"] == "finished"
        for each in (task_id, small):
            world.remove("ann", each)
        assert world.left() == []
