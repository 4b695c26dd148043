"""Checks every promise that an archive's manifest makes: `python -m exports.verify FILE…`. No Django, no database.

Files and their sizes and SHA-256; headers that fit their volumes; one geometry for a volume and its labels; for each
label its voxels. The archive is read once, a chunk at a time.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from exports.headed_files import HeadedFile, is_headed

CHUNK = 2**20
MANIFEST = "manifest.json"
DATA = "/data.json"
# How much is read of what is read whole.
MAX_JSON, MAX_HEADER = 64 * 2**20, 2**16
LABELS = "-label"
ELEMENT_BYTES = {"MET_UCHAR": 1, "MET_CHAR": 1, "MET_USHORT": 2, "MET_SHORT": 2, "MET_INT": 4, "MET_FLOAT": 4}
OWN_LINES = ("ElementType", "ElementDataFile", "ElementNumberOfChannels")


@dataclass(frozen=True, slots=True)
class Values:
    """How many voxels have each value; most have none."""

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, dense: np.ndarray) -> Values:
        values = np.flatnonzero(dense)
        return cls(values, dense[values])

    def __getitem__(self, value: int) -> int:
        return int(self.counts[self.values == value].sum())


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a file in the archive: little, as there may be many.

    `text` is that of the manifest and of MetaImage headers, `case` what a data.json says it is of. `counts` are of
    label files: of a raw one as bytes and as uint16, else of each layer.
    """

    size: int
    sha256: str
    text: bytes | None = None
    case: tuple[Any, Any] | None = None
    counts: list[Values] = field(default_factory=list)
    geometry: str | None = None


def verify(path: Path) -> list[str]:
    """What is wrong with the archive, a sentence for each; empty where nothing is."""
    try:
        seen = {}
        for name, file in _members(path):
            if name in seen:
                return [f"{name} is there twice."]
            seen[name] = _look(name, file)
    except Exception as error:  # It may be any file, made to break whatever reads it.
        return [f"The archive cannot be read: {type(error).__name__}: {error}"]
    manifest = seen.pop(MANIFEST, None)
    if manifest is None or manifest.text is None:
        return ["There is no manifest.json."]
    try:
        return list(_problems(json.loads(manifest.text), seen))
    except Exception as error:  # It may be any JSON.
        return [f"manifest.json is not that of an export: {type(error).__name__}."]


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            for info in archive.infolist():
                with archive.open(info) as file:
                    yield info.filename, file
            return
        unzipped = stack.enter_context(gzip.open(path))
        tar = stack.enter_context(tarfile.open(fileobj=unzipped, mode="r|"))
        for member in tar:
            file_of_member = tar.extractfile(member)
            if file_of_member is None:
                raise tarfile.TarError(f"{member.name} is no regular file")
            yield member.name, file_of_member
        # To the end, where the checksum of all of it is.
        while unzipped.read(CHUNK):
            pass


