"""The labels of a volume: what a manifest says of them against `data.json` and the files that hold them."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases.label_bits import LabelVoxels
from cases.label_colors import color_of
from cases.label_dictionary import MAX_VALUE
from casestore.json_text import dump
from exports import seg_nrrd
from exports.nifti_header import value_table
from exports.seg_dicom import segment_label
from exports.segments import ExportedLabel, Segment, Survey, segments_of
from exports.shapes import KINDS
from exports.verification.reading import Found, nrrd_fields
from exports.verification.tally import Key, Tally
from exports.verification.volumes import NO_GEOMETRY, without_geometry

VOXEL = "voxel"
NOTHING = LabelVoxels(b"", (0, 0, 0), (0, 0, 0))
NIFTI_LABEL = 1002
NIFTI_CODES = {"uint8": (2, 8), "uint16": (512, 16)}


@dataclass(frozen=True, slots=True)
class VolumeLabels:
    """A volume of a case: `name` with its folder, `size` (x, y, z), what is told of it, and its labels in data.json."""

    name: str
    size: tuple[int, int, int]
    numbers: Sequence[int]
    series: dict[str, Any]
    drawn: list[dict[str, Any]]
    options: dict[str, Any]
    found: Mapping[str, Found]
    # Of label names, whatever the case: with `labelValues` "project".
    values: dict[str, int]

    @property
    def format(self) -> str:
        return str(self.options.get("format", "mhd"))

    @property
    def isolated(self) -> bool:
        return self.format in {"mhd", "nifti"} and self.options["labelPackType"] == "isolated"

    @property
    def told(self) -> list[dict[str, Any]]:
        labels: list[dict[str, Any]] = self.series["labels"]
        return labels

    def exported(self) -> list[ExportedLabel]:
        kinds = {VOXEL, *(KINDS if self.options.get("rasterizeShapes") else ())}
        return [
            ExportedLabel(index, label.get("name"), color_of(label["data"]), NOTHING)
            for index, label in enumerate(self.drawn)
            if label["type"] in kinds
        ]

    def segments(self) -> list[Segment]:
        return segments_of(self.exported(), [label["value"] for label in self.told])

    def segment_tallies(self) -> dict[int, Tally]:
        """By segment number, of a DICOM SEG; slices are those of the volume."""
        segmentation = self.found[f"{self.name}-label.dcm"].segmentation
        assert segmentation is not None
        slices = {file.instance: k for k, file in enumerate(self.originals())}
        whole: dict[int, Tally] = {}
        for (number, uid), tally in segmentation.tallies.items():
            box = (*tally.box[:4], slices.get(uid, -1), slices.get(uid, -1))
            if number in whole:
                whole[number].add(tally.count, box)
            else:
                whole[number] = Tally(tally.count, box)
        return whole

    def originals(self) -> list[Found]:
        names = [f"{self.name}/{number:05d}.dcm" for number in self.numbers]
        return [self.found[name] for name in names if name in self.found]


def problems(volume: VolumeLabels) -> Iterator[str]:
    expected = volume.exported()
    if [(label.index, label.name) for label in expected] != [(told["index"], told["name"]) for told in volume.told]:
        yield f"The labels of {volume.name} are not those of data.json."
        return
    for told in volume.told:
        yield from _value_problems(volume, told)
    if not volume.isolated and not all(type(told["value"]) is int and told["value"] > 0 for told in volume.told):
        return
    segments = volume.segments()
    held = list(_held(volume, segments))
    for file, keys in held:
        yield from _file_problems(volume, file, keys)
    if volume.format == "nrrd" and segments:
        yield from _nrrd_problems(volume, segments)
    if volume.format == "nifti":
        yield from _nifti_problems(volume, segments)
    if volume.format == "dicom-seg":
        yield from _dicom_problems(volume, segments)
    yield from _overlap_problems(volume, segments)


def _value_problems(volume: VolumeLabels, told: dict[str, Any]) -> Iterator[str]:
    value, label = told["value"], f"label {told['index']} of {volume.name}"
    if type(value) is not int or not 0 < value <= MAX_VALUE:
        yield f"The value of {label} is {value!r}."
    elif volume.options.get("labelValues", "index") == "index":
        expected = 1 if volume.isolated else told["index"] + 1
        if value != expected:
            yield f"The value of {label} is {value} instead of {expected}."
    elif volume.values.setdefault(told["name"] or "", value) != value:
        yield f"The value of {label} is {value}, that of another label with its name {volume.values[told['name']]}."
    if not 0 <= told["voxelsInFile"] <= told["voxels"]:
        yield f"The voxels of {label} are {told['voxels']} and in the file {told['voxelsInFile']}."


# The labels that share a key of a file.
Held = dict[Key, list[dict[str, Any]]]


def _held(volume: VolumeLabels, segments: Sequence[Segment]) -> Iterator[tuple[str, Held]]:
    """The file of each label, or of all of them, and the keys by which it holds which."""
    ending = {"mhd": ".raw", "nifti": ".nii", "nrrd": ".seg.nrrd", "dicom-seg": ".dcm"}[volume.format]
    if volume.isolated:
        for told in volume.told:
            yield f"{volume.name}-label{told['index']:03d}{ending}", {(0, told["value"]): [told]}
        return
    by_value: dict[int, list[dict[str, Any]]] = {}
    for told in volume.told:
        by_value.setdefault(told["value"], []).append(told)
    held: Held = {}
    for segment in segments:
        here = by_value[segment.value]
        layer, number = here[0].get("layer", 0), here[0].get("segment", segment.value)
        if any((told.get("layer", 0), told.get("segment", segment.value)) != (layer, number) for told in here):
            number = -1
        held[layer, number if volume.format == "dicom-seg" else segment.value] = here
    yield f"{volume.name}-label{ending}", held


def _file_problems(volume: VolumeLabels, file: str, held: Held) -> Iterator[str]:
    found, voxels = volume.found.get(file), None
    if volume.format == "dicom-seg":
        has_voxels = any(told["voxels"] for told in volume.told)
        if found is not None and found.segmentation is not None:
            voxels = {(0, number): tally for number, tally in volume.segment_tallies().items()}
        elif not has_voxels:
            voxels = {}
    elif found is not None and found.voxels is not None:
        voxels = found.voxels.found
        if found.voxels.size != volume.size or found.size - len(found.header) != found.voxels.bytes_expected:
            yield f"{file} has not the size of its volume."
    said = file if found is not None else None
    wrong = [told["index"] for labels in held.values() for told in labels if _path(volume, told["file"]) != said]
    if wrong:
        yield f"{file} is not the file that is told of label {wrong[0]}."
    if voxels is None:
        if held or volume.format in {"mhd", "nifti"}:
            yield f"{file}, which holds labels, is missing or none of its kind."
        return
    for key in sorted(voxels.keys() - held.keys())[:1]:
        yield f"{file} has voxels of the value {key[1]}, which no label has."
    for key, labels in held.items():
        yield from _tally_problems(volume, file, labels, voxels.get(key))


def _path(volume: VolumeLabels, file: str | None) -> str | None:
    return None if file is None else f"{volume.name.rpartition('/')[0]}/{file}"


def _tally_problems(
    volume: VolumeLabels, file: str, labels: Sequence[dict[str, Any]], tally: Tally | None
) -> Iterator[str]:
    indices = " and ".join(str(told["index"]) for told in labels)
    count, promised = 0 if tally is None else tally.count, sum(told["voxelsInFile"] for told in labels)
    if count != promised:
        yield f"{file}: label {indices} has {count} voxels instead of {promised}."
    boxes = [_box(volume, volume.drawn[told["index"]]) for told in labels]
    for told, box in zip(labels, boxes, strict=True):
        room = 1
        for low, high in zip(box[::2], box[1::2], strict=True):
            room *= max(high - low + 1, 0)
        if told["voxels"] > room:
            where = f"label {told['index']} of {volume.name}"
            yield f"The voxels of {where} are {told['voxels']}; there is room for {room}."
    if tally is not None:
        solid = [box for box in boxes if box[0] <= box[1]]
        bounds = [(min, max)[i % 2]((box[i] for box in solid), default=-1) for i in range(6)]
        grown = [(min, max)[i % 2](pair) for i, pair in enumerate(zip(tally.box, bounds, strict=True))]
        if grown != bounds:
            yield f"{file}: label {indices} has voxels outside the box that data.json tells."


def _box(volume: VolumeLabels, label: dict[str, Any]) -> tuple[int, ...]:
    """Where a label may have voxels, (x0, x1, y0, y1, z0, z1), inclusive; a shape may anywhere."""
    if label["type"] != VOXEL:
        origin, size = (0, 0, 0), volume.size
    elif label["data"].get("voxels") is None:
        origin, size = volume.size, (0, 0, 0)
    else:
        origin, size = label["data"]["origin"], label["data"]["size"]
    return tuple(int(edge) for o, s in zip(origin, size, strict=True) for edge in (o, o + s - 1))


def _overlap_problems(volume: VolumeLabels, segments: Sequence[Segment]) -> Iterator[str]:
    told = volume.series.get("overlaps", [])
    if volume.isolated:
        if "overlaps" in volume.series:
            yield f"{volume.name} has masks by themselves, yet overlaps."
        return
    kind = "voxelsPaintedOver" if volume.format in {"mhd", "nifti"} else "voxelsShared"
    pairs = {(entry["label"], entry["by"]): entry[kind] for entry in told}
    known = {label["index"] for label in volume.told}
    if len(pairs) != len(told) or not all(a in known and b in known and a < b and n > 0 for (a, b), n in pairs.items()):
        yield f"The overlaps of {volume.name} are not between labels of it."
        return
    if kind == "voxelsPaintedOver":
        hidden: Counter[int] = Counter()
        for (under, _), count in pairs.items():
            hidden[under] += count
        for label in volume.told:
            if label["voxels"] - label["voxelsInFile"] != hidden[label["index"]]:
                yield f"The overlaps of {volume.name} do not explain the voxels of label {label['index']}."
        return
    if pairs != _shared(volume, segments):
        yield f"The overlaps of {volume.name} are not those of its file."


def _shared(volume: VolumeLabels, segments: Sequence[Segment]) -> dict[tuple[int, int], int]:
    """As the file has them, by the first label's index of each segment."""
    first = {segment.value: segment.labels[0].index for segment in segments}
    by_index = {told["index"]: told for told in volume.told}
    if volume.format == "nrrd":
        file = volume.found.get(f"{volume.name}-label.seg.nrrd")
        shared = {} if file is None or file.voxels is None else file.voxels.shared
        pairs = {(first.get(a[1], -1), first.get(b[1], -1)): count for (a, b), count in shared.items()}
    else:
        file = volume.found.get(f"{volume.name}-label.dcm")
        numbers = {by_index[index].get("segment"): index for index in first.values()}
        found = {} if file is None or file.segmentation is None else file.segmentation.shared
        pairs = {(numbers.get(a, -1), numbers.get(b, -1)): count for (a, b), count in found.items()}
    return {(min(pair), max(pair)): count for pair, count in pairs.items()}


