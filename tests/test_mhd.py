"""MetaImage headers, read back by ITK."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.mhd import ELEMENT_TYPES, header

IDENTITY = [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
BASE = {
    "spacing": (0.5, 0.5, 2.5),
    "origin": (-115.5, 0.1, 1e-7),
    "direction": IDENTITY,
    "size": (3, 4, 5),
    "channels": 1,
    "element_type": "int16",
    "data_file": "vol000.raw",
    "line_ending": "lf",
}


def test_keys_and_their_order() -> None:
    expected = (
        "ObjectType = Image|NDims = 3|BinaryData = True|ElementByteOrderMSB = False|CompressedData = False|"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1|Offset = -115.5 0.1 1e-07|CenterOfRotation = 0 0 0|"
        "AnatomicalOrientation = RAI|ElementSpacing = 0.5 0.5 2.5|DimSize = 3 4 5|ElementType = MET_SHORT|"
        "ElementDataFile = vol000.raw|"
    )
    assert header(**BASE) == expected.replace("|", "\n").encode()
    assert header(**BASE | {"line_ending": "crlf"}) == expected.replace("|", "\r\n").encode()
    colour = header(**BASE | {"channels": 3, "element_type": "uint8"}).decode().splitlines()
    assert colour[-3:] == ["ElementNumberOfChannels = 3", "ElementType = MET_UCHAR", "ElementDataFile = vol000.raw"]


def rotation(values: tuple[float, float, float, float]) -> np.ndarray:
    a, b, c, d = np.array(values) / np.linalg.norm(values)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
        ]
    )


# Without subnormals: ITK reads those as zero.
numbers = st.floats(-1e4, 1e4, allow_nan=False, allow_subnormal=False)
quaternions = st.tuples(*[st.floats(-1, 1, allow_subnormal=False)] * 4).filter(lambda q: sum(x * x for x in q) > 0.01)


@settings(max_examples=60, deadline=None)
@given(quaternions, st.tuples(*[numbers] * 3), st.tuples(*[st.floats(1e-3, 1e3)] * 3), st.sampled_from(["lf", "crlf"]))
def test_itk_reads_the_same_doubles(
    tmp_path_factory: pytest.TempPathFactory,
    quaternion: tuple[float, float, float, float],
    origin: tuple[float, float, float],
    spacing: tuple[float, float, float],
    ending: str,
) -> None:
    folder = tmp_path_factory.mktemp("mhd")
    direction = rotation(quaternion).ravel().tolist()
    changes = {"origin": origin, "spacing": spacing, "direction": direction, "line_ending": ending}
    (folder / "a.mhd").write_bytes(header(**BASE | changes | {"data_file": "a.raw"}))
    (folder / "a.raw").write_bytes(np.arange(60, dtype="<i2").tobytes())
    image = sitk.ReadImage(str(folder / "a.mhd"))
    assert image.GetSize() == (3, 4, 5)
    assert image.GetOrigin() == pytest.approx(origin, abs=0, rel=1e-15)
    assert image.GetSpacing() == pytest.approx(spacing, abs=0, rel=1e-15)
    assert image.GetDirection() == pytest.approx(direction, abs=1e-15)
    assert sitk.GetArrayFromImage(image).ravel().tolist() == list(range(60))


@pytest.mark.parametrize("axes", [*permutations(range(3))])
@pytest.mark.parametrize("signs", [*product([1, -1], repeat=3)])
def test_anatomical_orientation_is_itks(tmp_path: Path, axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    direction = np.zeros((3, 3))
    for column, (row, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[row, column] = sign
    image = sitk.Image(2, 2, 2, sitk.sitkInt16)
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "itk.mhd"))
    (theirs,) = [line for line in (tmp_path / "itk.mhd").read_text().splitlines() if line.startswith("Anatomical")]
    assert theirs in header(**BASE | {"direction": direction.ravel().tolist()}).decode().splitlines()


def test_an_oblique_volume_has_no_anatomical_orientation() -> None:
    direction = rotation((1, 0.1, 0, 0)).ravel().tolist()
    assert b"AnatomicalOrientation" not in header(**BASE | {"direction": direction})


@pytest.mark.parametrize("name", ELEMENT_TYPES)
def test_element_types_are_itks(tmp_path: Path, name: str) -> None:
    values = np.array([[[0, 1], [2, 100]]], np.dtype(name).newbyteorder("<"))
    text = header(**BASE | {"size": (2, 2, 1), "element_type": name, "data_file": "a.raw"})
    (tmp_path / "a.mhd").write_bytes(text)
    (tmp_path / "a.raw").write_bytes(values.tobytes())
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.mhd")))
    assert read.dtype == np.dtype(name)
    assert np.array_equal(read, values)
