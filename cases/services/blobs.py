"""Storing label voxels."""

from __future__ import annotations

import hashlib
import mmap

from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

from cases.models import Blob, BlobUpload
from casestore.accounts.models import User
from casestore.errors import BadRequest, CasestoreError

Buffer = bytes | mmap.mmap


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
    key = f"blobs/{sha1[:2]}/{sha1}"
    if not default_storage.exists(key):
        default_storage.save(key, ContentFile(data))
    with transaction.atomic():
        blob, _ = Blob.objects.get_or_create(sha1=sha1, defaults={"size": len(data), "storage_key": key})
        if user is not None:
            BlobUpload.objects.get_or_create(blob=blob, user=user)
    return blob


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
    with default_storage.open(blob.storage_key) as file:
        data: bytes = file.read()
    return data
