"""The work of an export task: revisions into one archive, a member at a time, a slice at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import numpy as np
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage

from cases.dicom.reader import decode_frames
from cases.documents import stored_revision_document
from cases.geometry import VolumeGeometry, volume_geometry
from cases.image_numbers import PartialVolume
from cases.label_bits import LabelVoxels
from cases.models import Label, LabelType, Revision, RevisionSeries, SeriesImage
from cases.services.blobs import read_blob
from cases.services.series_import import plane_of, voxel_type
from casestore import clock
from casestore.api.renderers import dump
from casestore.errors import CasestoreError
from casestore.tasks.models import DownloadFileType, Task
from casestore.tasks.services import Progress, Result
from exports import mhd
from exports.archives import ArchiveWriter, open_archive
from exports.volumes import combined_slices, convert, isolated_slices

FILE_TYPES = {"tgz": DownloadFileType.GZIP, "zip": DownloadFileType.ZIP}


@dataclass(frozen=True, slots=True)
class Volume:
    """A series of a revision, ready to be packed: `images[k]` is slice k of the partial volume."""

    entry: RevisionSeries
    images: list[SeriesImage]
    geometry: VolumeGeometry
    element_type: str

    @property
    def size(self) -> tuple[int, int, int]:
        """(x, y, z) in voxels."""
        series = self.entry.series
        return series.width, series.height, len(self.images)


def pack(task: Task, progress: Progress) -> Result:
    """Packs the revisions that the task names; the file takes its final name only when it is whole."""
    options, entries = task.parameters, task.parameters["entries"]
    compression = options["compressionFormat"]
    packers = []
    with TemporaryFile(prefix="casestore-export-", dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        with open_archive(file, compression) as archive:
            for done, entry in enumerate(entries):
                progress.report(done, f"Packing case {done + 1} of {len(entries)}.")
                packer = CasePacker(archive, entry["revision"], entry["folder"], options, progress, done)
                packer.pack()
                packers.append(packer)
            manifest = dump({"cases": [packer.manifest() for packer in packers]}, indent=True) + b"\n"
            archive.add("manifest.json", len(manifest), max(p.revision.date for p in packers), [manifest])
        file.seek(0)
        key = default_storage.save(f"exports/{task.task_id}", File(file))
    message = f"Exported {len(entries)} case{'s' if len(entries) != 1 else ''}."
    warned = sum(any(volume.geometry.warnings for volume in packer.volumes) for packer in packers)
    if warned:
        message += f" {warned} with warnings about geometry; manifest.json says which."
    return Result(message, key, FILE_TYPES[compression])


class CasePacker:
    """Packs one revision into `<folder>/…`. Members carry the revision's date, so that an archive is reproducible."""

    def __init__(
        self,
        archive: ArchiveWriter,
        revision: int,
        folder: str,
        options: dict[str, str],
        progress: Progress,
        done: int,
    ) -> None:
        self.archive, self.folder, self.options = archive, folder, options
        self.progress, self.done = progress, done
        found = (
            Revision.objects.select_related("case__project")
            .prefetch_related("series_set__series", "series_set__labels__blob")
            .filter(pk=revision, case__deleted_at=None)
            .first()
        )
        if found is None:
            raise CasestoreError(f"The case {folder} was deleted before it was packed.")
        self.revision = found
        self.volumes = [_volume(entry) for entry in self.revision.series_set.all()]

    def pack(self) -> None:
        case = self.revision.case
        document = {
            "caseId": case.case_id,
            "createdAt": clock.iso(case.created_at),
            "updatedAt": clock.iso(case.updated_at),
            "projectId": case.project.project_id,
            "revision": stored_revision_document(self.revision),
        }
        data = dump(document, indent=True) + b"\n"
        self._add("data.json", len(data), [data])
        for index, volume in enumerate(self.volumes):
            self._pack_volume(f"vol{index:03d}", volume)

    def manifest(self) -> dict[str, Any]:
        """What the archive holds of this case, with the warnings about each volume, and about the whole series."""
        return {
            "caseId": self.revision.case.case_id,
            "folder": self.folder,
            "revisionIndex": self.revision.index,
            "revisionDate": clock.iso(self.revision.date),
            "series": [
                {
                    "volume": f"vol{index:03d}",
                    "seriesUid": volume.entry.series.series_uid,
                    "warnings": list(volume.geometry.warnings),
                    "seriesWarnings": volume.entry.series.geometry.get("warnings", []),
                }
                for index, volume in enumerate(self.volumes)
            ],
        }

    def _pack_volume(self, name: str, volume: Volume) -> None:
        channels = volume.entry.series.channels
        self._add_pair(name, volume, channels, volume.element_type, _voxels(volume))
        labels = [
            (label.position, voxels)
            for label in volume.entry.labels.all()
            if label.type == LabelType.VOXEL
            for voxels in [_label_voxels(label)]
        ]
        if self.options["labelPackType"] == "isolated":
            for position, voxels in labels:
                slices = isolated_slices(voxels, volume.size)
                self._add_pair(f"{name}-label{position:03d}", volume, 1, "uint8", slices)
        else:
            values = [(position + 1, voxels) for position, voxels in labels]
            element_type = "uint16" if any(value > 255 for value, _ in values) else "uint8"
            slices = combined_slices(values, volume.size, np.dtype(element_type))
            self._add_pair(f"{name}-label", volume, 1, element_type, slices)

    def _add_pair(
        self, name: str, volume: Volume, channels: int, element_type: str, slices: Iterator[np.ndarray]
    ) -> None:
        """`<name>.mhd` and `<name>.raw`; all pairs of a volume have the same geometry, to the letter."""
        geometry = volume.geometry
        header = mhd.header(
            spacing=geometry.spacing,
            origin=geometry.origin,
            direction=geometry.direction,
            size=volume.size,
            channels=channels,
            element_type=element_type,
            data_file=f"{name}.raw",
            line_ending=self.options["mhdLineEnding"],
        )
        self._add(f"{name}.mhd", len(header), [header])
        width, height, depth = volume.size
        size = width * height * depth * channels * np.dtype(element_type).itemsize
        self._add(f"{name}.raw", size, self._living(slices))

    def _add(self, name: str, size: int, chunks: Iterable[Any]) -> None:
        self.archive.add(f"{self.folder}/{name}", size, self.revision.date, chunks)

    def _living(self, slices: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same slices; each shows that the worker lives."""
        for slice_ in slices:
            self.progress.report(self.done, f"Packing case {self.done + 1}.")
            yield slice_


def _volume(entry: RevisionSeries) -> Volume:
    """The images of the partial volume, in its order, and what follows from them. Raises CasestoreError."""
    series, numbers = entry.series, PartialVolume(entry.start, entry.end, entry.delta).numbers()
    rows = SeriesImage.objects.filter(series=series, number__in=numbers).select_related("file")
    by_number = {image.number: image for image in rows}
    if len(by_number) != len(numbers):
        missing = next(number for number in numbers if number not in by_number)
        raise CasestoreError(f"Image {missing} of series {series.series_uid} is not stored here.")
    images = [by_number[number] for number in numbers]
    spacing = series.geometry.get("spacing")
    geometry = volume_geometry(
        [plane_of(image) for image in images], step=entry.delta, fallback_z=spacing[2] if spacing else None
    )
    return Volume(entry, images, geometry, voxel_type(images, series.channels))


def _voxels(volume: Volume) -> Iterator[np.ndarray]:
    """Slices (height, width[, 3]) of the exported type, little-endian, in the order of the partial volume."""
    for file, group in groupby(volume.images, key=lambda image: image.file):
        images = list(group)
        with default_storage.open(file.storage_key) as source:
            frames = decode_frames(cast(BinaryIO, source), [image.frame for image in images])
            for image, stored in zip(images, frames, strict=True):
                yield convert(stored, image.slope, image.intercept, volume.element_type)


def _label_voxels(label: Label) -> LabelVoxels:
    """Of an empty label (`voxels` null): a box without voxels."""
    if label.blob is None:
        return LabelVoxels(b"", (0, 0, 0), (0, 0, 0))
    origin, size = ((int(x), int(y), int(z)) for x, y, z in (label.data["origin"], label.data["size"]))
    return LabelVoxels(read_blob(label.blob), origin, size)
