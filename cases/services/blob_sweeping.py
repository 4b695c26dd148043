"""Blobs that no label refers to, and files of none: removed when they are old.

A blob goes in two transactions, its row and then its file, and each has the blob's name to itself, as whoever stores it
has. So a file goes only while it has no row, and nobody is about to make one because the file is there. What a crash
leaves between them is a file without a row, and a later sweep finds it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Collate

from cases.models import Blob, Label, LabelType
from cases.services.blobs import FOLDER, lock_blob
from cases.services.sweeping import folders, is_old, listed
from casestore import clock

logger = logging.getLogger(__name__)

# Rows, or names of files, that are looked at together.
BATCH = 500


def sweep_blobs() -> int:
    """Removes what was last stored CASESTORE_BLOB_DAYS ago, and files that never got their row; how many."""
    return _sweep_rows() + _sweep_files()


def _sweep_rows() -> int:
    if not settings.CASESTORE_BLOB_DAYS:
        return 0
    before = clock.now() - timedelta(days=settings.CASESTORE_BLOB_DAYS)
    swept = 0
    for sha1 in _unused(before):
        if key := _remove_row(sha1, before):
            _remove_file(sha1, key)
            swept += 1
    if swept:
        logger.info("swept %d blobs that no label refers to", swept)
    return swept


def _unused(before: datetime) -> Iterator[str]:
    """Those that seem to be so; a few at a time, each looked up in the labels' index."""
    last = ""
    uses = Label.objects.filter(blob=OuterRef("pk"))
    while True:
        # Whether it is used is asked of each row, not what the rows are filtered by: so a batch costs the same whether
        # few or none of them are unused, and the plan is the same for any number of labels.
        rows = Blob.objects.filter(pk__gt=last, stored_at__lt=before).order_by("pk").annotate(used=Exists(uses))
        batch = list(rows.values_list("pk", "used")[:BATCH])
        yield from (sha1 for sha1, used in batch if not used)
        if len(batch) < BATCH:
            return
        last = batch[-1][0]


@transaction.atomic
def _remove_row(sha1: str, before: datetime) -> str:
    """The key of its file; empty where the row stays. Waits for nobody: what is in use now is none of ours."""
    if not lock_blob(sha1, wait=False):
        return ""
    rows = Blob.objects.select_for_update(skip_locked=True).filter(pk=sha1, stored_at__lt=before)
    blob = rows.first()
    # Asked when the row is ours already: whoever made a label of it held the row until the label was there to see.
    if blob is None or _is_named(sha1):
        return ""
    blob.delete()
    return blob.storage_key


def _is_named(sha1: str) -> bool:
    """Whether a label refers to the blob, or names it and still waits for its voxels (migration `late_voxels`)."""
    named = Collate(KeyTextTransform("voxels", "data"), "C")
    waiting = Label.objects.alias(named=named).filter(type=LabelType.VOXEL, blob=None, named=sha1)
    return Label.objects.filter(blob=sha1).exists() or waiting.exists()


def _sweep_files() -> int:
    swept = 0
    for folder in folders(FOLDER):
        names = listed(f"{FOLDER}/{folder}")[1]
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            known = set(Blob.objects.filter(pk__in=batch).values_list("pk", flat=True))
            for name in batch:
                key = f"{FOLDER}/{folder}/{name}"
                if name not in known and is_old(key):
                    swept += _remove_file(name, key)
    return swept


@transaction.atomic
def _remove_file(sha1: str, key: str) -> bool:
    """Whether it went: it stays where it has a row, or somebody is storing it."""
    if not lock_blob(sha1, wait=False) or Blob.objects.filter(pk=sha1).exists():
        return False
    try:
        default_storage.delete(key)
    except Exception as error:  # Whatever the storage raises, the other files must go too.
        logger.warning("the file of a blob could not be removed: %s", type(error).__name__)
        return False
    return True
