"""`POST /api/cases/export` end to end: every format of a case puts the same voxels at the same millimetres."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicerio
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from cases.models import Label, Project, RevisionSeries, SeriesFile
from cases.provisioning import provision
from casestore.errors import InvalidBody
from casestore.tasks.models import Task
from exports.verify import verify
from tests.dicom import SERIES_UID, write_series
from tests.test_export import make_case
from tests.test_import import run, wait
from tests.world import PROJECT, World, make_world, revision, voxel_label

FORMATS = ["mhd", "nrrd", "nifti", "dicom-seg"]


def export(world: World, target: Path, body: dict[str, Any], by: str = "everything") -> tuple[Path, dict[str, Any]]:
    """The unpacked archive, which keeps its promises, and the task."""
    client = world.client(by)
    answer = client.post("/api/cases/export", body)
    assert answer.status_code == 201, answer.content
    task = wait(client, answer.json()["taskId"])
    assert task["status"] == "finished", task
    content = b"".join(client.get(f"/api/tasks/{task['taskId']}/download").streaming_content)
    archive = target / f"{task['taskId']}.archive"
    archive.write_bytes(content)
    assert verify(archive) == []
    folder = target / task["taskId"]
    if body.get("compressionFormat") == "zip":
        zipfile.ZipFile(archive).extractall(folder)
    else:
        with tarfile.open(archive) as opened:
            opened.extractall(folder)
    return folder, task


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


@dataclass
class Placed:
    """What one reader makes of a case: voxels (z, y, x), masks by value, and where index (x, y, z) lies, in LPS mm."""

    reader: str
    voxels: np.ndarray
    masks: dict[int, np.ndarray]
    affine: np.ndarray
    mask_affine: np.ndarray
    tolerance: float = 1e-9


def itk_affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    axes = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    affine[:3, :3] = axes * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return affine


def split(array: np.ndarray) -> dict[int, np.ndarray]:
    return {int(value): array == value for value in np.unique(array) if value}


def read_mhd(folder: Path) -> list[Placed]:
    volume, labels = (sitk.ReadImage(str(folder / f"{name}.mhd")) for name in ("vol000", "vol000-label"))
    masks = split(sitk.GetArrayFromImage(labels))
    return [Placed("mhd, ITK", sitk.GetArrayFromImage(volume), masks, itk_affine(volume), itk_affine(labels))]


def read_nrrd(folder: Path) -> list[Placed]:
    paths = [str(folder / name) for name in ("vol000.nrrd", "vol000-label.seg.nrrd")]
    volume, labels = (sitk.ReadImage(path) for path in paths)
    array = sitk.GetArrayFromImage(labels)
    layers = array if array.ndim == 4 else array[..., None]
    described = slicerio.read_segmentation(paths[1])["segments"]
    masks = {s["labelValue"]: layers[..., s.get("layer", 0)] == s["labelValue"] for s in described}
    itk = Placed("nrrd, ITK", sitk.GetArrayFromImage(volume), masks, itk_affine(volume), itk_affine(labels))
    data, header = nrrd.read(paths[0], index_order="C")
    label_data, label_header = nrrd.read(paths[1], index_order="C")
    label_layers = label_data if label_data.ndim == 4 else label_data[..., None]
    masks = {s["labelValue"]: label_layers[..., s.get("layer", 0)] == s["labelValue"] for s in described}
    affines = []
    for one in (header, label_header):
        affine = np.eye(4)
        affine[:3, :3] = np.array(one["space directions"])[-3:].T
        affine[:3, 3] = one["space origin"]
        affines.append(affine)
    return [itk, Placed("nrrd, pynrrd", data, masks, *affines)]


def read_nifti(folder: Path) -> list[Placed]:
    paths = [folder / "vol000.nii", folder / "vol000-label.nii"]
    volume, labels = (sitk.ReadImage(str(path)) for path in paths)
    itk = Placed(
        "nifti, ITK",
        sitk.GetArrayFromImage(volume),
        split(sitk.GetArrayFromImage(labels)),
        itk_affine(volume),
        itk_affine(labels),
        tolerance=1e-3,
    )
    loaded = [nibabel.load(path) for path in paths]
    arrays = [np.asanyarray(image.dataobj).transpose(2, 1, 0) for image in loaded]
    affines = [np.diag([-1, -1, 1, 1]) @ image.affine for image in loaded]
    return [itk, Placed("nifti, nibabel", arrays[0], split(arrays[1]), *affines, tolerance=1e-3)]


def read_dicom(folder: Path) -> list[Placed]:
    """The volume from the original files, the masks as highdicom finds them in the segmentation by the images' UIDs."""
    files = [pydicom.dcmread(path) for path in sorted((folder / "vol000").iterdir())]
    table = json.loads((folder / "vol000-label.json").read_bytes())["values"]
    segmentation = highdicom.seg.segread(folder / "vol000-label.dcm")
    descriptor = json.loads((folder / "data.json").read_bytes())["revision"]["series"][0]["partialVolumeDescriptor"]
    if descriptor["delta"] < 0:
        files.reverse()
    voxels = np.stack(
        [f.pixel_array * float(f.get("RescaleSlope", 1)) + float(f.get("RescaleIntercept", 0)) for f in files]
    )
    affine = np.eye(4)
    row, column = (np.array(files[0].ImageOrientationPatient[i : i + 3], float) for i in (0, 3))
    places = np.array([f.ImagePositionPatient for f in files], float)
    affine[:3, 0], affine[:3, 1] = row * files[0].PixelSpacing[1], column * files[0].PixelSpacing[0]
    affine[:3, 2] = (places[-1] - places[0]) / (len(files) - 1)
    affine[:3, 3] = places[0]
    # highdicom 0.28 takes label maps apart as bytes: numbers above 255 are lost in its reading, not in the file.
    together = segmentation.SegmentationType == "LABELMAP"
    pixels = segmentation.get_pixels_by_source_instance(
        [f.SOPInstanceUID for f in files], assert_missing_frames_are_empty=True, combine_segments=together
    )
    numbers = segmentation.segment_numbers
    masks = {
        row["value"]: pixels == row["segment"] if together else pixels[..., numbers.index(row["segment"])].astype(bool)
        for row in table
    }
    # Where the frames themselves say that they are.
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        (original,) = [f for f in files if f.SOPInstanceUID == source.ReferencedSOPInstanceUID]
        assert item.PlanePositionSequence[0].ImagePositionPatient == original.ImagePositionPatient
    return [Placed("dicom, highdicom", voxels, masks, affine, affine, tolerance=1e-3)]


