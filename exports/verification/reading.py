"""What is remembered of each file of an archive, which is read once, a chunk at a time."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, cast

import numpy as np

from exports.verification.container import CHUNK, Written
from exports.verification.segmentation import Segmentation, instance_of, read_segmentation
from exports.verification.tally import VoxelCounter

MANIFEST = "manifest.json"
MAX_JSON = 64 * 2**20
# Headers of MetaImage and NIfTI are short; that of a segmentation names each segment.
MAX_HEADER, MAX_SEGMENTATION_HEADER = 2**16, 2**24
NIFTI_HEADER = 352
NIFTI_TYPES = {2: "uint8", 512: "uint16"}
META_TYPES = {"MET_UCHAR": "uint8", "MET_USHORT": "uint16"}
LABELS = "-label"
# Larger DICOM files lie in the temporary folder while they are looked at.
IN_MEMORY = 2**22
PLACE = ("voxels", "origin", "size", "color")


@dataclass(slots=True)
class Found:
    """A file. `header` is what stands before its voxels, `document` what a JSON file says, `instance` a DICOM UID."""

    size: int
    sha256: str
    written: Written
    header: bytes = b""
    document: Any = None
    voxels: VoxelCounter | None = None
    segmentation: Segmentation | None = None
    instance: str = ""


def look(name: str, written: Written, file: IO[bytes], seen: Mapping[str, Found]) -> Found:
    """`seen` are the files before it. Raises ValueError and others where the file is none of its kind."""
    last = name.rpartition("/")[2]
    reader = _reader(name, last, seen)
    digest, size = hashlib.sha256(), 0
    with reader as (feed, result):
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            feed(chunk)
        found = Found(size, digest.hexdigest(), written)
        result(found)
    return found


Reader = tuple[Callable[[bytes], object], Callable[[Found], object]]


@contextmanager
def _reader(name: str, last: str, seen: Mapping[str, Found]) -> Iterator[Reader]:
    is_label = LABELS in last
    if last == "data.json":
        yield _text(name, MAX_JSON, lambda found, data: setattr(found, "document", _case_in(data)))
    elif last.endswith(".json"):
        yield _text(name, MAX_JSON, lambda found, data: setattr(found, "document", _parsed(data)))
    elif last.endswith(".mhd"):
        yield _text(name, MAX_HEADER, lambda found, data: setattr(found, "header", data))
    elif last.endswith(".raw") and is_label:
        yield _voxels(_of_meta_image(name, seen), b"")
    elif last.endswith((".nii", ".nrrd")):
        yield _headed(name, is_label)
    elif last.endswith(".dcm"):
        with SpooledTemporaryFile(IN_MEMORY, prefix="casestore-") as copy:
            yield copy.write, lambda found: _read_dicom(cast(BinaryIO, copy), is_label, found)
    else:
        yield lambda chunk: None, lambda found: None


def _text(name: str, limit: int, keep: Callable[[Found, bytes], object]) -> Reader:
    data = bytearray()

    def feed(chunk: bytes) -> None:
        if len(data) + len(chunk) > limit:
            raise ValueError(f"{name} is larger than {limit} bytes, which is as much as is read")
        data.extend(chunk)

    return feed, lambda found: keep(found, bytes(data))


def _read_dicom(copy: BinaryIO, is_label: bool, found: Found) -> None:
    if is_label:
        found.segmentation = read_segmentation(copy)
    else:
        found.instance = instance_of(copy)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _case_in(data: bytes) -> Any:
    """What is needed of a data.json: not the points of its shapes, nor attributes."""
    try:
        case = json.loads(data)
        revision = case["revision"]
        series = [
            {
                "seriesUid": entry["seriesUid"],
                "partialVolumeDescriptor": entry["partialVolumeDescriptor"],
                "labels": [
                    {
                        "type": label["type"],
                        "name": label.get("name"),
                        "data": {key: label["data"][key] for key in PLACE if key in label["data"]},
                    }
                    for label in entry["labels"]
                ],
            }
            for entry in revision["series"]
        ]
        return {
            "caseId": case["caseId"],
            "updatedAt": case["updatedAt"],
            "revision": {"date": revision["date"], "series": series},
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _of_meta_image(name: str, seen: Mapping[str, Found]) -> VoxelCounter | None:
    header = seen.get(f"{name.removesuffix('.raw')}.mhd")
    fields = {} if header is None else meta_fields(header.header)
    kind, size = META_TYPES.get(fields.get("ElementType", "")), fields.get("DimSize", "").split()
    return None if kind is None or len(size) != 3 else _expected(kind, [int(n) for n in size])


def meta_fields(header: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in header.decode("ascii", "replace").splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def _expected(kind: str, size: list[int], layers: int = 1) -> VoxelCounter:
    width, height, depth = size
    return VoxelCounter((width, height, depth), np.dtype(kind).newbyteorder("<"), layers)


def _voxels(voxels: VoxelCounter | None, header: bytes) -> Reader:
    def result(found: Found) -> None:
        found.header, found.voxels = header, voxels

    return (lambda chunk: None) if voxels is None else voxels.feed, result


def _headed(name: str, is_label: bool) -> Reader:
    """A file whose header stands before its voxels."""
    head = bytearray()
    reader: Reader | None = None

    def feed(chunk: bytes) -> None:
        nonlocal reader
        if reader is not None:
            reader[0](chunk)
            return
        head.extend(chunk)
        end = NIFTI_HEADER if name.endswith(".nii") else head.find(b"\n\n") + 2
        if end > 1 and len(head) >= end:
            header, rest = bytes(head[:end]), bytes(head[end:])
            head.clear()
            kind_of = _of_nifti if name.endswith(".nii") else _of_nrrd
            reader = _voxels(kind_of(header) if is_label else None, header)
            reader[0](rest)
        elif len(head) > MAX_SEGMENTATION_HEADER:
            raise ValueError(f"{name} has no end of its header")

    return feed, lambda found: None if reader is None else reader[1](found)


def _of_nifti(header: bytes) -> VoxelCounter | None:
    dimensions = struct.unpack_from("<8h", header, 40)
    kind = NIFTI_TYPES.get(struct.unpack_from("<h", header, 70)[0])
    return None if kind is None or dimensions[0] != 3 else _expected(kind, list(dimensions[1:4]))


def nrrd_fields(header: bytes) -> dict[str, str]:
    lines = header.decode("utf-8", "replace").splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line and ":=" not in line)


def _of_nrrd(header: bytes) -> VoxelCounter | None:
    fields = nrrd_fields(header)
    kind, size = fields.get("type"), [int(n) for n in fields.get("sizes", "").split()]
    if kind is None or kind not in NIFTI_TYPES.values() or len(size) not in {3, 4}:
        return None
    return _expected(kind, size[-3:], size[0] if len(size) == 4 else 1)
