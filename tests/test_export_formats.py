"""`POST /api/cases/export` end to end: every format of a case puts the same voxels at the same millimetres."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from tests.dicom import SERIES_UID, write_series
from tests.formats import FORMATS, READERS, Placed, box_label, export, manifest_of, names, phantom_case
from tests.test_export import make_case
from tests.test_import import run, wait
from tests.world import make_world, revision, voxel_label


@pytest.mark.parametrize("kind", ["feet_first", "oblique"])
@pytest.mark.parametrize("overlap", [False, True])
def test_every_format_puts_the_same_voxels_in_the_same_place(
    worker: Path, tmp_path: Path, kind: str, overlap: bool
) -> None:
    """Whole, reversed, stepped, reversed and stepped, a part; read by everything that reads them."""
    world = make_world()
    phantom = write_phantom(tmp_path / "in", kind=kind, size=(13, 11, 9))
    run(tmp_path / "in", spool=tmp_path)
    plans = [(1, 9, 1), (9, 1, -1), (1, 9, 2), (8, 2, -3), (3, 6, 1)]
    random = np.random.default_rng(5)
    cases = []
    for plan in plans:
        volume = PartialVolume(*plan)
        first = random.random((len(volume), 5, 6)) < 0.4
        second = random.random((len(volume), 4, 3)) < 0.6
        first[0, 0, 0] = first[-1, -1, -1] = True
        labels = [
            box_label(world, first, [0, 0, 0], "first"),
            {"type": "point", "data": {"location": [1, 1, 1]}},
            box_label(world, second, [3, 2, 0] if overlap else [10, 7, 0], "second"),
        ]
        cases.append(make_case(world, phantom.series_uid, volume, labels))
    found: dict[str, list[Placed]] = {case: [] for case in cases}
    for name in FORMATS:
        # The published body, whatever the format.
        published = {"labelPackType": "combined", "mhdLineEnding": "crlf", "compressionFormat": "zip"}
        folder, _ = export(world, tmp_path, {"caseIds": cases, "format": name, **published})
        for case in cases:
            found[case] += READERS[name](folder / case)
    for case in cases:
        expected, *others = found[case]
        assert len(others) == 5
        assert np.allclose(expected.affine, expected.mask_affine, rtol=0, atol=0)
        for other in others:
            assert np.array_equal(other.voxels, expected.voxels), (other.reader, plans[cases.index(case)])
            assert np.allclose(other.affine, expected.affine, rtol=0, atol=other.tolerance), other.reader
            assert np.allclose(other.mask_affine, expected.affine, rtol=0, atol=other.tolerance), other.reader
            assert other.masks.keys() == {1, 3}
            assert np.array_equal(other.masks[3], expected.masks[3]), other.reader
            # Formats with one value a voxel show the later label; the others keep both whole.
            shown = other.masks[1] & ~other.masks[3]
            assert np.array_equal(shown, expected.masks[1]), other.reader
            if "nrrd" in other.reader or "dicom" in other.reader:
                assert (other.masks[1] & other.masks[3]).any() == overlap


def test_real_series_in_every_format(worker: Path, tmp_path: Path, dicom_folder: Path) -> None:
    """Scanners' own geometries: gantry tilt apart, which no affine can say."""
    world = make_world()
    cases = {}
    for name in ("ct-philips-axial12", "ct-ge-ffs-tiny5", "mr-siemens-sagittal10"):
        (uid,) = run(dicom_folder / name, spool=tmp_path).series
        case = world.case(uid)
        entry = case.latest_revision.series_set.get()  # type: ignore[union-attr]
        depth = len(PartialVolume(entry.start, entry.end, entry.delta))
        mask = np.zeros((depth, 3, 4), bool)
        mask[np.arange(depth), np.arange(depth) % 3, np.arange(depth) % 4] = True
        body = revision([{"seriesUid": uid, "labels": [box_label(world, mask, [1, 2, 0], "stairs")]}])
        assert world.client("everything").post(f"/api/cases/{case.case_id}/revision", body).status_code == 201
        cases[case.case_id] = name
    found: dict[str, list[Placed]] = {case: [] for case in cases}
    for name in FORMATS:
        folder, _ = export(world, tmp_path, {"caseIds": list(cases), "format": name, "labelPackType": "combined"})
        for case in cases:
            found[case] += READERS[name](folder / case)
        if name == "dicom-seg":
            for case, series in cases.items():
                originals = {hashlib.sha256(path.read_bytes()).digest() for path in (dicom_folder / series).iterdir()}
                copies = {hashlib.sha256(path.read_bytes()).digest() for path in (folder / case / "vol000").iterdir()}
                assert copies == originals
    for placed in found.values():
        expected, *others = placed
        for other in others:
            assert np.array_equal(other.voxels, expected.voxels), other.reader
            assert np.allclose(other.affine, expected.affine, rtol=0, atol=2e-3), other.reader
            assert np.array_equal(other.masks[1], expected.masks[1]), other.reader