READERS = {"mhd": read_mhd, "nrrd": read_nrrd, "nifti": read_nifti, "dicom-seg": read_dicom}


def box_label(world: World, mask: np.ndarray, origin: list[int], name: str, **more: Any) -> dict[str, Any]:
    label = voxel_label(world.blob(mask), origin, list(mask.shape[::-1]), name=name)
    label["data"] |= more
    return label


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
        body: dict[str, Any] = {"caseIds": cases, "format": name, "compressionFormat": "zip"}
        if name == "mhd":
            body["labelPackType"] = "combined"
        folder, _ = export(world, tmp_path, body)
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
        options = {"labelPackType": "combined"} if name == "mhd" else {}
        folder, _ = export(world, tmp_path, {"caseIds": list(cases), "format": name, **options})
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
        options = {"labelPackType": "combined"} if name == "mhd" else {}
        folder, _ = export(world, tmp_path, {"caseIds": [case.case_id], "format": name, **options})
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


def phantom_case(
    world: World, tmp_path: Path, labels: list[dict[str, Any]], volume: PartialVolume | None = None
) -> str:
    """9 images of 13 x 11 pixels of 2 mm, 3 mm apart."""
    phantom = write_phantom(tmp_path / "in", size=(13, 11, 9))
    run(tmp_path / "in", spool=tmp_path)
    return make_case(world, phantom.series_uid, volume or PartialVolume(1, 9, 1), labels)


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


def test_project_values(worker: Path, tmp_path: Path) -> None:
    """A structure has the same value in every case, whatever its place; labels that share one are one segment."""
    world = make_world()
    Project.objects.filter(project_id=PROJECT).update(label_values={"liver": 300, "spleen": 7, "Milz": 7})
    one = np.ones((1, 2, 2), bool)
    first = phantom_case(
        world, tmp_path, [box_label(world, one, [0, 0, 0], "liver"), box_label(world, one, [5, 5, 3], "spleen")]
    )
    second = phantom_case(
        world,
        tmp_path,
        [
            box_label(world, one, [0, 0, 0], "Milz"),
            box_label(world, one, [1, 1, 0], "spleen"),
            box_label(world, one, [8, 8, 8], "liver"),
        ],
    )
    expected = {first: {300: 4, 7: 4}, second: {7: 7, 300: 4}}
    for name in FORMATS:
        options = {"labelPackType": "combined"} if name == "mhd" else {}
        body = {"caseIds": [first, second], "format": name, "labelValues": "project", **options}
        folder, _ = export(world, tmp_path, body)
        for case, counts in expected.items():
            for placed in READERS[name](folder / case):
                assert {value: int(mask.sum()) for value, mask in placed.masks.items()} == counts, placed.reader
    # A mask by itself has that value too.
    body = {"caseIds": [first], "format": "mhd", "labelValues": "project"}
    folder, _ = export(world, tmp_path, body)
    values = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / first / f"vol000-label00{i}.mhd"))).max() for i in (0, 1)
    ]
    assert values == [300, 7]


