"""What an image says of its series and patient (PS3.3 C.7.1 to C.7.5)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from cases.dicom.instance import PatientInfo, SeriesHeader

AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)
DAY = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", re.ASCII)
TIME = re.compile(r"(\d{2}):?(?:(\d{2}):?(?:(\d{2})(?:\.(\d{1,6}))?)?)?", re.ASCII)
OFFSET = re.compile(r"([+-])(\d{2})(\d{2})", re.ASCII)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

LONGEST = 255
LONGEST_NAME = 1024
# Header fields that describe the acquisition and nobody's person.
PARAMETERS = (
    "ImageType",
    "PatientPosition",
    "Laterality",
    "SeriesNumber",
    "AcquisitionNumber",
    "SliceThickness",
    "SpacingBetweenSlices",
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "ExposureTime",
    "ConvolutionKernel",
    "FilterType",
    "ReconstructionDiameter",
    "DataCollectionDiameter",
    "GantryDetectorTilt",
    "ScanOptions",
    "SpiralPitchFactor",
    "ScanningSequence",
    "SequenceVariant",
    "SequenceName",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "EchoTrainLength",
    "FlipAngle",
    "NumberOfAverages",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "ContrastBolusAgent",
    "SoftwareVersions",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "RescaleType",
    "Units",
    "LossyImageCompression",
)


def series_header(dataset: Dataset) -> SeriesHeader:
    """Whatever is missing or malformed is left out; an image is never refused for it."""
    return SeriesHeader(
        study_uid=text(dataset, "StudyInstanceUID", 64),
        modality=text(dataset, "Modality", 16),
        series_description=text(dataset, "SeriesDescription"),
        body_part=text(dataset, "BodyPartExamined"),
        station_name=text(dataset, "StationName"),
        model_name=text(dataset, "ManufacturerModelName"),
        manufacturer=text(dataset, "Manufacturer"),
        series_date=_series_date(dataset),
        patient=patient_info(dataset),
        parameters=_parameters(dataset),
    )


def patient_info(dataset: Dataset) -> PatientInfo:
    sex = text(dataset, "PatientSex").upper()
    born = _day(dataset, "PatientBirthDate")
    return PatientInfo(
        patient_id=text(dataset, "PatientID") or None,
        patient_name=text(dataset, "PatientName", LONGEST_NAME) or None,
        birth_date=born.isoformat() if born else None,
        age=patient_age(text(dataset, "PatientAge"), born, _day(dataset, "StudyDate")),
        sex=sex if sex in {"M", "F", "O"} else None,
        size=positive(dataset, "PatientSize"),
        weight=positive(dataset, "PatientWeight"),
    )


def patient_age(age: str, born: date | None, studied: date | None) -> float | None:
    """Whole years: from an Age String (PS3.5 6.2, `034Y`), else from the dates of birth and study."""
    if match := AGE.fullmatch(age):
        count, unit = int(match[1]), match[2]
        return float({"Y": count, "M": count // 12, "W": count * 7 // 365, "D": count // 365}[unit])
    if born is None or studied is None or studied < born:
        return None
    return float(studied.year - born.year - ((studied.month, studied.day) < (born.month, born.day)))


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The element's value; None where it is missing, empty or cannot be read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts a value when it is asked for, and raises nearly anything.
        return None
    return None if value is None or value == "" else value


def text(dataset: Dataset, keyword: str, longest: int = LONGEST) -> str:
    """One line that PostgreSQL can store; of several values all, as DICOM separates them."""
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    joined = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    return CONTROL.sub("", joined.encode("utf-8", "replace").decode()).strip()[:longest]


def numbers(dataset: Dataset | None, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None."""
    value = None if dataset is None else value_of(dataset, keyword)
    if value is None:
        return None
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        found = tuple(float(item) for item in values)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(dataset: Dataset | None, keyword: str) -> float | None:
    found = numbers(dataset, keyword, 1)
    return found[0] if found else None


def positive(dataset: Dataset | None, keyword: str) -> float | None:
    found = number(dataset, keyword)
    return found if found is not None and found > 0 else None


def _day(dataset: Dataset, keyword: str) -> date | None:
    match = DAY.fullmatch(text(dataset, keyword))
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def _series_date(dataset: Dataset) -> datetime | None:
    """Date and time of the series, else of acquisition, content or study; UTC unless the file names an offset."""
    for name in ("Series", "Acquisition", "Content", "Study"):
        day = _day(dataset, f"{name}Date")
        if day is None:
            continue
        moment = datetime.combine(day, _time(text(dataset, f"{name}Time")), _zone(dataset))
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            return None
    return None


def _time(value: str) -> time:
    match = TIME.fullmatch(value)
    if not match:
        return time()
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    # A leap second is DICOM's to write and not Python's to read. Dates have milliseconds here.
    thousandths = int((match[4] or "0").ljust(6, "0")) // 1000
    try:
        return time(hour, minute, min(second, 59), thousandths * 1000)
    except ValueError:
        return time()


def _zone(dataset: Dataset) -> timezone:
    match = OFFSET.fullmatch(text(dataset, "TimezoneOffsetFromUTC"))
    if not match or int(match[2]) > 14 or int(match[3]) > 59:
        return UTC
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _parameters(dataset: Dataset) -> dict[str, Any]:
    found = {}
    for keyword in PARAMETERS:
        value = value_of(dataset, keyword)
        if value is not None and (plain := _plain(value)) not in (None, "", []):
            found[keyword[0].lower() + keyword[1:] if not keyword.startswith("KVP") else "kvp"] = plain
    return found


def _plain(value: Any) -> Any:
    """Numbers as numbers, the rest as strings, several as a list."""
    if isinstance(value, MultiValue | list | tuple):
        return [_plain(item) for item in value][:100]
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float) or hasattr(value, "as_tuple"):
        return float(value) if math.isfinite(value) else None
    return CONTROL.sub("", str(value).encode("utf-8", "replace").decode()).strip()[:LONGEST]
