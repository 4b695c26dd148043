"""What an image says of its series and patient."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from cases.dicom.header import patient_age
from cases.dicom.instance import SeriesHeader
from cases.dicom.reader import read_header
from tests.dicom import buffer, image


def header_of(dataset: Dataset) -> SeriesHeader:
    return read_header(buffer(dataset))


@pytest.mark.parametrize(
    ("age", "born", "studied", "years"),
    [
        ("045Y", None, None, 45),
        ("018M", None, None, 1),
        ("053W", None, None, 1),
        ("729D", None, None, 1),
        ("45Y", "19700301", "20200229", 49),
        ("", "19700301", "20200301", 50),
        ("99", None, None, None),
        ("", "20200301", "20200229", None),
    ],
)
def test_ages(age: str, born: str | None, studied: str | None, years: float | None) -> None:
    from datetime import datetime

    def day(text: str | None) -> Any:
        return datetime.strptime(text, "%Y%m%d").date() if text else None

    assert patient_age(age, day(born), day(studied)) == years


def test_dates() -> None:
    changes = {"SeriesDate": "20240101", "SeriesTime": "003000.5", "TimezoneOffsetFromUTC": "+0900"}
    assert str(header_of(image(**changes)).series_date) == "2023-12-31 15:30:00.500000+00:00"
    assert str(header_of(image(StudyDate="20240229")).series_date) == "2024-02-29 00:00:00+00:00"
    assert header_of(image(StudyDate="20230229")).series_date is None


def test_strings_that_no_database_takes() -> None:
    header = header_of(image(SeriesDescription="a\x00b\x1bc", Manufacturer="x" * 64, PatientSex="X"))
    assert "\x00" not in header.series_description
    assert header.patient.sex is None
