"""What the formats need to make the files of a case: options, labels with their values, room for what is compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cases.deflate import Deflated
from cases.label_bits import LabelVoxels
from cases.label_colors import color_of
from cases.models import Label, LabelType
from exports import shapes
from exports.contents import (
    Member,
    Volume,
    check_label,
    headed_made_of,
    label_made_of,
    label_voxels,
    remembered_sha256,
    spool,
    voxels_of,
)
from exports.label_values import index_values, project_values
from exports.pieces import Digest, Pieces
from exports.segments import ExportedLabel, Segment, Survey, segments_of, survey

# Adds a file's content, without its header.
Make = Callable[[Pieces], object]


@dataclass(frozen=True)
class ValuedLabel:
    """A label that becomes a mask, and what its voxels are painted with."""

    label: Label
    value: int


@dataclass(frozen=True)
class Job:
    """One case of an export. `anew`: see `voxels_of`.

    `beat` is called for each slice and ends the work by raising; inside a transaction `check` is, which writes nothing.
    """

    options: Mapping[str, Any]
    beat: Callable[[], None]
    check: Callable[[], None]
    anew: bool = False
    _labels: dict[str, list[ValuedLabel]] = field(default_factory=dict, init=False)

    @property
    def is_dry(self) -> bool:
        """Whether contents are only measured."""
        return False

    @property
    def isolated(self) -> bool:
        return bool(self.options["labelPackType"] == "isolated")

    @property
    def has_project_values(self) -> bool:
        return self.options.get("labelValues") == "project"

    def labels_of(self, volume: Volume) -> list[ValuedLabel]:
        """The voxel labels and, where shapes are wanted, those that have an inside, in their order.

        Raises CasestoreError for a label that has no value, or cannot be painted.
        """
        if volume.name not in self._labels:
            self._labels[volume.name] = self._valued(volume)
        return self._labels[volume.name]

    def _valued(self, volume: Volume) -> list[ValuedLabel]:
        kinds = {LabelType.VOXEL.value, *(shapes.KINDS if self.options.get("rasterizeShapes") else ())}
        labels = [label for label in volume.entry.labels.all() if label.type in kinds]
        for label in labels:
            check_label(label, volume)
        if self.has_project_values:
            dictionary = volume.entry.revision.case.project.label_values
            values = project_values([label.name for label in labels], dictionary)
        else:
            values = index_values([label.position for label in labels])
        return [ValuedLabel(label, value) for label, value in zip(labels, values, strict=True)]

    def segments_of(self, volume: Volume, *, named_only: bool = False) -> list[Segment]:
        """`named_only`: without their voxels."""
        labels = self.labels_of(volume)
        nothing = [LabelVoxels(b"", (0, 0, 0), (0, 0, 0))] * len(labels)
        voxels = nothing if named_only else label_voxels([valued.label for valued in labels], volume)
        exported = [
            ExportedLabel(valued.label.position, valued.label.name, color_of(valued.label.data), bits)
            for valued, bits in zip(labels, voxels, strict=True)
        ]
        return segments_of(exported, [valued.value for valued in labels])

    def labels_made_of(self, volume: Volume) -> list[Any]:
        """From what the voxels of all labels follow."""
        labels = self.labels_of(volume)
        return [volume.size, [label_made_of(valued.label, valued.value, volume) for valued in labels]]

    def survey(self, segments: Sequence[Segment], volume: Volume) -> Survey:
        return survey(segments, volume.size, self.beat)

    @contextmanager
    def voxels(self, volume: Volume) -> Iterator[tuple[Deflated, str]]:
        """With their SHA-256 where it is known."""
        with voxels_of(volume, anew=self.anew, on_slice=self.beat, check=self.check) as found:
            yield found

    @contextmanager
    def made(self, size: int, make: Make) -> Iterator[Deflated]:
        """Content of `size` bytes, which `make` adds."""
        with spool() as file:
            pieces = Pieces(file)
            make(pieces)
            assert pieces.content.size == size
            yield pieces.content

    @contextmanager
    def member(
        self, name: str, size: int, make: Make, *, made_of: Sequence[Any], header: bytes = b""
    ) -> Iterator[Member]:
        """A file of a header and `size` bytes more, which `make` adds and which follow from `made_of`.

        Its digest, where it is not remembered, is computed from when it is made on.
        """
        made_of = headed_made_of(header, made_of)
        known = remembered_sha256(made_of)
        with spool() as file:
            digest = None if known else Digest()
            pieces = Pieces(file, digest)
            if header:
                pieces.add(header)
            make(pieces)
            assert pieces.content.size == len(header) + size
            yield Member(name, pieces.content, made_of, known, digest)
