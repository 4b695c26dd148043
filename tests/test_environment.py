"""What is read of the environment, and what is made where it says nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from casestore import environment


@pytest.mark.parametrize("emptied", [False, True])
def test_processes_that_start_at_once_have_the_same_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emptied: bool
) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    for number in range(50):
        home, together = tmp_path / str(number), Barrier(8)
        if emptied:
            home.mkdir()
            (home / "secret_key").touch(0o600)

        def start(home: Path = home, together: Barrier = together) -> str:
            together.wait()
            return environment.secret_key(home)

        with ThreadPoolExecutor(8) as pool:
            keys = {future.result() for future in [pool.submit(start) for _ in range(8)]}
        assert len(keys) == 1
        assert len(keys.pop()) >= 50
        assert (home / "secret_key").stat().st_mode & 0o777 == 0o600
