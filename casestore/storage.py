"""Where files lie: a Django storage chosen by settings, and the local one whose files are whole or absent."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO, cast

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, default_storage
from django.utils.deconstruct import deconstructible


def is_local(storage: Storage) -> bool:
    """Whether its files have paths."""
    try:
        storage.path("x")
    except NotImplementedError:
        return False
    return True


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


class GrowingFile:
    """A file on this machine that takes its place in the storage, under `key`, when it is whole.

    `name` tells it from others that grow towards the same place. Where the storage is local it grows beside its place,
    so that taking it is a rename; else in the spool.
    """

    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self._place = Path(default_storage.path(key)) if is_local(default_storage) else None
        if self._place is None:
            self.path = Path(settings.FILE_UPLOAD_TEMP_DIR, f"casestore-{key.replace('/', '-')}.{name}.part")
        else:
            self._place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path = self._place.with_name(f".{self._place.name}.{name}.part")

    def publish(self, *, durable: bool = True) -> None:
        """All of it has been written and closed. `durable`: it must be there after a loss of power too."""
        if self._place is None:
            with self.path.open("rb") as file:
                default_storage.save(self.key, File(file))
            self.path.unlink()
            return
        if durable:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        self.path.chmod(0o600)
        self.path.rename(self._place)
        if durable:
            _sync_folder(self._place.parent)

    def open(self) -> BinaryIO:
        """What there is of it, while it grows or in its place. Raises FileNotFoundError."""
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return cast(BinaryIO, default_storage.open(self.key))

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