def _nrrd_problems(volume: VolumeLabels, segments: Sequence[Segment]) -> Iterator[str]:
    """The header is the one that is made of these labels, with the volume's geometry."""
    name = f"{volume.name}-label.seg.nrrd"
    file, image = volume.found.get(name), volume.found.get(f"{volume.name}.nrrd")
    if file is None or file.voxels is None or image is None:
        return
    told = {label["value"]: label["layer"] for label in volume.told}
    layers = tuple(told[segment.value] for segment in segments)
    tallies = [file.voxels.found.get((layer, s.value)) for layer, s in zip(layers, segments, strict=True)]
    boxes = tuple(None if tally is None else tuple(tally.box) for tally in tallies)
    survey = Survey({}, {}, boxes, np.zeros((0, 0), bool), {}, layers)  # type: ignore[arg-type]  # six numbers each
    header = seg_nrrd.header(geometry=NO_GEOMETRY, size=volume.size, segments=segments, survey=survey)
    if without_geometry(header) != without_geometry(file.header):
        yield f"The header of {name} is not that of its labels."
    ours, its = nrrd_fields(file.header), nrrd_fields(image.header)
    for field in ("space directions", "space origin"):
        if ours.get(field, "").removeprefix("none ") != its.get(field, "").removeprefix("none "):
            yield f"{volume.name} and its labels have different geometries."


