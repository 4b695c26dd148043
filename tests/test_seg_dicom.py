"""DICOM SEG: read back by highdicom and pydicom, and compared with the images that it refers to."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from cases.demo.phantom import write_phantom
from cases.label_bits import LabelVoxels
from casestore.errors import CasestoreError
from exports import seg_dicom
from exports.dicom_sources import read_source
from exports.segments import ExportedLabel, segments_of, survey
from tests.dicom import image, write
from tests.test_segments import SIZE, exported, in_volume, masks

WIDTH, HEIGHT, DEPTH = SIZE
MOMENT = datetime(2024, 2, 29, 12, 30, 15, 250_000, UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
PLACED = {"SOPClassUID": CT, "FrameOfReferenceUID": "1.2.9", "SliceThickness": 2}


def read(path: Path) -> Dataset:
    with path.open("rb") as file:
        return read_source(file)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The images of each phantom, in the order of their numbers."""
    found = {}
    for kind in ("feet_first", "oblique"):
        files = write_phantom(tmp_path_factory.mktemp(kind), kind=kind, size=(WIDTH, HEIGHT, 9)).files
        found[kind] = sorted(files, key=lambda path: pydicom.dcmread(path).InstanceNumber)
    return found


def make(sources: list[Dataset], labels: list[ExportedLabel], values: list[int], **changes: Any) -> bytes | None:
    size = changes.pop("size", (WIDTH, HEIGHT, len(sources)))
    segments = segments_of(labels, values)
    options = {"thickness": 3.0, "identity": "case/0/1", "moment": MOMENT} | changes
    found = survey(segments, size)
    if found.is_empty:
        with pytest.raises(CasestoreError, match="no voxels"):
            seg_dicom.segmentation(sources=sources, size=size, segments=segments, survey=found, **options)
        return None
    made = seg_dicom.segmentation(sources=sources, size=size, segments=segments, survey=found, **options)
    data = made.header + b"".join(made.pixels())
    assert len(data) == made.size
    assert len(data) % 2 == 0
    return data


