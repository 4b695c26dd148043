"""The files of a volume: headers that are those of its files, and one size and geometry for all of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from cases.geometry import IDENTITY, VolumeGeometry
from cases.slices import NRRD_TYPES, nrrd_header
from exports import mhd, nifti_header
from exports.verification.reading import Found, meta_fields, nrrd_fields

# What numbers that are none, or missing, raise.
NO_HEADER = (KeyError, ValueError, TypeError, struct.error)
ELEMENT_TYPES = {name: kind for kind, name in mhd.ELEMENT_TYPES.items()}
FROM_NRRD = {name: kind for kind, name in NRRD_TYPES.items()}
# By datatype.
FROM_NIFTI = {2: "uint8", 256: "int8", 512: "uint16", 4: "int16", 8: "int32", 16: "float32", 128: "uint8"}
NIFTI_RGB = 128
# The headers of NRRD and NIfTI are compared without their geometry: pixdim, the quaternion, and the affine.
NO_GEOMETRY = VolumeGeometry((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
NRRD_GEOMETRY = re.compile(rb"^space (directions|origin): .*$", re.MULTILINE)
NIFTI_GEOMETRY = (slice(76, 92), slice(256, 328))
# mm; NIfTI-1 has 32-bit numbers.
SAME_PLACE = 1e-3

Size = tuple[int, int, int]


@dataclass(slots=True)
class VolumeFiles:
    """The names of a volume's own files, its `size` (x, y, z), and sentences."""

    names: list[str]
    size: Size
    wrong: list[str] = field(default_factory=list)


def volume_files(
    name: str, numbers: Sequence[int], listed: Sequence[str], options: Mapping[str, Any], found: Mapping[str, Found]
) -> VolumeFiles:
    """`name` is that of a volume with its folder, `numbers` those of its images, `listed` the files of its case."""
    format_name = options.get("format", "mhd")
    if format_name == "dicom-seg":
        return _originals(name, numbers, listed, found)
    if format_name == "mhd":
        return _meta_images(name, len(numbers), listed, str(options["mhdLineEnding"]), found)
    path = f"{name}{'.nrrd' if format_name == 'nrrd' else '.nii'}"
    seen = VolumeFiles([path], (1, 1, len(numbers)))
    if path not in found:
        return seen
    file = found[path]
    try:
        header, seen.size, voxel = (_nrrd if format_name == "nrrd" else _nifti)(file.header)
    except NO_HEADER:
        header, voxel = b"", 0
    if header != without_geometry(file.header):
        seen.wrong.append(f"{path} has no header as exports have it.")
    elif seen.size[2] != len(numbers) or file.size != len(file.header) + prod(seen.size) * voxel:
        seen.wrong.append(f"{path} has not the size that its header and data.json say.")
    elif format_name == "nifti" and not _agrees_with_itself(file.header):
        seen.wrong.append(f"The two transforms of {path} differ.")
    return seen


def without_geometry(header: bytes) -> bytes:
    """Of NRRD, or of NIfTI, which begins with its own length."""
    if header[:4] != struct.pack("<l", nifti_header.SIZE - 4):
        return NRRD_GEOMETRY.sub(b"", header)
    rest = bytearray(header)
    for part in NIFTI_GEOMETRY:
        rest[part] = bytes(part.stop - part.start)
    return bytes(rest)


def _nrrd(header: bytes) -> tuple[bytes, Size, int]:
    """The header that its own numbers make, without geometry; size (x, y, z), and bytes of a voxel."""
    fields = nrrd_fields(header)
    *colours, width, height, depth = (int(n) for n in fields["sizes"].split())
    kind, channels = FROM_NRRD.get(fields["type"], fields["type"]), prod(colours)
    made = nrrd_header(
        element_type=kind, size=(width, height, depth), channels=channels, geometry=NO_GEOMETRY, encoding="raw"
    )
    return without_geometry(made), (width, height, depth), channels * np.dtype(kind).itemsize


def _nifti(header: bytes) -> tuple[bytes, Size, int]:
    """As `_nrrd`."""
    _, width, height, depth = struct.unpack_from("<4h", header, 40)
    (code,) = struct.unpack_from("<h", header, 70)
    kind, channels = FROM_NIFTI[code], 3 if code == NIFTI_RGB else 1
    made = nifti_header.header(geometry=NO_GEOMETRY, size=(width, height, depth), channels=channels, element_type=kind)
    return without_geometry(made), (width, height, depth), channels * np.dtype(kind).itemsize


def _agrees_with_itself(header: bytes) -> bool:
    """Its quaternion and its affine put voxels in the same place."""
    # Only archives of NIfTI need it.
    from nibabel.nifti1 import Nifti1Header

    read: Any = Nifti1Header.from_fileobj(BytesIO(header))  # type: ignore[no-untyped-call]
    return bool(np.allclose(read.get_qform(), read.get_sform(), atol=SAME_PLACE))


def _originals(name: str, numbers: Sequence[int], listed: Sequence[str], found: Mapping[str, Found]) -> VolumeFiles:
    """A file may hold several images; it has the number of the first of them."""
    known = set(listed)
    wanted = [f"{name}/{number:05d}.dcm" for number in numbers]
    names = [path for i, path in enumerate(wanted) if path in known or i == 0]
    file = found.get(f"{name}-label.dcm")
    made = None if file is None else file.segmentation
    seen = VolumeFiles(names, (1, 1, len(numbers)) if made is None else (made.columns, made.rows, len(numbers)))
    instances = [found[path].instance for path in names if path in found]
    if len(set(instances)) != len(instances) or "" in instances:
        seen.wrong.append(f"{name} holds a file twice, or one that is no DICOM file.")
    return seen


def _meta_images(
    name: str, depth: int, listed: Sequence[str], line_ending: str, found: Mapping[str, Found]
) -> VolumeFiles:
    """Those of labels say the same of where they are."""
    seen = VolumeFiles([f"{name}.mhd", f"{name}.raw"], (1, 1, depth))
    own: dict[str, str] = {}
    for path in listed:
        if path not in found or not path.endswith(".mhd") or not path.startswith((f"{name}.", f"{name}-label")):
            continue
        written = found[path].header
        try:
            header, size, needed = _meta_image(path, written, line_ending)
        except NO_HEADER:
            header, size, needed = b"", (1, 1, depth), 0
        if header != written:
            seen.wrong.append(f"{path} is not a header as exports have it, or not that of its file.")
        data = found.get(f"{path.removesuffix('.mhd')}.raw")
        if data is not None and data.size != needed:
            seen.wrong.append(f"{path} describes another size than its data file has.")
        fields = meta_fields(written)
        place = {key: fields.get(key, "") for key in ("TransformMatrix", "Offset", "ElementSpacing", "DimSize")}
        if path == f"{name}.mhd":
            seen.size, own = size, place
        elif place != own:
            seen.wrong.append(f"{name} and its labels have different geometries.")
    if seen.size[2] != depth:
        seen.wrong.append(f"{name}.mhd has {seen.size[2]} slices; its images are {depth}.")
    return seen


def _meta_image(path: str, header: bytes, line_ending: str) -> tuple[bytes, Size, int]:
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