def test_a_tilted_gantry(worker: Path, tmp_path: Path, dicom_folder: Path) -> None:
    """No affine can say where its voxels are; the frames of a segmentation lie where their images do."""
    world = make_world()
    (uid,) = run(dicom_folder / "ct-philips-tilt10", spool=tmp_path).series
    mask = np.zeros((10, 3, 4), bool)
    mask[np.arange(10), np.arange(10) % 3, np.arange(10) % 4] = True
    case = world.case(uid)
    body = revision([{"seriesUid": uid, "labels": [box_label(world, mask, [1, 2, 0], "stairs")]}])
    assert world.client("everything").post(f"/api/cases/{case.case_id}/revision", body).status_code == 201
    found: list[Placed] = []
    for name in FORMATS:
        body = {"caseIds": [case.case_id], "format": name, "labelPackType": "combined"}
        folder, _ = export(world, tmp_path, body)
        found += READERS[name](folder / case.case_id)
        (series,) = manifest_of(folder)["cases"][0]["series"]
        assert any("tilted" in warning for warning in series["warnings"])
    for placed in found:
        assert np.array_equal(placed.voxels, found[0].voxels), placed.reader
        assert np.array_equal(placed.masks[1][:, 2:5, 1:5], mask), placed.reader


def test_colour(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    values = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    write_series(tmp_path / "in", [1, 2], pixels=values, FrameOfReferenceUID="1.2.9", SliceThickness=2)
    run(tmp_path / "in", spool=tmp_path)
    labels = [box_label(world, np.ones((2, 4, 6), bool), [0, 0, 0], "all")]
    case = make_case(world, SERIES_UID, PartialVolume(1, 2, 1), labels)
    expected = np.stack([values, values])
    folder, _ = export(world, tmp_path, {"caseIds": [case], "format": "nrrd"})
    assert np.array_equal(nrrd.read(str(folder / case / "vol000.nrrd"), index_order="C")[0], expected)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / case / "vol000.nrrd"))), expected)
    folder, _ = export(world, tmp_path, {"caseIds": [case], "format": "nifti"})
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / case / "vol000.nii"))), expected)
    folder, _ = export(world, tmp_path, {"caseIds": [case], "format": "dicom-seg"})
    assert pydicom.dcmread(folder / case / "vol000-label.dcm").pixel_array.all()


def test_what_is_in_the_archives(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    one = np.ones((1, 2, 2), bool)
    labels = [box_label(world, one, [0, 0, 0], "a", color="#ff0000"), box_label(world, one, [1, 1, 0], "b")]
    case = phantom_case(world, tmp_path, labels, PartialVolume(8, 2, -3))
    common = {"manifest.json", f"{case}/data.json"}
    expected: dict[str, list[str]] = {
        "nrrd": ["vol000.nrrd", "vol000-label.seg.nrrd"],
        "nifti": ["vol000.nii", "vol000-label.nii", "vol000-label.json"],
        "dicom-seg": [f"vol000/0000{n}.dcm" for n in (2, 5, 8)] + ["vol000-label.dcm", "vol000-label.json"],
    }
    for name, files in expected.items():
        folder, task = export(world, tmp_path, {"caseIds": [case], "format": name})
        assert names(folder) == common | {f"{case}/{file}" for file in files}
        manifest = manifest_of(folder)
        assert manifest["options"]["format"] == name
        (series,) = manifest["cases"][0]["series"]
        assert [(label["index"], label["name"], label["value"]) for label in series["labels"]] == [
            (0, "a", 1),
            (1, "b", 2),
        ]
        assert [label["voxels"] for label in series["labels"]] == [4, 4]
        assert len(series["overlaps"]) == 1
        assert task["name"].endswith({"nrrd": "as NRRD", "nifti": "as NIfTI", "dicom-seg": "as DICOM"}[name])
    folder, _ = export(world, tmp_path, {"caseIds": [case], "format": "nifti", "labelPackType": "isolated"})
    isolated = ["vol000.nii", "vol000-label000.nii", "vol000-label001.nii"]
    assert names(folder) == common | {f"{case}/{file}" for file in isolated}
    for index in (0, 1):
        mask = np.asanyarray(nibabel.load(folder / case / f"vol000-label00{index}.nii").dataobj)
        assert set(np.unique(mask)) == {0, 1}
        assert mask.sum() == 4


def test_a_case_without_labels_in_every_format(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    case = phantom_case(world, tmp_path, [voxel_label(None, [0, 0, 0], [0, 0, 0], name="nothing")])
    bare = phantom_case(world, tmp_path, [])
    for name in FORMATS:
        folder, _ = export(world, tmp_path, {"caseIds": [case, bare], "format": name})
        assert f"{case}/vol000-label.dcm" not in names(folder)
        assert f"{bare}/vol000-label.seg.nrrd" not in names(folder)
        (series,) = manifest_of(folder)["cases"][0]["series"]
        assert [(label["name"], label["voxels"]) for label in series["labels"]] == [("nothing", 0)]
        if name == "nrrd":
            assert not nrrd.read(str(folder / case / "vol000-label.seg.nrrd"))[0].any()


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_export_gives_the_same_bytes(worker: Path, tmp_path: Path, name: str) -> None:
    world = make_world()
    one = np.ones((1, 2, 2), bool)
    case = phantom_case(world, tmp_path, [box_label(world, one, [i, i, 0], "a") for i in range(3)])
    client = world.client("everything")
    digests = set()
    for _ in range(2):
        answer = client.post("/api/cases/export", {"caseIds": [case], "format": name})
        task = wait(client, answer.json()["taskId"])
        assert task["status"] == "finished", task
        download = client.get(f"/api/tasks/{task['taskId']}/download")
        digests.add(hashlib.sha256(b"".join(download.streaming_content)).hexdigest())
    assert len(digests) == 1
