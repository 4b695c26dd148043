"""What is done now and then: results expire, old tasks go, and files that nothing refers to are removed.

Files are listed before rows are read. A file that was there while its task ran is not taken for garbage; one whose task
has ended by then is either named by its row or never will be. Of what comes first, the file or the row, follows how
young a file may be: an export's files come after its row, an upload's before it.
"""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from itertools import islice

from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models.functions import Now

from casestore import clock
from casestore.tasks import files
from casestore.tasks.models import Status, Task

GRACE = {files.EXPORTS: timedelta(hours=1), files.UPLOADS: timedelta(days=1)}
# A spool may be shared with another installation, whose tasks are unknown here.
SPOOL_GRACE = timedelta(days=1)
BATCH = 500


def sweep(*, grace: timedelta | None = None) -> int:
    """All of it; how many files and rows went. `grace` is for a quiet installation: how old a file must be."""
    return expire_results() + purge_tasks() + sweep_storage(grace=grace)


def expire_results() -> int:
    """The row first: a crash between leaves a file that nothing refers to, never a row without its file."""
    keys = []
    for pk, key in Task.objects.filter(expires_at__lte=Now()).exclude(result_key="").values_list("pk", "result_key"):
        if Task.objects.filter(pk=pk, result_key=key).update(result_key="", updated_at=Now()):
            keys.append(key)
    return files.delete(keys)


def purge_tasks() -> int:
    """Deletes the rows of tasks that ended CASESTORE_TASK_DAYS ago and have no file any more."""
    if not settings.CASESTORE_TASK_DAYS:
        return 0
    before = Now() - timedelta(days=settings.CASESTORE_TASK_DAYS)
    purged, _ = Task.objects.filter(ended_at__lt=before, result_key="").delete()
    return purged


def sweep_storage(*, grace: timedelta | None = None) -> int:
    """Removes the files of tasks that have ended or are gone, except results; how many."""
    removed = 0
    for folder in files.FOLDERS:
        names = files.stored(folder)
        while batch := list(islice(names, BATCH)):
            unwanted = _unreferred(batch)
            removed += files.delete(
                name for name in unwanted if _age(name) > (GRACE[folder] if grace is None else grace)
            )
    return removed


def _unreferred(names: list[str]) -> list[str]:
    ids = {files.id_in(name) for name in names}
    rows = Task.objects.filter(task_id__in=ids).values_list("task_id", "status", "result_key")
    living = {task_id for task_id, status, _ in rows if status == Status.PROCESSING}
    results = {key for _, _, key in rows}
    return [name for name in names if files.id_in(name) not in living and name not in results]


def _age(name: str) -> timedelta:
    try:
        return clock.now() - default_storage.get_modified_time(name)
    except Exception:  # It is gone, or a folder, which an object storage does not have: whatever it raises.
        return timedelta(0)


def sweep_spool(*, grace: timedelta = SPOOL_GRACE) -> int:
    """Removes what workers of this host that died left in the spool; how many."""
    found = {path: files.id_in(path.name) for path in files.spooled()}
    status = dict(Task.objects.filter(task_id__in=found.values()).values_list("task_id", "status"))
    removed = 0
    for path, task_id in found.items():
        with contextlib.suppress(FileNotFoundError):
            age = timedelta(seconds=time.time() - path.stat().st_mtime)
            if status[task_id] != Status.PROCESSING if task_id in status else age > grace:
                files.remove(path)
                removed += 1
    return removed
