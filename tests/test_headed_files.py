"""What `verify` finds in NIfTI and NRRD files, in whatever chunks they come; and that it notices what is wrong."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.geometry import VolumeGeometry
from cases.slices import nrrd_header
from exports.headed_files import HeadedFile, is_headed
from exports.nifti_header import header as nifti_header
from exports.verify import verify
from tests.test_seg_nrrd import OBLIQUE

SIZE = (5, 4, 3)


def content(kind: str, ending: str, layers: int, geometry: VolumeGeometry = OBLIQUE) -> tuple[bytes, np.ndarray]:
    """A label file, and its voxels (voxel, layer)."""
    voxels = np.random.default_rng(layers).integers(0, 300 if kind == "uint16" else 200, (60, layers)).astype(kind)
    if ending == ".nii":
        header = nifti_header(geometry=geometry, size=SIZE, channels=1, element_type=kind, labels=True)
    else:
        header = nrrd_header(
            element_type=kind, size=SIZE, layers=layers, geometry=geometry, encoding="raw", more=["a:=b: c"]
        )
    return header + voxels.astype(f"<{np.dtype(kind).str[1:]}").tobytes(), voxels


@given(
    st.sampled_from([("uint8", ".nii", 1), ("uint16", ".nii", 1)])
    | st.tuples(st.sampled_from(["uint8", "uint16"]), st.just(".seg.nrrd"), st.sampled_from([1, 2, 5])),
    st.lists(st.integers(1, 400), min_size=1, max_size=9),
)
def test_values_are_counted(what: tuple[str, str, int], sizes: list[int]) -> None:
    data, voxels = content(*what)
    file = HeadedFile(f"vol000-label{what[1]}", is_label=True)
    position = 0
    while position < len(data):
        size = sizes[position % len(sizes)]
        file.feed(data[position : position + size])
        position += size
    assert file.counts is not None
    assert file.counts.shape == (what[2], 65536 if what[0] == "uint16" else 256)
    for layer in range(what[2]):
        expected = np.bincount(voxels[:, layer], minlength=file.counts.shape[1])
        assert np.array_equal(file.counts[layer], expected)


@pytest.mark.parametrize("ending", [".nii", ".nrrd"])
def test_geometries_are_told_apart(ending: str) -> None:
    other = VolumeGeometry(OBLIQUE.spacing, (-10.125, 20.5, 2 / 3), OBLIQUE.direction)
    found = []
    for geometry, layers in ((OBLIQUE, 1), (OBLIQUE, 1 if ending == ".nii" else 3), (other, 1)):
        file = HeadedFile(f"vol000{ending}", is_label=False)
        file.feed(content("uint8", ending, layers, geometry)[0])
        assert file.counts is None
        found.append(file.geometry)
    assert found[0] == found[1] != found[2]


def test_which_files_have_a_header_of_their_own() -> None:
    assert [name for name in ("a.nii", "a.nrrd", "a.seg.nrrd", "a.raw", "a.mhd", "a.dcm") if is_headed(name)] == [
        "a.nii",
        "a.nrrd",
        "a.seg.nrrd",
    ]


def archive(path: Path, files: dict[str, bytes], label: dict[str, Any]) -> Path:
    """An archive that keeps its promises, as far as its label does."""
    import hashlib

    data = json.dumps({"caseId": "c", "updatedAt": "t"}).encode()
    files = {"c/data.json": data} | {f"c/{name}": text for name, text in files.items()}
    case = {
        "status": "packed",
        "folder": "c",
        "caseId": "c",
        "revisionDate": "t",
        "files": [{"name": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()],
        "series": [{"volume": "vol000", "labels": [label]}],
    }
    with tarfile.open(path, "w:gz") as opened:
        for name, text in (files | {"manifest.json": json.dumps({"cases": [case]}).encode()}).items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            opened.addfile(info, io.BytesIO(text))
    return path


@pytest.mark.parametrize(("ending", "layer"), [(".nii", 0), (".seg.nrrd", 1)])
def test_verify_counts_voxels_and_compares_geometries(tmp_path: Path, ending: str, layer: int) -> None:
    labels, voxels = content("uint8", ending, layer + 1)
    volume_ending = ending.removeprefix(".seg")
    volume, moved = (
        content("uint8", volume_ending, 1, geometry)[0]
        for geometry in (OBLIQUE, VolumeGeometry(OBLIQUE.spacing, (0, 0, 0), OBLIQUE.direction))
    )
    value = int(voxels[7, layer])
    count = int((voxels[:, layer] == value).sum())
    name = f"vol000-label{ending}"
    label = {"index": 3, "file": name, "value": value, "layer": layer, "voxelsInFile": count}
    files = {f"vol000{volume_ending}": volume, name: labels}
    assert verify(archive(tmp_path / "good", files, label)) == []
    (problem,) = verify(archive(tmp_path / "less", files, label | {"voxelsInFile": count + 1}))
    assert problem == f"c/{name}: label 3 has {count} voxels instead of {count + 1}."
    (problem,) = verify(archive(tmp_path / "moved", files | {f"vol000{volume_ending}": moved}, label))
    assert "different geometries" in problem
    (problem,) = verify(archive(tmp_path / "gone", {f"vol000{volume_ending}": volume}, label))
    assert "is missing" in problem
