"""The cache of decoded volumes: filled at import, filled again when an export misses one, bounded.

The DICOM files are the truth. Whatever is wrong with a stored volume, it is made again from them, and its bytes are the
same as before.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Any, BinaryIO, cast

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import Sum, prefetch_related_objects

from cases.dicom.errors import DicomRefused
from cases.dicom.instance import Frame
from cases.dicom.reader import decode_frames
from cases.dicom.rescale import convert
from cases.dicom.source import buffered
from cases.geometry import element_type, volume_geometry
from cases.image_numbers import from_feet
from cases.models import Series, SeriesFile, SeriesImage, StoredVolume
from cases.slices import ENTRY, DamagedSlices, Slice, SliceReader, SliceWriter, compress_slice, nrrd_header
from casestore import clock, ids
from casestore.errors import CasestoreError
from casestore.several import several
from casestore.storage import GrowingFile, is_local

logger = logging.getLogger(__name__)

THREADS = min(4, os.cpu_count() or 1)
# When a volume was last used is known to the hour.
NOTED = timedelta(hours=1)
FOLDER = "volumes"


class DamagedFile(CasestoreError):
    """A DICOM file that is not there any more, or not what it was."""


class SliceSpool(AbstractContextManager["SliceSpool"]):
    """Images of an import, compressed while they are in memory anyway, for the volume that is made of them later.

    Each as the type that it would have alone, which nearly always is the type of the whole series.
    """

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115  closed by __exit__
        self._end = 0
        self._lock = Lock()
        self._places: dict[tuple[str, str], tuple[int, int, int, int, int]] = {}

    def keep(self, frame: Frame, image: np.ndarray) -> None:
        """From any thread. Where the disk is full it is not kept, and decoded once more later."""
        kind = element_type(frame.minimum, frame.maximum, frame.integral, 3 if image.ndim == 3 else 1)
        kept = compress_slice(convert(image, frame.slope, frame.intercept, kind))
        length = len(kept.piece)
        with self._lock, suppress(OSError):
            if os.pwrite(self._file.fileno(), kept.piece, self._end) == length:
                self._places[frame.sha256, kind] = (self._end, length, kept.size, kept.crc, kept.check)
                self._end += length

    def find(self, image: SeriesImage, kind: str) -> Slice | None:
        if (found := self._places.get((image.sha256, kind))) is None:
            return None
        offset, length, size, crc, check = found
        return Slice(os.pread(self._file.fileno(), length, offset), size, crc, check)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def store_volume(
    series: Series, spool: SliceSpool | None = None, on_slice: Callable[[], None] = lambda: None
) -> StoredVolume:
    """Makes the series' volume of all its images, from what was kept already where that is possible.

    The caller holds the series' lock. `on_slice` is called for each image, and ends the work by raising. Raises
    DamagedFile.
    """
    images = in_stored_order(series.image_set.all())
    kind = voxel_type(images, series.channels)
    old = StoredVolume.objects.filter(series=series).first()
    growing = GrowingFile(f"{FOLDER}/{series.pk}/{ids.new_id()}.nrrd", "new")
    try:
        with growing.path.open("xb") as file, _kept(old, kind, spool) as kept:
            writer = SliceWriter(file, _header(series, kind, images))
            digest: Any = hashlib.sha256()
            for number, image, voxels in _slices(images, kind, kept):
                on_slice()
                writer.add(number, image)
                digest = None if digest is None or voxels is None else digest
                if digest is not None and voxels is not None:
                    digest.update(voxels.data)
            index = writer.finish()
        growing.publish(durable=False)
    except BaseException:
        growing.discard()
        raise
    row, _ = StoredVolume.objects.update_or_create(
        series=series,
        defaults={
            "storage_key": growing.key,
            "element_type": kind,
            "index": index,
            "sha256": "" if digest is None else digest.hexdigest(),
            "size": writer.position,
            "used_at": clock.now(),
        },
    )
    gone = [] if old is None else [old.storage_key]
    transaction.on_commit(lambda: _delete(gone))
    _make_room(row)
    return row


def in_stored_order(images: Iterable[SeriesImage]) -> list[SeriesImage]:
    """As a case takes them that does not name an order: then what is known of the file is known of its export."""
    found = sorted(images, key=lambda image: image.number)
    if from_feet(*(image.position[2] if image.position else None for image in (found[0], found[-1]))):
        found.reverse()
    return found


def _header(series: Series, kind: str, images: Sequence[SeriesImage]) -> bytes:
    step = -1 if images[0].number > images[-1].number else 1
    geometry = volume_geometry([image.plane for image in images], step=step)
    size = (series.width, series.height, len(images))
    return nrrd_header(element_type=kind, size=size, channels=series.channels, geometry=geometry, encoding="gzip")


def slice_bytes(series: Series, kind: str) -> int:
    return series.width * series.height * series.channels * np.dtype(kind).itemsize


@contextmanager
def open_volume(row: StoredVolume) -> Iterator[SliceReader]:
    """Raises DamagedSlices where the file is gone."""
    try:
        file = default_storage.open(row.storage_key)
    except FileNotFoundError:
        raise DamagedSlices from None
    with file:
        yield SliceReader(cast(BinaryIO, file), bytes(row.index), slice_bytes(row.series, row.element_type))


def note_use(row: StoredVolume) -> None:
    """Volumes that nobody uses make room for others first."""
    now = clock.now()
    if row.used_at < now - NOTED:
        StoredVolume.objects.filter(pk=row.pk).update(used_at=now)


def is_current(row: StoredVolume, series: Series) -> bool:
    """Whether it has all images of the series."""
    return len(bytes(row.index)) == series.image_set.count() * ENTRY.itemsize


def _slices(
    images: Sequence[SeriesImage], kind: str, kept: Callable[[SeriesImage], Slice | None]
) -> Iterator[tuple[int, Slice, np.ndarray | None]]:
    """All images in their order; those that are not kept are decoded, and their voxels given too."""
    missing: list[SeriesImage] = []
    for image in images:
        found = kept(image)
        if found is None:
            missing.append(image)
            continue
        yield from decoded_slices(missing, kind)
        missing.clear()
        yield image.number, found, None
    yield from decoded_slices(missing, kind)


@contextmanager
def _kept(
    row: StoredVolume | None, kind: str, spool: SliceSpool | None
) -> Iterator[Callable[[SeriesImage], Slice | None]]:
    """Finds an image in the spool or in the volume that there was."""
    with ExitStack() as stack:
        old: SliceReader | None = None
        if row is not None and row.element_type == kind:
            with suppress(DamagedSlices):
                old = stack.enter_context(open_volume(row))

        def find(image: SeriesImage) -> Slice | None:
            found = None if spool is None else spool.find(image, kind)
            if found is None and old is not None and old.has([image.number]):
                with suppress(DamagedSlices):
                    found = old.slice(image.number)
            return found

        yield find


def decoded_slices(images: Sequence[SeriesImage], kind: str) -> Iterator[tuple[int, Slice, np.ndarray]]:
    """Number, slice and voxels of each image, from the DICOM files. Makes several at once; the order stays."""
    if not images:
        return
    prefetch_related_objects(images, "file", "series")

    def made(one: tuple[SeriesImage, Callable[[], np.ndarray]]) -> tuple[int, Slice, np.ndarray]:
        image, decode = one
        voxels = decode()
        return image.number, compress_slice(voxels), voxels

    yield from several(made, _decoders(images, kind), threads=THREADS)


def _decoders(images: Sequence[SeriesImage], kind: str) -> Iterator[tuple[SeriesImage, Callable[[], np.ndarray]]]:
    """Each image with what decodes it, in any thread. Images of one file are decoded here, one after another."""
    for _, group in groupby(images, key=lambda image: image.file):
        here = list(group)
        if len(here) == 1:
            yield here[0], partial(_decoded_one, here[0], kind)
            continue
        for image, voxels in zip(here, _decoded(here, kind), strict=True):
            yield image, partial(np.asarray, voxels)


def _decoded_one(image: SeriesImage, kind: str) -> np.ndarray:
    (voxels,) = _decoded([image], kind)
    return voxels


def _decoded(images: Sequence[SeriesImage], kind: str) -> Iterator[np.ndarray]:
    """Images of one file as (height, width[, 3]) of the type `kind`, rescaled, little-endian. Raises DamagedFile."""
    file = images[0].file
    try:
        with default_storage.open(file.storage_key) as stored_file:
            source = buffered(cast(BinaryIO, stored_file), file.size)
            _check(file, source)
            for image, stored in zip(images, _stored_values(source, images), strict=True):
                yield convert(stored, image.slope, image.intercept, kind)
    except (FileNotFoundError, DicomRefused):
        raise damaged_file(images[0]) from None


def _stored_values(source: BinaryIO, images: Sequence[SeriesImage]) -> Iterator[np.ndarray]:
    """What the file of these images holds for them."""
    frames, series, native = [image.frame for image in images], images[0].series, images[0].file.native_pixels
    if native is None:
        yield from decode_frames(source, frames)
        return
    for frame in frames:
        yield native.image(source, frame, width=series.width, height=series.height, dtype=series.stored_type)


def _check(file: SeriesFile, source: Any) -> None:
    """It is byte for byte what was received."""
    if hashlib.file_digest(source, "sha256").hexdigest() != file.sha256:
        raise FileNotFoundError
    source.seek(0)


def check_files(images: Sequence[SeriesImage]) -> None:
    """Raises DamagedFile for the first image whose file is gone, or has another size. Reads none.

    An object storage is not asked: for each file that takes as long as a request.
    """
    if not is_local(default_storage):
        return
    prefetch_related_objects(images, "file")
    for image in images:
        try:
            size = os.stat(default_storage.path(image.file.storage_key)).st_size
        except FileNotFoundError:
            size = None
        if size != image.file.size:
            raise damaged_file(image)


def damaged_file(image: SeriesImage) -> DamagedFile:
    uid = image.series.series_uid
    return DamagedFile(f"The DICOM file of image {image.number} of series {uid} is missing or damaged.")


def voxel_type(images: Sequence[SeriesImage], channels: int) -> str:
    """numpy name of the smallest type, int16 preferred, that holds every rescaled value of the images."""
    return element_type(
        min(image.minimum for image in images),
        max(image.maximum for image in images),
        all(image.integral for image in images),
        channels,
    )


@transaction.atomic
def current_volume(series: Series, *, anew: bool = False, on_slice: Callable[[], None] = lambda: None) -> StoredVolume:
    """The volume of all images of the series, made where there is none, or `anew` where it proved damaged.

    Waits while somebody else makes it. Raises DamagedFile.
    """
    row = StoredVolume.objects.filter(series=series).first()
    if row is None or anew or not is_current(row, series):
        lock_series(series.series_uid)
        now = StoredVolume.objects.filter(series=series).first()
        made = now is not None and is_current(now, series) and (row is None or now.storage_key != row.storage_key)
        row = now if made else store_volume(series, on_slice=on_slice)
    assert row is not None
    note_use(row)
    return row


def lock_series(series_uid: str) -> None:
    """Held until the transaction ends; also where the series has no row yet that could be locked."""
    key = int.from_bytes(hashlib.sha256(series_uid.encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def _make_room(newest: StoredVolume) -> None:
    """Removes those that were not used for longest until the rest is within the bound."""
    excess = (StoredVolume.objects.aggregate(all=Sum("size"))["all"] or 0) - settings.CASESTORE_VOLUME_CACHE
    if excess <= 0:
        return
    others = StoredVolume.objects.exclude(pk=newest.pk).select_for_update(skip_locked=True).order_by("used_at", "pk")
    gone: list[str] = []
    for row in others.iterator(chunk_size=100):
        if excess <= 0:
            break
        gone.append(row.storage_key)
        excess -= row.size
        row.delete()
    transaction.on_commit(lambda: _delete(gone))


def _delete(keys: Iterable[str]) -> None:
    for key in keys:
        default_storage.delete(key)
