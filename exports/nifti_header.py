"""NIfTI-1 headers (https://nifti.nimh.nih.gov/nifti-1), made by nibabel. No Django.

The numbers of a NIfTI-1 header are 32-bit floats, so that millimetres are good to some seven digits: MHD and NRRD give
the doubles themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cases.geometry import VolumeGeometry
from casestore.errors import CasestoreError
from exports.segments import Segment

SIZE = 352
# A dimension is a signed 16-bit number.
MAX_ALONG = 2**15 - 1
SCANNER = 1


def header(
    *, geometry: VolumeGeometry, size: Sequence[int], channels: int, element_type: str, labels: bool = False
) -> bytes:
    """The 352 bytes before the voxels of a `.nii`; `size` is (x, y, z), colour is RGB24.

    NIfTI's millimetres are RAS, x towards the patient's right. Both affines say where voxels are; their order stays.
    """
    # Only workers that write NIfTI need it in memory.
    from nibabel.nifti1 import Nifti1Header

    if max(size) > MAX_ALONG:
        raise CasestoreError(f"NIfTI-1 cannot hold a volume of more than {MAX_ALONG} voxels along an axis.")
    made: Any = Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    made.set_data_dtype("RGB" if channels == 3 else np.dtype(element_type))
    made.set_data_shape([int(n) for n in size])
    affine = ras_affine(geometry)
    # The quaternion first: it sets the spacing.
    made.set_qform(affine, code=SCANNER)
    made.set_sform(affine, code=SCANNER)
    made.set_xyzt_units(xyz="mm")
    made.set_slope_inter(1, 0)
    if labels:
        made.set_intent("label")
    made["vox_offset"] = SIZE
    made["descrip"] = b"casestore"
    # Four zero bytes: no extensions follow.
    return bytes(made.binaryblock) + bytes(4)


def ras_affine(geometry: VolumeGeometry) -> np.ndarray:
    """Voxel indices into millimetres, 4 x 4: DICOM's LPS with x and y the other way round."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(geometry.direction, float).reshape(3, 3) * np.array(geometry.spacing, float)
    affine[:3, 3] = geometry.origin
    # Adding 0 turns -0.0 into 0.0.
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine + 0.0


def value_table(segments: Sequence[Segment]) -> dict[str, Any]:
    """What the values of a label map mean, in their order; goes beside it as JSON. Other voxels are 0.

    Names are the annotators' to the letter.
    """
    rows = [
        {
            "value": segment.value,
            "name": segment.labels[0].name if segment.has_name else segment.identifier,
            "color": "#{:02x}{:02x}{:02x}".format(*segment.rgb),
            "labels": [label.index for label in segment.labels],
        }
        for segment in segments
    ]
    return {"values": sorted(rows, key=lambda row: row["value"])}