def _nifti_problems(volume: VolumeLabels, segments: Sequence[Segment]) -> Iterator[str]:
    image = volume.found.get(f"{volume.name}.nii")
    names = [f"{volume.name}-label.nii"]
    if volume.isolated:
        names = [f"{volume.name}-label{told['index']:03d}.nii" for told in volume.told]
    else:
        yield from _table_problems(volume, value_table(segments))
    for name in names:
        file = volume.found.get(name)
        if file is None or image is None or file.voxels is None or len(image.header) < 80:
            continue
        code, bits = NIFTI_CODES[file.voxels.dtype.name]
        same = image.header[:68] + struct.pack("<hhh", NIFTI_LABEL, code, bits) + image.header[74:]
        if file.header != same:
            yield f"The header of {name} is not that of labels of its volume."


def _table_problems(volume: VolumeLabels, table: dict[str, Any]) -> Iterator[str]:
    name = f"{volume.name}-label.json"
    file = volume.found.get(name)
    if file is not None and file.sha256 != hashlib.sha256(dump(table, indent=True) + b"\n").hexdigest():
        yield f"{name} is not the table of these labels."


def _dicom_problems(volume: VolumeLabels, segments: Sequence[Segment]) -> Iterator[str]:
    name = f"{volume.name}-label.dcm"
    file = volume.found.get(name)
    made = None if file is None else file.segmentation
    if made is None:
        return
    numbers = {told["value"]: told["segment"] for told in volume.told}
    table = value_table(segments)
    for row in table["values"]:
        row["segment"] = numbers[row["value"]]
    yield from _table_problems(volume, table)
    described = {numbers[s.value]: (segment_label(s), s.name) for s in segments}
    # The segment 0 of a label map is what no label has.
    if described != {number: words for number, words in made.segments.items() if number or made.kind != "LABELMAP"}:
        yield f"The segments of {name} are not these labels."
    instances = [original.instance for original in volume.originals()]
    if (made.columns, made.rows) != volume.size[:2] or not made.is_padded:
        yield f"{name} has not the size of its volume."
    if made.series != volume.series["seriesUid"] or list(made.referenced) != instances:
        yield f"{name} does not refer to the files of its volume."
    if not set(made.frames) <= set(instances):
        yield f"{name} has frames on images that are not here."
    expected = "BINARY" if volume.series["overlaps"] else "LABELMAP"
    if made.kind != expected:
        yield f"{name} is a {made.kind} segmentation instead of a {expected} one."