def test_a_segmentation_with_other_values_is_another_instance(worker: Path, tmp_path: Path) -> None:
    """Who has both must be able to tell them apart."""
    world = make_world()
    case = phantom_case(world, tmp_path, [box_label(world, np.ones((1, 2, 2), bool), [0, 0, 0], "liver")])
    body = {"caseIds": [case], "format": "dicom-seg", "labelValues": "project"}
    identities = []
    for value in (5, 5, 6):
        Project.objects.filter(project_id=PROJECT).update(label_values={"liver": value})
        folder, _ = export(world, tmp_path, body)
        made = pydicom.dcmread(folder / case / "vol000-label.dcm")
        identities.append((made.SOPInstanceUID, made.SeriesInstanceUID))
    assert identities[0] == identities[1]
    assert not set(identities[0]) & set(identities[2])


def test_a_label_without_a_value_fails_its_case(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    Project.objects.filter(project_id=PROJECT).update(label_values={"liver": 1})
    one = np.ones((1, 1, 1), bool)
    good = phantom_case(world, tmp_path, [box_label(world, one, [0, 0, 0], "liver")])
    bad = phantom_case(world, tmp_path, [box_label(world, one, [0, 0, 0], "Liver")])
    body = {"caseIds": [bad, good], "format": "nrrd", "labelValues": "project"}
    dry = world.client("everything").post("/api/cases/export", {**body, "dryRun": True}).json()
    folder, task = export(world, tmp_path, body)
    assert names(folder) >= {f"{good}/vol000-label.seg.nrrd"}
    assert not [name for name in names(folder) if name.startswith(bad)]
    reason = manifest_of(folder)["cases"][0]["reason"]
    assert 'no value for the label "Liver"' in reason
    assert reason in task["finishedMessage"]
    assert [case.get("reason") for case in dry["cases"]] == [reason, None]
    assert dry["failed"] == 1


def test_shapes_become_masks(worker: Path, tmp_path: Path) -> None:
    """Of voxels of 2 x 2 x 3 mm, from the corner of the first one."""
    world = make_world()
    labels = [
        {"type": "cuboid", "name": "box", "data": {"min": [2, 4, 6], "max": [8, 10, 12], "color": "#00ff00"}},
        {"type": "rectangle", "name": "flat", "data": {"min": [10, 0], "max": [16, 4], "z": 7}},
        {"type": "polyline", "name": "triangle", "data": {"points": [[0, 0], [26, 0], [0, 22]], "z": 25.5}},
        {"type": "ellipsoid", "name": "ball", "data": {"min": [100, 0, 0], "max": [126, 22, 27]}},
        {
            "type": "ruler",
            "name": "ruler",
            "data": {
                "section": {"origin": [0, 0, 0], "xAxis": [1, 0, 0], "yAxis": [0, 1, 0]},
                "start": [0, 0, 0],
                "end": [1, 1, 1],
            },
        },
        box_label(world, np.ones((2, 3, 3), bool), [1, 2, 2], "voxels"),
    ]
    case = phantom_case(world, tmp_path, labels)
    for name in FORMATS:
        options = {"labelPackType": "combined"} if name == "mhd" else {}
        folder, _ = export(world, tmp_path, {"caseIds": [case], "format": name, "rasterizeShapes": True, **options})
        for placed in READERS[name](folder / case):
            # The cuboid holds exactly the voxels of the voxel label.
            assert set(map(tuple, np.argwhere(placed.masks[6]))) == {
                (k, j, i) for k in (2, 3) for j in (2, 3, 4) for i in (1, 2, 3)
            }
            if "nrrd" in placed.reader or "dicom" in placed.reader:
                assert np.array_equal(placed.masks[1], placed.masks[6])
            assert set(map(tuple, np.argwhere(placed.masks[2]))) == {(2, j, i) for j in (0, 1) for i in (5, 6, 7)}
            assert np.argwhere(placed.masks[3])[:, 0].tolist() == [8] * int(placed.masks[3].sum())
            assert placed.masks[3][8, 0, 0]
            assert not placed.masks[3][8, 10, 12]
        (series,) = manifest_of(folder)["cases"][0]["series"]
        assert [label["name"] for label in series["labels"]] == ["box", "flat", "triangle", "ball", "voxels"]
        assert [label["voxels"] for label in series["labels"]][:2] == [18, 6]
        assert series["labels"][3]["voxels"] == 0
    folder, _ = export(world, tmp_path, {"caseIds": [case], "format": "nrrd"})
    assert set(slicerio.read_segmentation(str(folder / case / "vol000-label.seg.nrrd"))["segments"][0]["name"]) == set(
        "voxels"
    )


def test_formats_that_cannot_hold_a_case(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", range(1, 3))
    run(tmp_path / "in", spool=tmp_path)
    one = np.ones((1, 1, 1), bool)
    labels = [box_label(world, one, [0, 0, 0], f"{i}") for i in range(65)]
    unplaced = make_case(world, SERIES_UID, PartialVolume(1, 2, 1), labels[:1])
    crowded = make_case(world, SERIES_UID, PartialVolume(1, 2, 1), labels)
    client = world.client("everything")
    for name, case, says in (
        ("dicom-seg", unplaced, "no FrameOfReferenceUID"),
        ("nrrd", crowded, "more than 64 layers"),
    ):
        body = {"caseIds": [case], "format": name}
        (planned,) = client.post("/api/cases/export", {**body, "dryRun": True}).json()["cases"]
        assert planned["status"] == "failed"
        assert says in planned["reason"]
        task = wait(client, client.post("/api/cases/export", body).json()["taskId"])
        assert task["status"] == "error"
        assert planned["reason"] in task["errorMessage"]
        assert "Secret" not in str(task)


def test_a_damaged_dicom_file_is_not_passed_on(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    case = phantom_case(world, tmp_path, [])
    file = SeriesFile.objects.first()
    assert file is not None
    path = Path(default_storage.path(file.storage_key))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    client = world.client("everything")
    answer = client.post("/api/cases/export", {"caseIds": [case], "format": "dicom-seg"})
    task = wait(client, answer.json()["taskId"])
    assert task["status"] == "error"
    assert "missing or damaged" in task["errorMessage"]


def test_a_dry_run_says_what_the_export_holds(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    one = np.ones((1, 2, 2), bool)
    labels = [
        box_label(world, one, [0, 0, 0], "a"),
        box_label(world, one, [1, 1, 0], "b"),
        box_label(world, one, [8, 8, 8], "c"),
    ]
    labels.append({"type": "cuboid", "data": {"min": [0, 0, 0], "max": [4, 4, 3]}})
    case = phantom_case(world, tmp_path, labels)
    bodies = [
        {"format": "mhd"},
        {"format": "mhd", "labelPackType": "combined", "mhdLineEnding": "crlf"},
        {"format": "nrrd"},
        {"format": "nifti"},
        {"format": "nifti", "labelPackType": "isolated", "rasterizeShapes": True},
        {"format": "dicom-seg", "rasterizeShapes": True},
    ]
    for options in bodies:
        body = {"caseIds": [case], **options}
        before = Task.objects.count()
        dry = world.client("everything").post("/api/cases/export", {**body, "dryRun": True})
        assert dry.status_code == 200, dry.content
        assert Task.objects.count() == before
        folder, _ = export(world, tmp_path, body)
        (planned,) = dry.json()["cases"]
        (packed,) = manifest_of(folder)["cases"]
        assert planned["status"] == "packed"
        assert planned["folder"] == packed["folder"] == case
        planned_files = {file["name"]: file["size"] for file in planned["files"]}
        packed_files = {file["name"]: file["size"] for file in packed["files"]}
        # Of a DICOM SEG a dry run knows the pixels alone, and that there is a table beside it.
        estimated = {
            name
            for name in packed_files
            if name.endswith(("-label.dcm", "-label.json")) and "dicom" in options["format"]
        }
        for name in packed_files.keys() - estimated:
            assert planned_files[name] == packed_files[name], name
        assert planned_files.keys() >= packed_files.keys() - {f"{case}/vol000-label.json"}
        assert planned["fileCount"] == len(planned_files)
        assert planned["size"] == dry.json()["size"] == sum(planned_files.values())
        (series,) = planned["series"]
        shapes = options.get("rasterizeShapes", False)
        assert series["labelCount"] == 3 + shapes
        expected = [{"label": 0, "by": 1, "voxelsShared": 1}]
        if shapes:
            expected = [expected[0], {"label": 0, "by": 3, "voxelsShared": 4}, {"label": 1, "by": 3, "voxelsShared": 1}]
        assert series["overlaps"] == expected


def test_a_label_that_is_not_as_it_should_be_fails_its_case(world: World, tmp_path: Path) -> None:
    """As a dump of another server may bring it."""
    case = phantom_case(world, tmp_path, [])
    entry = RevisionSeries.objects.get(revision__case__case_id=case, revision__index=1)
    Label.objects.create(revision_series=entry, position=0, type="cuboid", data={"min": ["Secret"]})
    body = {"caseIds": [case], "format": "nrrd", "rasterizeShapes": True, "dryRun": True}
    (planned,) = world.client("everything").post("/api/cases/export", body).json()["cases"]
    assert planned["reason"] == "It could not be packed (KeyError)."


def test_a_dry_run_asks_the_database_no_more_for_more_rows(world: World, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", size=(13, 11, 9))
    run(tmp_path / "in", spool=tmp_path)
    one = np.ones((1, 2, 2), bool)
    counts: dict[str, set[int]] = {name: set() for name in FORMATS}
    for images, labels in ((1, 1), (9, 12)):
        drawn = [box_label(world, one, [i % 5, i % 4, 0], f"{i}") for i in range(labels)]
        case = make_case(world, phantom.series_uid, PartialVolume(1, images, 1), drawn)
        for name in FORMATS:
            body = {"caseIds": [case], "format": name, "rasterizeShapes": True, "dryRun": True}
            with CaptureQueriesContext(connection) as asked:
                assert world.client("everything").post("/api/cases/export", body).json()["failed"] == 0
            counts[name].add(len(asked))
    assert {name: len(numbers) for name, numbers in counts.items()} == dict.fromkeys(FORMATS, 1), counts


def test_a_dry_run_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = np.ones((1, 2, 2), bool)
    labels = [box_label(world, one, [0, 0, 0], "a"), box_label(world, one, [1, 1, 0], "b")]
    cases = [phantom_case(world, tmp_path, labels) for _ in range(2)]
    client = world.client("everything")
    body = {"caseIds": cases, "format": "nrrd", "dryRun": True}
    monkeypatch.setattr("exports.planning.Budget.__init__", lambda self: setattr(self, "voxels", 8))
    first, second = client.post("/api/cases/export", body).json()["cases"]
    assert first["series"][0]["overlaps"] == [{"label": 0, "by": 1, "voxelsShared": 1}]
    assert second["series"][0]["overlaps"] is None
    assert second["status"] == "packed"
    monkeypatch.setattr("exports.planning.MAX_IMAGES", 17)
    answer = client.post("/api/cases/export", body)
    assert answer.status_code == 400
    assert "18 images" in answer.json()["error"]
    monkeypatch.setattr("exports.planning.MAX_IMAGES", 18)
    monkeypatch.setattr("exports.planning.MAX_LABELS", 3)
    assert "4 labels" in client.post("/api/cases/export", body).json()["error"]
    assert not Task.objects.exists()


def test_large_shapes_are_kept_in_files_and_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shape = {"type": "cuboid", "data": {"min": [0, 0, 0], "max": [26, 22, 27]}}
    case = phantom_case(world, tmp_path, [shape, shape])
    body = {"caseIds": [case], "format": "nrrd", "rasterizeShapes": True, "dryRun": True}
    client = world.client("everything")
    overlaps = [{"label": 0, "by": 1, "voxelsShared": 13 * 11 * 9}]
    for in_memory in (1, 2**20):
        monkeypatch.setattr("exports.contents.IN_MEMORY", in_memory)
        (planned,) = client.post("/api/cases/export", body).json()["cases"]
        assert planned["series"][0]["overlaps"] == overlaps
    # 1,287 voxels take 161 bytes.
    monkeypatch.setattr("exports.contents.MAX_SHAPES", 321)
    (planned,) = client.post("/api/cases/export", body).json()["cases"]
    assert "too large to be painted" in planned["reason"]
    monkeypatch.setattr("exports.contents.MAX_SHAPES", 322)
    assert client.post("/api/cases/export", body).json()["failed"] == 0


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"format": "nifti-2"}, "format"),
        ({"format": "nrrd", "labelPackType": "combined"}, "labelPackType"),
        ({"format": "dicom-seg", "labelPackType": "isolated"}, "labelPackType"),
        ({"format": "nifti", "mhdLineEnding": "lf"}, "mhdLineEnding"),
        ({"labelValues": "names"}, "labelValues"),
        ({"rasterizeShapes": "yes"}, "rasterizeShapes"),
        ({"dryRun": 1}, "dryRun"),
        ({"extra": 1}, "extra"),
        ({"caseIds": []}, "caseIds"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_is_refused_makes_no_task(world: World, change: dict[str, Any], path: str, dry: bool) -> None:
    world.series()
    body = {"caseIds": [world.case().case_id], "dryRun": dry} | change
    answer = world.client("everything").post("/api/cases/export", body)
    assert answer.status_code == 400, answer.content
    assert answer.json()["validationErrors"][0]["path"].startswith(path)
    assert not Task.objects.exists()


@pytest.mark.parametrize("dry", [False, True])
def test_original_files_need_what_patient_information_needs(world: World, dry: bool) -> None:
    world.series()
    case = world.case()
    body = {"caseIds": [case.case_id], "format": "dicom-seg", "dryRun": dry}
    done = 200 if dry else 201
    annotator = world.user("annotator")
    assert world.client("annotator").post("/api/cases/export", body).status_code == done
    annotator.preferences = {"personalInfoView": False}
    annotator.save()
    refused = world.client("annotator").post("/api/cases/export", body)
    assert (refused.status_code, refused.json()["code"]) == (401, "insufficient_privilege")
    assert world.client("annotator").post("/api/cases/export", {**body, "format": "nrrd"}).status_code == done
    annotator.preferences = {}
    annotator.save()
    annotator.groups.get().project_roles.filter(role="viewPersonalInfo").delete()
    refused = world.client("annotator").post("/api/cases/export", body)
    assert refused.status_code == 401
    assert "viewPersonalInfo" in refused.json()["error"]
    # Without the right to download nothing is told either.
    assert world.client("reader").post("/api/cases/export", {**body, "format": "mhd"}).status_code == 401


def test_a_repeated_request_makes_one_task(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    case = phantom_case(world, tmp_path, [])
    client = world.client("everything")
    body = {"caseIds": [case], "format": "nrrd"}
    answers = [client.post("/api/cases/export", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert Task.objects.count() == 1
    other = client.post("/api/cases/export", {**body, "format": "nifti"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422
    wait(client, answers[0].json()["taskId"])


def test_label_values_of_a_project(world: World) -> None:
    declared = {
        "projects": [{"projectId": PROJECT, "projectName": "Lungs", "labelValues": {"liver": 5, "größe": 65535}}]
    }
    provision(declared)
    shown = world.client("reader").get(f"/api/projects/{PROJECT}").json()
    assert shown["labelValues"] == {"liver": 5, "größe": 65535}
    assert Project.objects.get(project_id=PROJECT).tags == [{"caption": "happy", "color": "#ff0000"}]
    for wrong in ({"a": 0}, {"a": 65536}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"": 1}, {"x" * 256: 1}, [1], None):
        with pytest.raises(InvalidBody) as caught:
            provision({"projects": [{"projectId": PROJECT, "projectName": "Lungs", "labelValues": wrong}]})
        assert "labelValues" in caught.value.sentence
    assert Project.objects.get(project_id=PROJECT).label_values == {"liver": 5, "größe": 65535}


def test_the_admin_checks_label_values(world: World, client: Any) -> None:
    admin = world.user("everything")
    admin.is_staff = admin.is_superuser = True
    admin.save()
    client.force_login(admin)
    project = Project.objects.get(project_id=PROJECT)
    address = f"/admin/cases/project/{project.pk}/change/"
    page = client.get(address)
    assert b"label_values" in page.content
    form = page.context["adminform"].form
    data = {
        name: "" if (value := form.get_initial_for_field(field, name)) is None else value
        for name, field in form.fields.items()
    }
    data |= {
        name: json.dumps(data[name])
        for name in ("window_presets", "tags", "case_attributes_schema", "label_attributes_schema")
    }
    inlines = {"roles-TOTAL_FORMS": "0", "roles-INITIAL_FORMS": "0"}
    for values, status in (({"liver": 0}, 200), ({"liver": 9}, 302)):
        answer = client.post(address, data | inlines | {"label_values": json.dumps(values)})
        assert answer.status_code == status, answer.content
    assert Project.objects.get(project_id=PROJECT).label_values == {"liver": 9}
