"""What an export of a revision is made of: its volumes and the voxels of its labels."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import Any, BinaryIO, cast

import orjson
from django.conf import settings

from cases.deflate import Deflated, inflated, joined, piece_of
from cases.geometry import VolumeGeometry, volume_geometry
from cases.image_numbers import PartialVolume
from cases.label_bits import LabelVoxels, byte_length
from cases.models import Label, LabelType, Revision, RevisionSeries, Series, SeriesImage, StoredVolume
from cases.serializers.labels import place_of, place_problem
from cases.services.blobs import map_blob
from cases.services.volumes import (
    DamagedFile,
    check_files,
    current_volume,
    decoded_slices,
    in_stored_order,
    open_volume,
    slice_bytes,
    voxel_type,
)
from cases.slices import DamagedSlices, SliceReader, pack_index
from casestore.errors import CasestoreError, Problem
from exports.models import ContentDigest
from exports.pieces import Digest
from exports.shapes import EMPTY, rasterize

# Up to so many bytes of compressed voxels, or of a painted shape, stay in memory; more go to the spool.
IN_MEMORY = 2**22
# Bytes of all painted shapes of one volume, a bit a voxel.
MAX_SHAPES = 2**31


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an export. `made_of`: JSON from which its content follows; None where it is small or ever new.

    The content can be read until the next member is asked for. `digest`, where there is one, was given it already.
    """

    name: str
    content: Deflated
    made_of: Any = None
    known_sha256: str = ""
    digest: Digest | None = None

    def sha256(self) -> str:
        """Computed once for what it is made of, and remembered."""
        if self.known_sha256:
            return self.known_sha256
        if self.made_of is None:
            return self._compute()
        found = "" if self.digest else remembered_sha256(self.made_of)
        if not found:
            found = self.digest.hexdigest() if self.digest else self._compute()
            ContentDigest.objects.bulk_create(
                [ContentDigest(key=_key(self.made_of), sha256=found)], ignore_conflicts=True
            )
        return found

    def _compute(self) -> str:
        digest = hashlib.sha256()
        for chunk in inflated(self.content):
            digest.update(chunk)
        return digest.hexdigest()


def remembered_sha256(made_of: Any) -> str:
    """Of a file that is made of this; empty where it was not computed yet."""
    return ContentDigest.objects.filter(key=_key(made_of)).values_list("sha256", flat=True).first() or ""


def _key(made_of: Any) -> str:
    return hashlib.sha256(orjson.dumps(made_of)).hexdigest()


def headed(name: str, header: bytes, content: Deflated, made_of: Sequence[Any]) -> Member:
    """A file that begins with a header; `made_of` is said of what follows it."""
    return Member(name, joined([piece_of(header), content]), headed_made_of(header, made_of))


def headed_made_of(header: bytes, made_of: Sequence[Any]) -> list[Any]:
    return [hashlib.sha256(header).hexdigest(), *made_of] if header else list(made_of)


@dataclass(frozen=True)
class Volume:
    """A series of a revision with its partial volume: `images[k]` is slice k."""

    name: str
    entry: RevisionSeries
    images: list[SeriesImage]
    geometry: VolumeGeometry
    element_type: str

    @property
    def size(self) -> tuple[int, int, int]:
        """(x, y, z) in voxels."""
        series = self.entry.series
        return series.width, series.height, len(self.images)

    @property
    def channels(self) -> int:
        return self.entry.series.channels

    @property
    def made_of(self) -> list[Any]:
        """The digests of the images say all of their voxels."""
        return [self.element_type, [image.sha256 for image in self.images]]


def load_revision(pk: int) -> Revision | None:
    """With everything that an export of it reads; None where its case was deleted."""
    rows = Revision.objects.select_related("case__project").filter(pk=pk, case__deleted_at=None)
    return rows.prefetch_related("series_set__series", "series_set__labels__blob").first()


def volumes_of(revision: Revision) -> list[Volume]:
    """Raises CasestoreError where an image is not stored."""
    return [_volume(f"vol{index:03d}", entry) for index, entry in enumerate(revision.series_set.all())]


