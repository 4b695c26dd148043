"""Exporting in any format through the API and a real worker, and reading what came of it."""

from __future__ import annotations

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
import SimpleITK as sitk
import slicerio

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from exports.verify import verify
from tests.test_export import make_case
from tests.test_import import run, wait
from tests.world import World, voxel_label

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


def phantom_case(
    world: World, tmp_path: Path, labels: list[dict[str, Any]], volume: PartialVolume | None = None
) -> str:
    """9 images of 13 x 11 pixels of 2 mm, 3 mm apart."""
    phantom = write_phantom(tmp_path / "in", size=(13, 11, 9))
    run(tmp_path / "in", spool=tmp_path)
    return make_case(world, phantom.series_uid, volume or PartialVolume(1, 9, 1), labels)
