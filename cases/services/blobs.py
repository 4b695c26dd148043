"""Storing label voxels, and holding them while something comes to refer to them.

What nothing refers to is swept one day (`blob_sweeping`). Whoever stores a blob, or makes a label that names one, goes
through here, so that the sweep never takes it away from under them.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Collection

from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction

from cases.models import Blob, BlobUpload
from casestore import clock
from casestore.accounts.models import User
from casestore.errors import BadRequest, CasestoreError, NotFound

Buffer = bytes | mmap.mmap

FOLDER = "blobs"


class DamagedBlob(CasestoreError):
    """Voxels that are not there any more, or not what they were."""


def store_blob(*, user: User | None, sha1: str, data: bytes) -> Blob:
    """Stores it for the user, or for nobody: then it is seen through the cases that use it.

    The file first, then the row: a crash between leaves a file that nothing refers to, never a row without one.
    """
    if not data:
        raise BadRequest("The body is empty.")
    # SHA-1 names the content because the published API has it so; it protects nothing.
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != sha1:
        raise BadRequest("The SHA-1 of the body is not the one in the address.")
    key = f"{FOLDER}/{sha1[:2]}/{sha1}"
    with transaction.atomic():
        # From before the file is looked for until its row is there: a sweep between would take the file.
        lock_blob(sha1)
        if not default_storage.exists(key):
            default_storage.save(key, ContentFile(data))
        blob, made = Blob.objects.get_or_create(sha1=sha1, defaults={"size": len(data), "storage_key": key})
        if not made:
            blob.stored_at = clock.now()
            blob.save(update_fields=["stored_at"])
        if user is not None:
            BlobUpload.objects.get_or_create(blob=blob, user=user)
    return blob


def lock_blob(sha1: str, *, wait: bool = True) -> bool:
    """Whether this transaction has the name to itself until it ends; also where it has no row that could be locked."""
    key = int.from_bytes(hashlib.sha256(f"blob {sha1}".encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])
            return True
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key])
        return bool(cursor.fetchone()[0])


def hold_blobs(sha1s: Collection[str]) -> None:
    """Those that are here stay until the transaction ends. Whoever makes labels reads their blobs after this."""
    if not sha1s:
        return
    with connection.cursor() as cursor:
        # The lock that a foreign key takes when its transaction ends, but now. It waits for a removal alone, and keeps
        # nobody else from holding the same blobs or storing them again.
        cursor.execute("SELECT FROM cases_blob WHERE sha1 = ANY(%s) ORDER BY sha1 FOR KEY SHARE", [list(sha1s)])


@transaction.atomic
def renew_blobs(sha1s: Collection[str]) -> set[str]:
    """Those that are here, now as if they had just been stored."""
    rows = Blob.objects.filter(pk__in=sha1s).order_by("pk").select_for_update(no_key=True)
    here = set(rows.values_list("pk", flat=True))
    Blob.objects.filter(pk__in=here).update(stored_at=clock.now())
    return here


def map_blob(blob: Blob) -> Buffer:
    """The bytes, mapped into memory where the storage is local. Raises DamagedBlob."""
    try:
        with default_storage.open(blob.storage_key) as file:
            data = _mapped(file, blob.size)
    except FileNotFoundError:
        raise DamagedBlob(f"The voxels {blob.sha1} are not stored any more.") from None
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != blob.sha1:
        raise DamagedBlob(f"The voxels {blob.sha1} are damaged.")
    return data


def _mapped(file: File, size: int) -> Buffer:
    try:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError, AttributeError):  # Not a file of this machine, or not of that size.
        file.seek(0)
        data: bytes = file.read()
        return data


def read_blob(blob: Blob) -> bytes:
    """Raises NotFound where it was swept since its row was read."""
    try:
        with default_storage.open(blob.storage_key) as file:
            data: bytes = file.read()
    except FileNotFoundError:
        if Blob.objects.filter(pk=blob.pk).exists():
            raise
        raise NotFound("There is no such blob.") from None
    return data
