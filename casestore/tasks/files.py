"""The files of a task, and their removal.

They lie in the storage, under `exports/<taskId>` (made by its worker) and `uploads/<taskId>` (made before its row), and
in the spool of the host that works on it, with the task's id in their names.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage

from casestore.tasks.models import Task

logger = logging.getLogger(__name__)

EXPORTS, UPLOADS = FOLDERS = ("exports", "uploads")
SPOOLED = ("casestore-exports-", "casestore-import-")
_ID = re.compile(r"(?<![0-9a-z])[0-9a-z]{26}(?![0-9a-z])")


def id_in(name: str) -> str:
    """The task id that a file's name holds; empty where it holds none."""
    found = _ID.search(name)
    return found[0] if found else ""


def discard(task_id: str) -> None:
    """Removes every file of a task that has ended or is gone, except its result. What fails is left to the sweep."""
    kept = Task.objects.filter(task_id=task_id).values_list("result_key", flat=True).first()
    for folder in (f"{EXPORTS}/{task_id}", f"{UPLOADS}/{task_id}"):
        delete(name for name in (*stored(folder), folder) if name != kept)
    for path in spooled():
        if task_id in path.name:
            remove(path)


def stored(folder: str) -> Iterator[str]:
    """The names of all files under a folder of the storage; those of folders after what they hold."""
    try:
        folders, names = default_storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (f"{folder}/{name}" for name in names)
    for name in folders:
        yield from stored(f"{folder}/{name}")
        yield f"{folder}/{name}"


def delete(names: Iterable[str]) -> int:
    """Removes files, and folders that are empty; how many went."""
    deleted = 0
    for name in list(names):
        try:
            default_storage.delete(name)
            deleted += 1
        except Exception as error:  # Whatever the storage raises, the other files must go too.
            if not (isinstance(error, OSError) and error.errno == errno.ENOTEMPTY):
                logger.warning("a file of task %s could not be removed: %s", id_in(name), type(error).__name__)
    return deleted


def spooled() -> list[Path]:
    """What workers of this host keep in the spool."""
    folder = Path(settings.FILE_UPLOAD_TEMP_DIR)
    with contextlib.suppress(OSError):
        return [path for path in folder.iterdir() if path.name.startswith(SPOOLED)]
    return []


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
