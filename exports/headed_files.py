"""NIfTI and NRRD files as they are checked: their geometry, and how many voxels of each value a label file has.

They are read once, a chunk at a time. numpy only, no Django.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

NIFTI_HEADER = 352
MAX_HEADER = 64 * 2**20
# Of the counts of one file, which has a layer for each label that overlaps others.
MAX_COUNTS = 2**25
NIFTI_TYPES = {2: "uint8", 512: "uint16"}
NRRD_ENDINGS = (".nrrd", ".seg.nrrd")


def is_headed(name: str) -> bool:
    return name.endswith((".nii", *NRRD_ENDINGS))


@dataclass(slots=True)
class HeadedFile:
    """`geometry` is what must be the same in a volume and its labels; `counts[layer, value]` are of label files."""

    name: str
    is_label: bool
    geometry: str = ""
    counts: np.ndarray | None = None
    _dtype: np.dtype | None = None
    _head: bytes = b""
    _rest: bytes = field(default=b"")

    def feed(self, chunk: bytes) -> None:
        if self.geometry:
            self._count(chunk)
            return
        self._head += chunk
        end = self._header_end()
        if end and len(self._head) >= end:
            head, rest, self._head = self._head[:end], self._head[end:], b""
            (self._read_nifti if self.name.endswith(".nii") else self._read_nrrd)(head)
            self._count(rest)
        elif len(self._head) > MAX_HEADER:
            raise ValueError(f"{self.name} has no end of its header")

    def _header_end(self) -> int:
        """0 where it is not here yet."""
        if self.name.endswith(".nii"):
            return NIFTI_HEADER
        found = self._head.find(b"\n\n")
        return 0 if found < 0 else found + 2

    def _read_nifti(self, head: bytes) -> None:
        # datatype; pixdim with the handedness; both transforms.
        (kind,) = struct.unpack_from("<h", head, 70)
        self.geometry = (head[76:92] + head[252:328]).hex()
        self._expect(NIFTI_TYPES.get(kind), 1)

    def _read_nrrd(self, head: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in head.decode("utf-8", "replace").splitlines() if ": " in line)
        directions = fields.get("space directions", "").removeprefix("none ")
        self.geometry = f"{directions} {fields.get('space origin', '')}"
        sizes = fields.get("sizes", "").split()
        kind = fields.get("type")
        self._expect(kind if kind in NIFTI_TYPES.values() else None, int(sizes[0]) if len(sizes) == 4 else 1)

    def _expect(self, kind: str | None, layers: int) -> None:
        if self.is_label and kind is not None:
            self._dtype = np.dtype(kind).newbyteorder("<")
            if not 0 < layers <= MAX_COUNTS >> (8 * self._dtype.itemsize):
                raise ValueError(f"{self.name} has {layers} layers")
            self.counts = np.zeros((layers, 2 ** (8 * self._dtype.itemsize)), np.int64)

    def _count(self, chunk: bytes) -> None:
        if self.counts is None or self._dtype is None:
            return
        data = self._rest + chunk
        layers, values = self.counts.shape
        whole = len(data) // (layers * self._dtype.itemsize) * layers * self._dtype.itemsize
        self._rest = data[whole:]
        voxels = np.frombuffer(data[:whole], self._dtype).reshape(-1, layers)
        for layer in range(layers):
            self.counts[layer] += np.bincount(voxels[:, layer], minlength=values)
