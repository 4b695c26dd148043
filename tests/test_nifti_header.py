"""NIfTI headers, read back by nibabel and ITK."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from cases.geometry import VolumeGeometry
from casestore.errors import CasestoreError
from exports.nifti_header import header, ras_affine, value_table
from exports.segments import segments_of
from tests.test_segments import exported

TURNED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
MIRRORED = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.0, -0.6, 0.0, 1.0, 0.0, 0.6, 0.0, 0.8)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("direction", [IDENTITY, TURNED, MIRRORED, OBLIQUE])
@pytest.mark.parametrize(
    ("kind", "channels"),
    [("int16", 1), ("uint16", 1), ("int32", 1), ("float32", 1), ("uint8", 1), ("int8", 1), ("uint8", 3)],
)
def test_readers_agree(tmp_path: Path, direction: tuple[float, ...], kind: str, channels: int) -> None:
    geometry = VolumeGeometry((0.5, 0.75, 2.5), (-100.25, 20.5, 1234.5), direction)
    shape = (4, 5, 6) + ((3,) if channels == 3 else ())
    voxels = np.random.default_rng(1).integers(0, 100, shape).astype(np.dtype(kind).newbyteorder("<"))
    made = header(geometry=geometry, size=(6, 5, 4), channels=channels, element_type=kind)
    assert len(made) == 352
    path = tmp_path / "a.nii"
    path.write_bytes(made + voxels.tobytes())
    image = nibabel.load(path)
    array = np.asanyarray(image.dataobj)
    if channels == 3:
        array = np.stack([array[name] for name in "RGB"], axis=-1)
        assert np.array_equal(array.transpose(2, 1, 0, 3), voxels)
    else:
        assert array.dtype == voxels.dtype
        assert np.array_equal(array.transpose(2, 1, 0), voxels)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert np.allclose(image.affine, ras_affine(geometry), atol=1e-4)
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert image.header.get_zooms() == pytest.approx(geometry.spacing)
    assert image.get_qform(coded=True)[1] == image.get_sform(coded=True)[1] == 1
    read = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(read), voxels)
    lps = np.array(geometry.direction).reshape(3, 3) * geometry.spacing
    for index in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3), (5, 4, 3)):
        place = read.TransformIndexToPhysicalPoint(index)
        assert place == pytest.approx(tuple(lps @ index + geometry.origin), abs=1e-3)


def test_label_maps_say_so(tmp_path: Path) -> None:
    geometry = VolumeGeometry((1, 1, 1), (0, 0, 0), IDENTITY)
    path = tmp_path / "a.nii"
    path.write_bytes(
        header(geometry=geometry, size=(1, 1, 1), channels=1, element_type="uint16", labels=True) + b"\1\2"
    )
    image = nibabel.load(path)
    assert image.header.get_intent()[0] == "label"
    assert np.asanyarray(image.dataobj).tolist() == [[[513]]]


def test_the_same_volume_gives_the_same_header() -> None:
    geometry = VolumeGeometry((0.1, 0.2, 0.3), (1 / 3, 2 / 3, 0), OBLIQUE)
    first, second = (header(geometry=geometry, size=(3, 2, 1), channels=1, element_type="int16") for _ in range(2))
    assert first == second


def test_a_large_volume_is_refused() -> None:
    geometry = VolumeGeometry((1, 1, 1), (0, 0, 0), IDENTITY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert header(geometry=geometry, size=(32767, 1, 1), channels=1, element_type="int16")
    with pytest.raises(CasestoreError, match="32767 voxels"):
        header(geometry=geometry, size=(1, 32768, 1), channels=1, element_type="int16")


def test_the_table_of_values() -> None:
    one = np.ones((1, 1, 1), bool)
    labels = [
        exported(0, one, name="spleen", color="#00FF00"),
        exported(1, one, name="liver"),
        exported(4, one, name="spleen"),
    ]
    table = value_table(segments_of(labels, [9, 2, 9]))
    assert [row["value"] for row in table["values"]] == [2, 9]
    assert table["values"][1] == {"value": 9, "name": "spleen", "color": "#00ff00", "labels": [0, 4]}
