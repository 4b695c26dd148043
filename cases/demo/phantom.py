"""A 3-D Shepp-Logan phantom as DICOM CT images. Deterministic: the same call writes the same bytes.

Ellipsoids after Shepp and Logan (IEEE Trans. Nucl. Sci. 21, 1974) in the three-dimensional form and with the higher
contrasts that are in common use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

PIXEL_SPACING = 2.0
SLICE_SPACING = 3.0
# Stored values are HU + 1024.
INTERCEPT = -1024
AIR, SOFT = -1000.0, 1000.0


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """In a cube from -1 to 1; `turn` in degrees about z."""

    name: str
    intensity: float
    axes: tuple[float, float, float]
    centre: tuple[float, float, float]
    turn: float = 0.0


ELLIPSOIDS = (
    Ellipsoid("skull", 1.0, (0.69, 0.92, 0.81), (0, 0, 0)),
    Ellipsoid("brain", -0.8, (0.6624, 0.874, 0.78), (0, -0.0184, 0)),
    Ellipsoid("left ventricle", -0.2, (0.11, 0.31, 0.22), (0.22, 0, 0), -18),
    Ellipsoid("right ventricle", -0.2, (0.16, 0.41, 0.28), (-0.22, 0, 0), 18),
    Ellipsoid("frontal lesion", 0.1, (0.21, 0.25, 0.41), (0, 0.35, -0.15)),
    Ellipsoid("upper nodule", 0.1, (0.046, 0.046, 0.05), (0, 0.1, 0.25)),
    Ellipsoid("lower nodule", 0.1, (0.046, 0.046, 0.05), (0, -0.1, 0.25)),
    Ellipsoid("left spot", 0.1, (0.046, 0.023, 0.05), (-0.08, -0.605, 0)),
    Ellipsoid("middle spot", 0.1, (0.023, 0.023, 0.05), (0, -0.606, 0)),
    Ellipsoid("right spot", 0.1, (0.023, 0.046, 0.05), (0.06, -0.605, 0)),
)
ORGANS = ("left ventricle", "right ventricle", "frontal lesion", "upper nodule")


@dataclass(frozen=True, slots=True)
class Phantom:
    """`organs` are masks (z, y, x) in ascending order of image numbers, which run from 1."""

    series_uid: str
    files: list[Path]
    organs: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Pose:
    """How the patient lies: image 1's first pixel is at `origin`; `axes` are the directions of x, y and z."""

    position: str
    origin: tuple[float, float, float]
    axes: np.ndarray


def write_phantom(folder: Path, *, kind: str = "feet_first", size: tuple[int, int, int] = (96, 96, 40)) -> Phantom:
    """Writes a series of `size` (x, y, z) into `folder`. `kind`: feet_first, or oblique (turned about two axes)."""
    folder.mkdir(parents=True, exist_ok=True)
    pose = _pose(kind, size)
    masks = {ellipsoid.name: _mask(ellipsoid, size) for ellipsoid in ELLIPSOIDS}
    intensity = sum(
        (ellipsoid.intensity * masks[ellipsoid.name] for ellipsoid in ELLIPSOIDS), start=np.zeros(size[::-1])
    )
    values = np.rint(np.where(masks["skull"], intensity * SOFT, AIR) - INTERCEPT).astype("<u2")
    series_uid = _new_uid(kind, size, "series")
    files = []
    for index, image in enumerate(values):
        # Names that sort in another order than the images, as they do in real life.
        path = folder / f"{hashlib.sha256(f'{kind} {index}'.encode()).hexdigest()[:12]}.dcm"
        _image(kind, size, pose, index, image).save_as(path, enforce_file_format=True)
        files.append(path)
    return Phantom(series_uid, files, {name: masks[name] for name in ORGANS})


def _mask(ellipsoid: Ellipsoid, size: tuple[int, int, int]) -> np.ndarray:
    """The voxels (z, y, x) whose centres are inside."""
    x, y, z = ((np.arange(count) + 0.5) * 2 / count - 1 for count in size)
    dz, dy, dx = np.ix_(z - ellipsoid.centre[2], y - ellipsoid.centre[1], x - ellipsoid.centre[0])
    cosine, sine = np.cos(np.radians(ellipsoid.turn)), np.sin(np.radians(ellipsoid.turn))
    along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
    a, b, c = ellipsoid.axes
    inside: np.ndarray = (along / a) ** 2 + (across / b) ** 2 + (dz / c) ** 2 <= 1
    return inside


def _pose(kind: str, size: tuple[int, int, int]) -> Pose:
    half = np.array([size[0] * PIXEL_SPACING, size[1] * PIXEL_SPACING, size[2] * SLICE_SPACING]) / 2
    if kind == "feet_first":
        # The feet enter the scanner first, so that image numbers run from the feet to the head.
        axes = np.eye(3)
        return Pose("FFS", _triple(-axes @ half), axes)
    if kind == "oblique":
        about_x, about_z = np.radians(20.0), np.radians(-15.0)
        turn_x = np.array([[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]])
        turn_z = np.array([[np.cos(about_z), -np.sin(about_z), 0], [np.sin(about_z), np.cos(about_z), 0], [0, 0, 1]])
        axes = turn_z @ turn_x
        return Pose("HFS", _triple(np.array([12.0, -7.5, 30.0]) - axes @ half), axes)
    raise ValueError(f"There is no phantom {kind}.")


def _image(kind: str, size: tuple[int, int, int], pose: Pose, index: int, image: np.ndarray) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = _new_uid(kind, size, f"image {index}")
    dataset.StudyInstanceUID = _new_uid(kind, size, "study")
    dataset.SeriesInstanceUID = _new_uid(kind, size, "series")
    dataset.FrameOfReferenceUID = _new_uid(kind, size, "frame of reference")
    dataset.StudyDate = dataset.SeriesDate = "20240229"
    dataset.StudyTime = dataset.SeriesTime = "120000"
    dataset.Modality = "CT"
    dataset.Manufacturer = "casestore"
    dataset.ManufacturerModelName = "Shepp-Logan phantom"
    dataset.SeriesDescription = f"Phantom, {kind.replace('_', ' ')}"
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientName = "Phantom^Shepp-Logan"
    dataset.PatientID = f"PHANTOM-{kind.upper()}"
    dataset.PatientBirthDate = "19740601"
    dataset.PatientAge = "049Y"
    dataset.PatientSex = "O"
    dataset.PatientPosition = pose.position
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = index + 1
    dataset.SliceThickness = SLICE_SPACING
    dataset.PixelSpacing = [PIXEL_SPACING, PIXEL_SPACING]
    position = np.array(pose.origin) + pose.axes[:, 2] * SLICE_SPACING * index
    dataset.ImagePositionPatient = [_decimal(value) for value in position]
    dataset.ImageOrientationPatient = [_decimal(value) for value in (*pose.axes[:, 0], *pose.axes[:, 1])]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = INTERCEPT, 1
    dataset.RescaleType = "HU"
    dataset.PixelData = image.tobytes()
    return dataset


def _decimal(value: float) -> str:
    """A Decimal String of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.10g}"


def _new_uid(kind: str, size: tuple[int, int, int], what: str) -> UID:
    """2.25 and a number of 128 bits (PS3.5 B.2)."""
    digest = hashlib.sha256(f"casestore phantom {kind} {size} {what}".encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
