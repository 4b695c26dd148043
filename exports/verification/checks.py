"""A manifest against the files that it is about: options, cases, folders, files, volumes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from math import prod
from typing import Any

import numpy as np

from cases.image_numbers import PartialVolume
from exports import mhd
from exports.folders import folder_name, folders
from exports.verification.labels import VolumeLabels
from exports.verification.labels import problems as label_problems
from exports.verification.reading import MANIFEST, Found, meta_fields, nrrd_fields

VERSION = 1
CHOICES: dict[str, tuple[Any, ...]] = {
    "format": ("mhd", "nrrd", "nifti", "dicom-seg"),
    "labelPackType": ("isolated", "combined"),
    "labelValues": ("index", "project"),
    "rasterizeShapes": (False, True),
    "mhdLineEnding": ("lf", "crlf"),
    "compressionFormat": ("tgz", "zip"),
}
NEEDED = {
    "mhd": {"labelPackType", "mhdLineEnding"},
    "nifti": {"labelPackType"},
    "nrrd": set[str](),
    "dicom-seg": set[str](),
}
OPTIONAL = {"format", "labelValues", "rasterizeShapes"}
# What numbers that are none, or missing, raise.
NO_HEADER = (KeyError, ValueError, TypeError, struct.error)
# More images than any volume has: a descriptor may claim any number.
MAX_DEPTH = 2**20
ELEMENT_TYPES = {name: kind for kind, name in mhd.ELEMENT_TYPES.items()}
NRRD_TYPES = {"float": "float32"}
# dim, and where bitpix is.
NIFTI_DIMENSIONS, NIFTI_BITS = struct.Struct("<8h"), 72


@dataclass(slots=True)
class Archive:
    """`kind`: what the container is. `values` are those of label names, with `labelValues` "project"."""

    manifest: dict[str, Any]
    found: Mapping[str, Found]
    kind: str
    values: dict[str, int] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = self.manifest["options"]
        return options

    @property
    def format(self) -> str:
        return str(self.options.get("format", "mhd"))


def problems(archive: Archive) -> Iterator[str]:
    """Sentences. Raises nearly anything where the manifest has not the shape of one."""
    cases, found = archive.manifest["cases"], archive.found
    if archive.manifest["version"] != VERSION or set(archive.manifest) != {"version", "options", "cases"}:
        yield f"manifest.json is not one of version {VERSION}."
    wrong = list(_option_problems(archive))
    yield from wrong
    if wrong:
        return
    yield from _folder_problems(cases)
    promised = [file["name"] for case in cases for file in case.get("files", ())]
    for name in sorted(found.keys() - {*promised, MANIFEST}):
        yield f"{name} is not in the manifest."
    if [name for name in found if name in set(promised)] != [name for name in promised if name in found]:
        yield "The files stand in another order than in the manifest."
    if list(found)[-1] != MANIFEST:
        yield "manifest.json is not the last file."
    packed = [case for case in cases if case["status"] == "packed"]
    if not packed:
        yield "No case is in the archive."
    elif not found[MANIFEST].written.is_at(max(_moment(case) for case in packed)):
        yield "manifest.json has not the time of the newest revision."
    for case in cases:
        if case["status"] == "packed":
            yield from _case_problems(archive, case)
        else:
            yield from _failed_problems(archive, case)


def _moment(case: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(case["revisionDate"])


def _option_problems(archive: Archive) -> Iterator[str]:
    options = archive.options
    for name, value in options.items():
        if not any(type(value) is type(choice) and value == choice for choice in CHOICES.get(name, ())):
            yield f"The option {name} cannot be {value!r}."
            return
    needed = NEEDED[archive.format] | {"compressionFormat"}
    for name in sorted(needed - options.keys()):
        yield f"The option {name} is missing."
    for name in sorted(options.keys() - needed - OPTIONAL):
        yield f"The option {name} means nothing to the format {archive.format}."
    if options.get("compressionFormat") != archive.kind:
        yield f"The archive is a {archive.kind}, not what the option compressionFormat says."


def _folder_problems(cases: list[dict[str, Any]]) -> Iterator[str]:
    mentions = Counter(case["caseId"] for case in cases)
    repeated = {
        case["caseId"]
        for case in cases
        if mentions[case["caseId"]] > 1 or case["folder"].startswith(f"{folder_name(case['caseId'])}-rev")
    }
    expected = folders([(case["caseId"], case["revisionIndex"]) for case in cases], repeated)
    for case, folder in zip_longest(cases, expected):
        if folder is None or case["folder"] != folder:
            yield f"The folder of case {case['caseId']!r}, {case['folder']!r}, is not that of its name."
            return
    for case in cases:
        if type(case["revisionIndex"]) is not int or case["revisionIndex"] < 0:
            yield f"{case['folder']} has the revision index {case['revisionIndex']!r}."


def _failed_problems(archive: Archive, case: dict[str, Any]) -> Iterator[str]:
    folder = case["folder"]
    if case["status"] != "failed" or not isinstance(case.get("reason"), str) or not case["reason"]:
        yield f"{folder} is neither packed nor left out for a reason."
    if case.keys() & {"files", "series"}:
        yield f"{folder} was left out, but has files in the manifest."
    if leftover := [name for name in archive.found if name.startswith(f"{folder}/")]:
        yield f"{folder} was left out, but {leftover[0]} is there."


def _case_problems(archive: Archive, case: dict[str, Any]) -> Iterator[str]:
    folder, found = case["folder"], archive.found
    for file in case["files"]:
        yield from _file_problems(file, found.get(file["name"]), _moment(case))
    data = found.get(f"{folder}/data.json")
    document = {} if data is None else data.document
    if not isinstance(document, dict) or (document.get("caseId"), document.get("updatedAt")) != (
        case["caseId"],
        case["revisionDate"],
    ):
        yield f"{folder}/data.json is of another case or revision."
        return
    drawn = document["revision"]["series"]
    if document["revision"]["date"] != case["revisionDate"]:
        yield f"{folder}/data.json is of another case or revision."
    names = [f"vol{index:03d}" for index in range(len(drawn))]
    told = [(s["volume"], s["seriesUid"], s["partialVolumeDescriptor"]) for s in case["series"]]
    if told != [(n, s["seriesUid"], s["partialVolumeDescriptor"]) for n, s in zip(names, drawn, strict=True)]:
        yield f"The series of {folder} are not those of its data.json."
        return
    expected = [f"{folder}/data.json"]
    for series, its in zip(case["series"], drawn, strict=True):
        for kind in ("warnings", "seriesWarnings"):
            if not all(isinstance(warning, str) for warning in series[kind]):
                yield f"The {kind} of {folder}/{series['volume']} are not sentences."
        numbers = PartialVolume(*(its["partialVolumeDescriptor"][name] for name in ("start", "end", "delta"))).numbers()
        if len(numbers) > MAX_DEPTH:
            raise ValueError("a volume of so many images")
        files, size, sentences = _volume(archive, f"{folder}/{series['volume']}", numbers, case)
        yield from sentences
        expected += files
        volume = VolumeLabels(
            f"{folder}/{series['volume']}", size, numbers, series, its["labels"], archive.options, found, archive.values
        )
        expected += _label_files(volume)
        yield from label_problems(volume)
    if expected != [file["name"] for file in case["files"]]:
        yield f"The files of {folder} are not those that its labels and the options ask for."


def _file_problems(file: dict[str, Any], found: Found | None, moment: datetime) -> Iterator[str]:
    name = file["name"]
    if found is None:
        yield f"{name} is missing."
    elif found.size != file["size"]:
        yield f"{name} has {found.size} bytes instead of {file['size']}."
    elif found.sha256 != file["sha256"]:
        yield f"{name} has another SHA-256."
    elif not found.written.is_at(moment):
        yield f"{name} has not the time of its revision."


def _label_files(volume: VolumeLabels) -> list[str]:
    name, labels = f"{volume.name}-label", volume.told
    if volume.format == "nrrd":
        return [f"{name}.seg.nrrd"] if labels else []
    if volume.format == "dicom-seg":
        return [f"{name}.dcm", f"{name}.json"] if any(label["voxels"] for label in labels) else []
    endings = (".mhd", ".raw") if volume.format == "mhd" else (".nii",)
    if volume.isolated:
        return [f"{name}{label['index']:03d}{ending}" for label in labels for ending in endings]
    return [f"{name}{ending}" for ending in endings] + ([f"{name}.json"] if volume.format == "nifti" else [])


Volume = tuple[list[str], tuple[int, int, int], list[str]]


def _volume(archive: Archive, name: str, numbers: Sequence[int], case: dict[str, Any]) -> Volume:
    """The files of a volume, its size, and what is wrong with them."""
    found, depth = archive.found, len(numbers)
    if archive.format == "dicom-seg":
        wanted = [f"{name}/{number:05d}.dcm" for number in numbers]
        listed = {file["name"] for file in case["files"]}
        # A file may hold several images; it has the number of the first of them.
        files = [file for i, file in enumerate(wanted) if file in listed or i == 0]
        segmentation = found.get(f"{name}-label.dcm")
        made = None if segmentation is None else segmentation.segmentation
        plane = (1, 1) if made is None else (made.columns, made.rows)
        instances = [found[file].instance for file in files if file in found]
        twice = len(set(instances)) != len(instances) or "" in instances
        return files, (*plane, depth), [f"{name} holds a file twice, or one that is no DICOM file."] * twice
    if archive.format == "mhd":
        return [f"{name}.mhd", f"{name}.raw"], *_meta_image(archive, name, depth, case)
    ending = ".nrrd" if archive.format == "nrrd" else ".nii"
    file = found.get(f"{name}{ending}")
    if file is None:
        return [f"{name}{ending}"], (1, 1, depth), []
    try:
        size, voxel = _nrrd(file.header) if ending == ".nrrd" else _nifti(file.header)
    except NO_HEADER:
        return [f"{name}{ending}"], (1, 1, depth), [f"{name}{ending} has no header as exports have it."]
    wrong = size[2] != depth or file.size != len(file.header) + prod(size) * voxel
    return [f"{name}{ending}"], size, [f"{name}{ending} has not the size that its header and data.json say."] * wrong


def _nrrd(header: bytes) -> tuple[tuple[int, int, int], int]:
    """Size (x, y, z), and bytes of a voxel."""
    fields = nrrd_fields(header)
    sizes = [int(n) for n in fields["sizes"].split()]
    width, height, depth = sizes[-3:]
    kind = fields["type"]
    return (width, height, depth), prod(sizes[:-3]) * np.dtype(NRRD_TYPES.get(kind, kind)).itemsize


def _nifti(header: bytes) -> tuple[tuple[int, int, int], int]:
    """Size (x, y, z), and bytes of a voxel."""
    _, width, height, depth, *_ = NIFTI_DIMENSIONS.unpack_from(header, 40)
    (bits,) = struct.unpack_from("<h", header, NIFTI_BITS)
    return (width, height, depth), bits // 8


def _meta_image(
    archive: Archive, name: str, depth: int, case: dict[str, Any]
) -> tuple[tuple[int, int, int], list[str]]:
    """The header is the one that its own numbers make; those of labels say the same of where they are."""
    size, wrong = (1, 1, depth), []
    own: dict[str, str] = {}
    for path in (file["name"] for file in case["files"]):
        file = archive.found.get(path)
        if file is None or not path.endswith(".mhd") or not path.startswith((f"{name}.", f"{name}-label")):
            continue
        try:
            header, here, needed = _made_again(path, file.header, archive.options["mhdLineEnding"])
        except NO_HEADER:
            header, here, needed = b"", (1, 1, depth), 0
        if header != file.header:
            wrong.append(f"{path} is not a header as exports have it, or not that of its file.")
        data = archive.found.get(f"{path.removesuffix('.mhd')}.raw")
        if data is not None and data.size != needed:
            wrong.append(f"{path} describes another size than its data file has.")
        fields = meta_fields(file.header)
        place = {key: fields.get(key, "") for key in ("TransformMatrix", "Offset", "ElementSpacing", "DimSize")}
        if path == f"{name}.mhd":
            size, own = here, place
        elif place != own:
            wrong.append(f"{name} and its labels have different geometries.")
    if size[2] != depth:
        wrong.append(f"{name}.mhd has {size[2]} slices; its images are {depth}.")
    return size, wrong


def _made_again(path: str, header: bytes, line_ending: str) -> tuple[bytes, tuple[int, int, int], int]:
    """The header that its own numbers make; its size (x, y, z), and the bytes that its data file should have."""
    fields = meta_fields(header)
    kind, channels = ELEMENT_TYPES[fields["ElementType"]], int(fields.get("ElementNumberOfChannels", "1"))
    width, height, depth = (int(n) for n in fields["DimSize"].split())
    axes = np.array(fields["TransformMatrix"].split(), float).reshape(3, 3)
    made = mhd.header(
        spacing=[float(n) for n in fields["ElementSpacing"].split()],
        origin=[float(n) for n in fields["Offset"].split()],
        direction=axes.T.ravel().tolist(),
        size=(width, height, depth),
        channels=channels,
        element_type=kind,
        data_file=f"{path.rpartition('/')[2].removesuffix('.mhd')}.raw",
        line_ending=line_ending,
    )
    return made, (width, height, depth), width * height * depth * channels * np.dtype(kind).itemsize
