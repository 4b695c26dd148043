"""Files that a crash left between themselves and their rows.

A file comes first, its row after it; so a young file may be about to get its row, and an old one without will not.
"""

from __future__ import annotations

from datetime import timedelta

from django.core.files.storage import default_storage
from django.db.models import Model

from cases.models import SeriesFile, StoredVolume
from cases.services.intake import FOLDER as COPIES
from cases.services.intake import ORPHANED
from cases.services.volumes import FOLDER as VOLUMES
from casestore import clock, ids

# Folders of imports are as many as the series that ever came; the hourly sweep need not look at those of last week.
FORGOTTEN = timedelta(days=7)


def sweep_files(*, ever: bool = False) -> int:
    """Removes copies of DICOM files and volumes that nothing refers to; how many. `ever`: however old they are."""
    swept = 0
    now = clock.now()
    for folder in folders(COPIES):
        made = ids.made_at(folder)
        if made is not None and now - made > ORPHANED and (ever or now - made < FORGOTTEN):
            swept += _sweep(f"{COPIES}/{folder}", SeriesFile)
    for folder in folders(VOLUMES):
        swept += _sweep(f"{VOLUMES}/{folder}", StoredVolume)
    return swept


def _sweep(folder: str, model: type[Model]) -> int:
    names = [f"{folder}/{name}" for name in listed(folder)[1]]
    known = set(model._default_manager.filter(storage_key__in=names).values_list("storage_key", flat=True))
    swept = 0
    for name in names:
        if name not in known and is_old(name):
            default_storage.delete(name)
            swept += 1
    return swept


def is_old(name: str) -> bool:
    """Whether a file has waited so long for its row that it will not come; not where the file is gone."""
    try:
        return default_storage.get_modified_time(name) < clock.now() - ORPHANED
    except Exception:  # It is gone: whatever the storage raises.
        return False


def folders(folder: str) -> list[str]:
    return listed(folder)[0]


def listed(folder: str) -> tuple[list[str], list[str]]:
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []
