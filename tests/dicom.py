"""Small DICOM images for tests, right unless a test says otherwise."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

SERIES_UID = "1.2.826.0.1.3680043.8.498.1"


def image(number: int = 1, pixels: np.ndarray | None = None, **changes: Any) -> Dataset:
    """An image of 6 columns and 4 rows, 2 mm above the one before. `None` as a change leaves the element out."""
    if pixels is None:
        pixels = (np.arange(24, dtype=np.int16) + 100 * number).reshape(4, 6)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values: dict[str, Any] = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": f"{SERIES_UID}.{number}",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": SERIES_UID,
        "Modality": "CT",
        "PatientName": "Secret^Patient",
        "PatientID": "P-4711",
        "InstanceNumber": number,
        "ImagePositionPatient": [0, 0, 2.0 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.75, 0.5],
        "SamplesPerPixel": 3 if pixels.ndim == 3 and pixels.shape[2] == 3 else 1,
        "PhotometricInterpretation": "RGB" if pixels.ndim == 3 and pixels.shape[2] == 3 else "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
    }
    if values["SamplesPerPixel"] == 3:
        values["PlanarConfiguration"] = 0
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    if dataset.BitsAllocated == 8:
        dataset["PixelData"].VR = "OB"
    return dataset


def write(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, numbers: Any = range(1, 6), **changes: Any) -> list[Path]:
    return [write(image(number, **changes), folder / f"{number}.dcm") for number in numbers]


def buffer(dataset: Dataset) -> BinaryIO:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file
