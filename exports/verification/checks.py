"""A manifest against the files that it is about: options, cases, folders, and which files there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any

from cases.image_numbers import PartialVolume
from exports.folders import folder_name, folders
from exports.verification.labels import VolumeLabels
from exports.verification.labels import problems as label_problems
from exports.verification.reading import MANIFEST, Found
from exports.verification.volumes import volume_files

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
# More images than any volume has: a descriptor may claim any number.
MAX_DEPTH = 2**20


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
    # A dict for its order and for finding names in it.
    promised = dict.fromkeys(file["name"] for case in cases for file in case.get("files", ()))
    for name in sorted(found.keys() - {*promised, MANIFEST}):
        yield f"{name} is not in the manifest."
    if [name for name in found if name in promised] != [name for name in promised if name in found]:
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
    expected, listed = [f"{folder}/data.json"], [file["name"] for file in case["files"]]
    for series, its in zip(case["series"], drawn, strict=True):
        for kind in ("warnings", "seriesWarnings"):
            if not all(isinstance(warning, str) for warning in series[kind]):
                yield f"The {kind} of {folder}/{series['volume']} are not sentences."
        numbers = PartialVolume(*(its["partialVolumeDescriptor"][name] for name in ("start", "end", "delta"))).numbers()
        if len(numbers) > MAX_DEPTH:
            raise ValueError("a volume of so many images")
        name = f"{folder}/{series['volume']}"
        seen = volume_files(name, numbers, listed, archive.options, found)
        yield from seen.wrong
        expected += seen.names
        volume = VolumeLabels(name, seen.size, numbers, series, its["labels"], archive.options, found, archive.values)
        expected += _label_files(volume)
        yield from label_problems(volume)
    if expected != listed:
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