def _look(name: str, file: IO[bytes]) -> Seen:
    digest, size = hashlib.sha256(), 0
    is_label = LABELS in name.rpartition("/")[2] and name.endswith(".raw")
    limit = MAX_JSON if name == MANIFEST or name.endswith(DATA) else MAX_HEADER if name.endswith(".mhd") else 0
    headed = HeadedFile(name, LABELS in name.rpartition("/")[2]) if is_headed(name) else None
    text = bytearray()
    # The bytes' values tell those of uint8; of uint16 the even bytes are the low ones.
    pairs = np.zeros(65536, np.int64) if is_label else None
    singles = np.zeros(256, np.int64) if is_label else None
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        text += chunk[: limit - len(text)]
        if headed is not None:
            headed.feed(chunk)
        if singles is not None and pairs is not None:
            singles += np.bincount(np.frombuffer(chunk, np.uint8), minlength=256)
            pairs += np.bincount(np.frombuffer(chunk[: len(chunk) // 2 * 2], "<u2"), minlength=65536)
    counts: list[np.ndarray] = [] if singles is None or pairs is None else [singles, pairs]
    if headed is not None and headed.counts is not None:
        counts = list(headed.counts)
    is_data = name.endswith(DATA)
    return Seen(
        size,
        digest.hexdigest(),
        text=bytes(text) if limit and not is_data else None,
        case=_case_in(text) if is_data else None,
        counts=[Values.of(dense) for dense in counts],
        geometry=None if headed is None else headed.geometry,
    )


def _case_in(text: bytearray) -> tuple[Any, Any]:
    try:
        document = json.loads(text)
        return document["caseId"], document["updatedAt"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, None


def _problems(manifest: dict[str, Any], seen: dict[str, Seen]) -> Iterator[str]:
    promised: set[str] = set()
    for case in manifest["cases"]:
        if case["status"] != "packed":
            if leftover := [name for name in seen if name.startswith(f"{case['folder']}/")]:
                yield f"{case['folder']} was left out, but {leftover[0]} is there."
            continue
        for file in case["files"]:
            promised.add(file["name"])
            yield from _file_problems(file, seen.get(file["name"]))
        yield from _case_problems(case, seen)
    for name in sorted(seen.keys() - promised):
        yield f"{name} is not in the manifest."


def _file_problems(file: dict[str, Any], found: Seen | None) -> Iterator[str]:
    name = file["name"]
    if found is None:
        yield f"{name} is missing."
    elif found.size != file["size"]:
        yield f"{name} has {found.size} bytes instead of {file['size']}."
    elif found.sha256 != file["sha256"]:
        yield f"{name} has another SHA-256."


def _case_problems(case: dict[str, Any], seen: dict[str, Seen]) -> Iterator[str]:
    folder = case["folder"]
    data = seen.get(f"{folder}/data.json")
    if data is not None and data.case != (case["caseId"], case["revisionDate"]):
        yield f"{folder}/data.json is of another case or revision."
    headers = {name: found for name, found in seen.items() if name.startswith(f"{folder}/") and name.endswith(".mhd")}
    for name, found in headers.items():
        yield from _header_problems(name, _header(found), seen)
    for series in case["series"]:
        volume = f"{folder}/{series['volume']}"
        of_volume = (f"{volume}.", f"{volume}{LABELS}")
        own = {name: _header(found) for name, found in headers.items() if name.startswith(of_volume)}
        places = {tuple((k, v) for k, v in header.items() if k not in OWN_LINES) for header in own.values()}
        headed = {f.geometry for name, f in seen.items() if name.startswith(of_volume) and f.geometry is not None}
        if len(places) > 1 or len(headed) > 1:
            yield f"{volume} and its labels have different geometries."
        # Several labels may share a value.
        shared: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
        for label in series["labels"]:
            key = f"{folder}/{label['file']}", label.get("layer", 0), label["value"]
            shared.setdefault(key, []).append(label)
        for (name, layer, value), labels in shared.items():
            yield from _label_problems(name, layer, value, labels, own, seen)


def _header(found: Seen) -> dict[str, str]:
    lines = (found.text or b"").decode("ascii", "replace").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _header_problems(name: str, header: dict[str, str], seen: dict[str, Seen]) -> Iterator[str]:
    data = seen.get(f"{name.rpartition('/')[0]}/{header.get('ElementDataFile', '')}")
    if data is None:
        yield f"{name} names a data file that is not there."
        return
    size = ELEMENT_BYTES.get(header.get("ElementType", ""), 0) * int(header.get("ElementNumberOfChannels", "1"))
    for extent in header.get("DimSize", "0").split():
        size *= int(extent)
    if data.size != size:
        yield f"{name} describes {size} bytes; its data file has {data.size}."


def _label_problems(
    name: str,
    layer: int,
    value: int,
    labels: Sequence[dict[str, Any]],
    headers: dict[str, dict[str, str]],
    seen: dict[str, Seen],
) -> Iterator[str]:
    indices = " and ".join(str(label["index"]) for label in labels)
    found = seen.get(name)
    if found is None:
        # A label without voxels is in no DICOM SEG, and in no file where there would be none but such.
        if any(label["voxelsInFile"] for label in labels) or name.endswith(".raw"):
            yield f"{name}, which holds label {indices}, is missing."
        return
    if not found.counts:
        return
    if found.geometry is None:
        header = headers.get(name.removesuffix(".raw") + ".mhd", {})
        layer = 1 if header.get("ElementType") == "MET_USHORT" else 0
    count, promised = found.counts[layer][value], sum(label["voxelsInFile"] for label in labels)
    if count != promised:
        yield f"{name}: label {indices} has {count} voxels instead of {promised}."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m exports.verify", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    failed = False
    for path in parser.parse_args(arguments).files:
        problems = verify(path)
        failed = failed or bool(problems)
        sys.stdout.write("".join(f"{path}: {problem}\n" for problem in problems) or f"{path}: as promised\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