def _volume(name: str, entry: RevisionSeries) -> Volume:
    series, numbers = entry.series, PartialVolume(entry.start, entry.end, entry.delta).numbers()
    rows = SeriesImage.objects.filter(series=series, number__in=numbers)
    by_number = {image.number: image for image in rows}
    if len(by_number) != len(numbers):
        missing = next(number for number in numbers if number not in by_number)
        raise CasestoreError(f"Image {missing} of series {series.series_uid} is not stored here.")
    images = [by_number[number] for number in numbers]
    spacing = series.geometry.get("spacing")
    geometry = volume_geometry(
        [image.plane for image in images], step=entry.delta, fallback_z=spacing[2] if spacing else None
    )
    return Volume(name, entry, images, geometry, voxel_type(images, series.channels))


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """A file for the compressed pieces of one member."""
    with SpooledTemporaryFile(IN_MEMORY, prefix="casestore-", dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        yield cast(BinaryIO, file)


@contextmanager
def voxels_of(
    volume: Volume, *, anew: bool, on_slice: Callable[[], None], check: Callable[[], None]
) -> Iterator[tuple[Deflated, str]]:
    """The voxels, little-endian, slice by slice, from the stored volume of the series; and, if known, their SHA-256.

    `anew`: what is stored proved damaged. `check` is called instead of `on_slice` inside a transaction. Where the
    partial volume takes another type than the series, or another image of that is damaged, its images are decoded.
    Raises DamagedFile, and DamagedSlices while the content is read.
    """
    series, numbers = volume.entry.series, [image.number for image in volume.images]
    with ExitStack() as stack:
        same_type = series.geometry.get("pixelType") == volume.element_type
        row = _volume_of_all(series, len(numbers), anew=anew, check=check) if same_type else None
        if row is not None and row.element_type == volume.element_type:
            reader = stack.enter_context(open_volume(row))
            yield reader.pieces(numbers), row.sha256 if numbers == reader.numbers else ""
            return
        file = stack.enter_context(spool())
        index = []
        for number, image, _ in decoded_slices(volume.images, volume.element_type):
            on_slice()
            index.append((number, file.tell(), file.write(image.piece), image.crc, image.check))
        yield SliceReader(file, pack_index(index), slice_bytes(series, volume.element_type)).pieces(numbers), ""


def check_voxels(volume: Volume) -> None:
    """Raises what `voxels_of` would raise for files that are gone; no content is read."""
    series, images = volume.entry.series, volume.images
    row = StoredVolume.objects.filter(series=series, element_type=volume.element_type).first()
    with suppress(DamagedSlices):
        if row is not None:
            with open_volume(row) as reader:
                images = [image for image in images if not reader.has([image.number])]
    if images:
        check_files(in_stored_order(images) if len(images) == series.image_set.count() else images)


def _volume_of_all(series: Series, wanted: int, *, anew: bool, check: Callable[[], None]) -> StoredVolume | None:
    """None where it cannot be made, but perhaps what is wanted of it."""
    try:
        return current_volume(series, anew=anew, on_slice=check)
    except DamagedFile:
        if wanted == series.image_set.count():
            raise
        return None


def check_label(label: Label, volume: Volume) -> None:
    """Raises CasestoreError where it cannot be painted, without reading its voxels.

    Labels are checked when they are written; what other servers' dumps brought may not be as it should.
    """
    if is_empty(label):
        return
    problem = place_problem(label.type, place_of(label.type, label.data))
    if problem is None and label.type == LabelType.VOXEL:
        problem = _voxel_problem(label, volume)
    if problem is not None:
        uid = volume.entry.series.series_uid
        raise CasestoreError(f"Label {label.position} of series {uid}: {problem.path}: {problem.message}")


def _voxel_problem(label: Label, volume: Volume) -> Problem | None:
    box = label_box(label)
    if any(o + s > extent for o, s, extent in zip(*box, volume.size, strict=True)):
        return Problem("data.size", f"The box does not lie inside the partial volume of {list(volume.size)} voxels.")
    if label.blob is None:
        return Problem("data.voxels", "The voxels are not stored here.")
    if (needed := byte_length(box[1])) != label.blob.size:
        return Problem("data.voxels", f"The voxels are {label.blob.size} bytes; the box needs {needed}.")
    return None


def is_empty(label: Label) -> bool:
    """Whether it is a voxel label without voxels, whose box means nothing."""
    return label.type == LabelType.VOXEL and label.data.get("voxels") is None


def label_voxels(labels: Sequence[Label], volume: Volume) -> list[LabelVoxels]:
    """The voxels of checked labels, and of shapes, which are painted here. Raises CasestoreError."""
    found, left = [], MAX_SHAPES
    for label in labels:
        if label.type == LabelType.VOXEL:
            found.append(LabelVoxels(map_blob(label.blob), *label_box(label)) if label.blob else EMPTY)
            continue
        shape = rasterize(label.type, label.data, spacing=volume.geometry.spacing, size=volume.size)
        left -= len(shape.data)
        if left < 0:
            raise CasestoreError(f"The shapes on series {volume.entry.series.series_uid} are too large to be painted.")
        found.append(replace(shape, data=_mapped(shape.data)) if len(shape.data) >= IN_MEMORY else shape)
    return found


def label_box(label: Label) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Origin and size (x, y, z) of a checked voxel label that is not empty."""
    (x, y, z), (width, height, depth) = (map(int, label.data[name]) for name in ("origin", "size"))
    return (x, y, z), (width, height, depth)


def _mapped(data: bytes) -> mmap.mmap:
    """The bytes in a file of the spool, which is mapped into memory."""
    with TemporaryFile(prefix="casestore-", dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        file.write(data)
        file.flush()
        return mmap.mmap(file.fileno(), len(data), access=mmap.ACCESS_READ)


def label_made_of(label: Label, value: int, volume: Volume) -> list[Any]:
    if is_empty(label):
        return [value]
    place = place_of(label.type, label.data)
    if label.type == LabelType.VOXEL:
        return [value, place["voxels"], place["origin"], place["size"]]
    return [value, label.type, place, volume.geometry.spacing]
