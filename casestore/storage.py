"""Where files lie: a Django storage chosen by settings, and the local one whose files are whole or absent."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from django.core.files import File
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible


@deconstructible
class AtomicFileSystemStorage(FileSystemStorage):
    """A file appears under its name only when all of it is on the disk: write aside, fsync, rename."""

    def __init__(self, **options: object) -> None:
        super().__init__(file_permissions_mode=0o600, directory_permissions_mode=0o700, **options)  # type: ignore[arg-type]

    def _save(self, name: str, content: File) -> str:
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        try:
            with partial.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                for chunk in content.chunks():
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
        return name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