def placed_masks(data: bytes) -> dict[str, dict[tuple[float, ...], np.ndarray]]:
    """By label, then by Image Position (Patient): the frames, as pydicom decodes them."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found: dict[str, dict[tuple[float, ...], np.ndarray]] = {
        item.SegmentLabel: {} for item in dataset.SegmentSequence if item.SegmentNumber
    }
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, item in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        place = tuple(float(value) for value in item.PlanePositionSequence[0].ImagePositionPatient)
        for segment in dataset.SegmentSequence:
            if dataset.SegmentationType == "LABELMAP":
                mask = frame == segment.SegmentNumber
            else:
                group = item if "SegmentIdentificationSequence" in item else shared
                if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber != segment.SegmentNumber:
                    continue
                mask = frame.astype(bool)
            if segment.SegmentNumber and mask.any():
                found[segment.SegmentLabel][place] = mask
    return found


@given(
    chosen=st.lists(st.tuples(masks(), st.sampled_from([1, 2, 3, 300])), min_size=1, max_size=4),
    kind=st.sampled_from(["feet_first", "oblique"]),
    numbers=st.sampled_from([[1, 2, 3, 4], [9, 8, 7, 6], [2, 4, 6, 8], [9, 6, 3, 1]]),
)
@settings(max_examples=30)
def test_frames_lie_on_the_images_they_were_drawn_on(phantoms: Any, chosen: Any, kind: str, numbers: list[int]) -> None:
    """Forwards, backwards, stepped; whatever order highdicom gives the frames."""
    files = [phantoms[kind][number - 1] for number in numbers]
    labels = [exported(index, box, origin, name=str(value)) for index, ((origin, box), value) in enumerate(chosen)]
    data = make([read(path) for path in files], labels, [value for _, value in chosen])
    expected: dict[str, np.ndarray] = {}
    for (origin, box), value in chosen:
        before = expected.get(str(value), np.zeros((DEPTH, HEIGHT, WIDTH), bool))
        expected[str(value)] = before | in_volume(origin, box)
    if data is None:
        assert not any(mask.any() for mask in expected.values())
        return
    originals = [pydicom.dcmread(path) for path in files]
    places = [tuple(float(v) for v in original.ImagePositionPatient) for original in originals]
    found = placed_masks(data)
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        assert found[name].keys() == {places[k] for k in range(DEPTH) if mask[k].any()}
        for k in range(DEPTH):
            if mask[k].any():
                assert np.array_equal(found[name][places[k]], mask[k])
    segmentation = highdicom.seg.segread(io.BytesIO(data))
    overlap = sum(mask.astype(int) for mask in expected.values()).max() > 1
    assert segmentation.SegmentationType == ("BINARY" if overlap else "LABELMAP")
    assert segmentation.SegmentsOverlap == ("YES" if overlap else "NO")
    if not overlap:
        assert segmentation.segment_numbers == sorted({value for _, value in chosen})
    # Each frame names the one image that lies where it lies.
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        (original,) = [one for one in originals if one.SOPInstanceUID == source.ReferencedSOPInstanceUID]
        assert item.PlanePositionSequence[0].ImagePositionPatient == original.ImagePositionPatient
    assert {one.SOPInstanceUID for one in originals} == {
        one.ReferencedSOPInstanceUID for one in segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }


def ones(index: int = 0, origin: tuple[int, int, int] = (0, 0, 0), **more: Any) -> ExportedLabel:
    return exported(index, np.ones((2, 2, 2), bool), origin, **more)


def test_what_it_says_of_itself(phantoms: Any) -> None:
    sources = [read(path) for path in phantoms["oblique"][:DEPTH]]
    labels = [ones(0, name="left lung", color="#ff0000"), ones(5, (3, 3, 2))]
    data = make(sources, labels, [4, 6])
    assert data is not None
    made = pydicom.dcmread(io.BytesIO(data))
    original = pydicom.dcmread(phantoms["oblique"][0])
    same = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID", "PatientSex", "PatientBirthDate")
    for name in (*same, "StudyDate", "StudyTime", "PatientAge"):
        assert made[name].value == original[name].value, name
    assert made.SeriesInstanceUID != original.SeriesInstanceUID
    assert made.Modality == "SEG"
    assert (made.Rows, made.Columns) == (HEIGHT, WIDTH)
    assert (made.ContentDate, made.ContentTime) == ("20240229", "123015.250000")
    background, first, second = made.SegmentSequence
    assert background.SegmentNumber == 0
    assert (first.SegmentNumber, first.SegmentLabel) == (4, "left lung")
    assert (second.SegmentNumber, second.SegmentLabel) == (6, "label005")
    red = highdicom.color.CIELabColor.from_dicom_value(list(first.RecommendedDisplayCIELabValue))
    assert red.to_rgb() == (255, 0, 0)
    (shared,) = made.SharedFunctionalGroupsSequence
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == original.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == original.PixelSpacing
    assert shared.PixelMeasuresSequence[0].SpacingBetweenSlices == pytest.approx(3, abs=1e-6)


@pytest.mark.parametrize("overlap", [False, True])
def test_the_same_labels_give_the_same_bytes(phantoms: Any, overlap: bool) -> None:
    sources = [read(path) for path in phantoms["feet_first"][:DEPTH]]
    labels = [ones(0), ones(1, (1, 1, 1) if overlap else (3, 3, 2))]
    first, second = (make(sources, labels, [1, 2]) for _ in range(2))
    assert first == second
    other = make(sources, labels, [1, 2], identity="case/1/1")
    assert first is not None
    assert other is not None
    uids = [pydicom.dcmread(io.BytesIO(data)) for data in (first, other)]
    assert uids[0].SOPInstanceUID != uids[1].SOPInstanceUID
    assert uids[0].SeriesInstanceUID != uids[1].SeriesInstanceUID


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("肝臓 größe", "肝臓 größe"),
        ("a\\b\nc", "a b c"),
        ("x" * 100, "x" * 63 + "…"),
        ("\\", "label000"),
    ],
)
def test_names_that_a_long_string_cannot_hold(phantoms: Any, name: str, label: str) -> None:
    data = make([read(path) for path in phantoms["feet_first"][:DEPTH]], [ones(name=name)], [1])
    assert data is not None
    segment = pydicom.dcmread(io.BytesIO(data)).SegmentSequence[1]
    assert segment.SegmentLabel == label
    assert segment.SegmentDescription == name


def series(folder: Path, *changes: dict[str, Any], **all_of_them: Any) -> list[Dataset]:
    """Two images of 6 columns and 4 rows."""
    changes = changes or ({}, {})
    options = PLACED | all_of_them
    paths = [write(image(n, **(options | change)), folder / f"{n}.dcm") for n, change in enumerate(changes, 1)]
    return [read(path) for path in paths]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([{}, {"ImagePositionPatient": None}], "no position"),
        ([{"ImageOrientationPatient": None}, {}], "no orientation"),
        ([{}, {"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}], "different orientations"),
        ([{"FrameOfReferenceUID": None}, {}], "no FrameOfReferenceUID"),
        ([{}, {"FrameOfReferenceUID": "1.2.8"}], "differ in FrameOfReferenceUID"),
        ([{}, {"StudyInstanceUID": "1.2.8"}], "differ in StudyInstanceUID"),
        ([{}, {"PixelSpacing": None}], "no pixel spacing"),
        ([{}, {"PixelSpacing": [0.75, 0.51]}], "different pixel spacings"),
        ([{}, {"NumberOfFrames": 2, "pixels": np.zeros((2, 4, 6), np.int16), "Rows": 4, "Columns": 6}], "multi-frame"),
        ([{}, {"SOPInstanceUID": "1.2.826.0.1.3680043.8.498.1.1"}], "same SOP Instance UID"),
        ([{}, {"ImagePositionPatient": [1, 0, 2]}], "same plane"),
        ([{"SOPClassUID": "1.2.3.4"}, {"SOPClassUID": "1.2.3.4"}], "cannot carry"),
    ],
)
def test_images_that_cannot_carry_a_segmentation(tmp_path: Path, changes: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(CasestoreError) as caught:
        make(series(tmp_path, *changes), [ones()], [1], size=(6, 4, 2))
    assert says in caught.value.sentence
    assert "Secret" not in caught.value.sentence


@pytest.mark.parametrize(
    ("depth", "count", "name", "apart"),
    [(1, 1, None, 1), (2, 1, "肝臓 größe", 1), (9, 4, "x" * 200, 2), (9, 4, "liver", 1), (200, 3, "left lung", 1)],
)
def test_sizes_are_estimated(tmp_path: Path, depth: int, count: int, name: str | None, apart: int) -> None:
    uid = "1.2.826.0.1.3680043.8.498.77777777777777777777"
    places = [{"SOPInstanceUID": f"{uid}.{k}", "ImagePositionPatient": [-7.5, 2, 1.25 * k]} for k in range(depth)]
    sources = series(tmp_path, *places)
    bits = LabelVoxels(b"\xff" * depth, (0, 0, 0), (2, 4, depth))
    labels = [ExportedLabel(i, name, None, replace(bits, origin=(i if apart == 1 else 0, 0, 0))) for i in range(count)]
    segments, size = segments_of(labels, list(range(1, count + 1))), (6, 4, depth)
    found = survey(segments, size)
    data = make(sources, labels, list(range(1, count + 1)), size=size)
    assert data is not None
    estimate = seg_dicom.extent_of(segments, found, size).size([x["SOPInstanceUID"] for x in places], segments)
    assert estimate == pytest.approx(len(data), rel=0.1)


def test_too_many_frames_are_refused() -> None:
    labels = [ExportedLabel(i, None, None, LabelVoxels(b"\xff" * 25, (0, 0, 0), (1, 1, 200))) for i in range(51)]
    with pytest.raises(CasestoreError, match="10200 frames"):
        make([], labels, list(range(1, 52)), size=(1, 1, 200))


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientName": "山田^太郎", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientName": None, "PatientID": None},
        {"PatientSex": "secret", "PatientBirthDate": "1970-01-31", "StudyTime": "secret"},
        {"PatientName": "a=b=c=d", "AccessionNumber": "x" * 200},
        {"SliceThickness": None},
        {"ImageOrientationPatient": [0.99999, 1e-5, 0, -1e-5, 0.99999, 0]},
        {"pixels": np.zeros((4, 6, 3), np.uint8)},
    ],
)
def test_odd_images_carry_one_all_the_same(
    tmp_path: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = make(series(tmp_path, changes, {}), [ones()], [1], size=(6, 4, 2), thickness=2.371708245126284)
    assert data is not None
    made = pydicom.dcmread(io.BytesIO(data))
    assert made.pixel_array.sum() == 8
    name = changes.get("PatientName", "Secret^Patient")
    assert str(made.PatientName) == (name or "")
    assert made.get("PatientSex", "") in {"", "M", "F", "O"}
    assert not caplog.records


def test_nothing_to_segment(phantoms: Any) -> None:
    empty = ExportedLabel(0, "a", None, LabelVoxels(b"", (0, 0, 0), (0, 0, 0)))
    assert make([read(path) for path in phantoms["oblique"][:DEPTH]], [empty], [1]) is None
