"""Reading DICOM: every real series against an independent reader's facts, and made ones for the rest."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any, BinaryIO

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from cases.dicom.errors import DicomRefused
from cases.dicom.instance import Frame, Instance
from cases.dicom.reader import decode_frames, read_header, read_instance
from tests.dicom import SERIES_UID, buffer, image


def read(dataset: Dataset) -> Instance:
    return read_instance(buffer(dataset))


def pixels(dataset: Dataset, frames: Any = (0,)) -> list[np.ndarray]:
    return list(decode_frames(buffer(dataset), list(frames)))


def refused(file: BinaryIO) -> DicomRefused:
    with pytest.raises(DicomRefused) as refusal:
        read_instance(file)
    assert "Secret" not in refusal.value.sentence
    return refusal.value


def test_real_series(dicom_folder: Path) -> None:
    manifest = json.loads((dicom_folder / "manifest.json").read_text())
    for series in manifest["series"]:
        facts, name = series["facts"], series["name"]
        if not facts["seriesUid"]:
            # Somebody removed it: nothing says what belongs together.
            for path in (dicom_folder / name).iterdir():
                with path.open("rb") as file:
                    assert refused(file).code == "no_series_uid"
            continue
        read = []
        for path in sorted((dicom_folder / name).iterdir()):
            with path.open("rb") as file:
                read.append((path, read_instance(file)))
        read.sort(key=lambda pair: (pair[1].frames[0].number, pair[0].name))
        first = read[0][1]
        with read[0][0].open("rb") as file:
            header = read_header(file)
        assert {instance.series_uid for _, instance in read} == {facts["seriesUid"]}, name
        assert (first.layout.height, first.layout.width) == (facts["rows"], facts["columns"]), name
        patient, expected = header.patient, facts["patient"]
        assert patient.patient_id == (expected["patientId"] or None), name
        assert patient.patient_name == (expected["patientName"] or None), name
        assert patient.age == expected["ageYears"], name
        assert (patient.sex or "") == expected["sex"], name
        assert header.modality == facts["modality"], name
        if not facts.get("stored"):
            assert first.layout.channels == 3, name
            continue
        digest = hashlib.sha256()
        for path, instance in read:
            with path.open("rb") as file:
                for values in decode_frames(file, [frame.index for frame in instance.frames]):
                    digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
        assert digest.hexdigest() == facts["stored"]["sha256InstanceOrder"], name
        frames = [frame for _, instance in read for frame in instance.frames]
        if facts.get("rescaled"):
            assert min(frame.minimum for frame in frames) == pytest.approx(facts["rescaled"]["min"]), name
            assert max(frame.maximum for frame in frames) == pytest.approx(facts["rescaled"]["max"]), name


def test_twins_have_one_fingerprint(dicom_folder: Path) -> None:
    """The same image in another transfer syntax is the same image."""
    for family in ("mr-small-*", "mr-ts-*", "mr-enhanced-emri10*", "mr-phantom-*"):
        found = set()
        for folder in dicom_folder.glob(family):
            for path in folder.iterdir():
                with path.open("rb") as file:
                    found.add(tuple(frame.sha256 for frame in read_instance(file).frames))
        assert len(found) == 1, family


def test_real_rejects(dicom_folder: Path) -> None:
    # 32 bits are taken; the others are not images, or not whole ones.
    for path in sorted((dicom_folder / "_rejects").iterdir()):
        with path.open("rb") as file:
            if path.name.startswith("rtdose"):
                assert read_instance(file).layout.dtype == "uint32"
            else:
                assert refused(file).sentence.endswith("."), path


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_depths(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.array([[limits.min, limits.max, 1], [0, 2, 3]], dtype)
    dataset = image(1, values)
    assert read(dataset).layout.dtype == dtype
    assert np.array_equal(pixels(dataset)[0], values)
    frame = read(dataset).frames[0]
    assert (frame.minimum, frame.maximum, frame.integral) == (limits.min, limits.max, True)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(("dtype", "bits"), [("uint16", 12), ("int16", 12), ("int16", 9), ("uint8", 7), ("int32", 20)])
def test_unused_bits_are_cleared(syntax: UID, dtype: str, bits: int) -> None:
    """Against arithmetic on Python's integers; the unused bits hold anything."""
    width = np.dtype(dtype).itemsize
    raw = np.random.default_rng(bits).integers(0, 256, 24 * width, np.uint8).tobytes()
    order = "little" if syntax.is_little_endian else "big"
    numbers = [int.from_bytes(raw[i : i + width], order) % 2**bits for i in range(0, len(raw), width)]
    if dtype.startswith("int"):
        numbers = [number - 2**bits * (number >= 2 ** (bits - 1)) for number in numbers]
    dataset = image(1, np.zeros((4, 6), dtype), BitsStored=bits, HighBit=bits - 1, PixelData=raw)
    dataset.file_meta.TransferSyntaxUID = syntax
    instance = read(dataset)
    assert pixels(dataset)[0].ravel().tolist() == numbers
    assert (instance.frames[0].minimum, instance.frames[0].maximum) == (min(numbers), max(numbers))
    # Bytes in big-endian words are left to pydicom.
    assert (instance.native is None) == (dtype == "uint8" and syntax == ExplicitVRBigEndian)


def test_geometry_and_rescale_of_an_image() -> None:
    frame = read(image(3, RescaleSlope="0.5", RescaleIntercept="-10", SliceThickness="2.5")).frames[0]
    assert frame.number == 3
    assert frame.position == (0, 0, 6)
    assert frame.orientation == (1, 0, 0, 0, 1, 0)
    assert frame.spacing == (0.5, 0.75)
    assert (frame.thickness, frame.slope, frame.intercept) == (2.5, 0.5, -10)
    assert (frame.minimum, frame.maximum, frame.integral) == (140, 151.5, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"ImagePositionPatient": [0, 1]},
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": [1, 0, 0]},
        {"PixelSpacing": [0, 1]},
        {"PixelSpacing": None},
    ],
)
def test_malformed_geometry_is_left_out(changes: dict[str, Any]) -> None:
    frame = read(image(**changes)).frames[0]
    assert None in (frame.position, frame.orientation, frame.spacing)


def multiframe(count: int = 3, shape: tuple[int, int] = (4, 6)) -> Dataset:
    stack = np.arange(count * shape[0] * shape[1], dtype=np.uint16).reshape(count, *shape)
    dataset = image(1, stack[0], NumberOfFrames=count, ImagePositionPatient=None, PixelData=stack.tobytes())
    frames = []
    for index in range(count):
        place, transform = Dataset(), Dataset()
        place.ImagePositionPatient = [1, 2, 3.0 * index]
        transform.RescaleSlope, transform.RescaleIntercept = index + 1, -index
        group = Dataset()
        group.PlanePositionSequence = Sequence([place])
        group.PixelValueTransformationSequence = Sequence([transform])
        frames.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.25, 0.125], 3
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    return dataset


def test_multiframe() -> None:
    dataset = multiframe()
    frames = read(dataset).frames
    assert [frame.number for frame in frames] == [1, 2, 3]
    assert [frame.position for frame in frames] == [(1, 2, 0), (1, 2, 3), (1, 2, 6)]
    assert {frame.spacing for frame in frames} == {(0.125, 0.25)}
    assert [(frame.slope, frame.intercept) for frame in frames] == [(1, 0), (2, -1), (3, -2)]
    assert [frame.maximum for frame in frames] == [23, 47 * 2 - 1, 71 * 3 - 2]
    stack = np.arange(72).reshape(3, 4, 6)
    for order in ([0, 1, 2], [2, 0], [1]):
        assert np.array_equal(np.stack(pixels(dataset, order)), stack[order])


def test_frames_of_an_encapsulated_file_are_found_alone() -> None:
    dataset = multiframe(4, (32, 40))
    stack = np.frombuffer(dataset.PixelData, "<u2").reshape(4, 32, 40)
    dataset.compress(JPEG2000Lossless, stack)
    for order in ([0, 1, 2, 3], [3, 1], [2]):
        assert np.array_equal(np.stack(pixels(dataset, order)), stack[order])


def test_only_numbers_that_lie_in_the_file_are_native() -> None:
    dataset = image(1)
    native = read(dataset).native
    assert native is not None
    assert buffer(dataset).read()[native.start :] == dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert read(dataset).native is None
    assert np.array_equal(pixels(dataset)[0], (np.arange(24) + 100).reshape(4, 6))


def test_large_images_are_decoded_one_at_a_time() -> None:
    """However many threads read files, and however little of a disk the images take."""
    dataset = image(1, np.zeros((5800, 5800), np.uint8))
    dataset.compress(RLELossless)
    data, inside, seen = buffer(dataset).read(), Semaphore(1), []

    def on_image(frame: Frame, decoded: np.ndarray) -> None:
        seen.append(inside.acquire(blocking=False))
        time.sleep(0.05)
        inside.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: read_instance(io.BytesIO(data), on_image), range(4)))
    assert seen == [True] * 4


def test_a_single_pixel() -> None:
    """Its value is shorter than what a header's end is read with."""
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        dataset = image(1, np.array([[77]], np.int16))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = (77).to_bytes(2, "little" if syntax.is_little_endian else "big")
        assert pixels(dataset)[0].tolist() == [[77]], syntax


def test_fewer_images_than_the_header_says() -> None:
    """Two fragments an image and no table: where one image ends, RLE does not say."""
    dataset = multiframe()
    dataset.compress(RLELossless)
    images = list(generate_frames(dataset.PixelData, number_of_frames=3))
    dataset.PixelData = encapsulate(images, fragments_per_frame=2, has_bot=False)
    assert refused(buffer(dataset)).code == "undecodable"
    dataset.PixelData = encapsulate(images, fragments_per_frame=2)
    assert [frame.number for frame in read(dataset).frames] == [1, 2, 3]


def test_a_codestream_of_another_size() -> None:
    """Decoded, this one would take gigabytes."""
    dataset = multiframe(2, (32, 40))
    dataset.compress(JPEG2000Lossless, np.frombuffer(dataset.PixelData, "<u2").reshape(2, 32, 40))
    whole = buffer(dataset).read()
    size = struct.pack(">2L", 40, 32)
    assert whole.count(size) == 4, "of each frame, and of its one tile"
    for place in (whole.index(size), whole.rindex(size, 0, whole.rindex(size))):
        huge = whole[:place] + struct.pack(">2L", 40, 2**20) + whole[place + 8 :]
        assert "another size" in refused(io.BytesIO(huge)).sentence


def test_a_decoder_that_panics(capfd: pytest.CaptureFixture[str]) -> None:
    """A run that is longer than its image: what the decoder of RLE raises then is no Exception."""
    segments = [struct.pack("<2b", -127, 0) * 200, struct.pack("<2b", -127, 0)]
    offsets = [64, 64 + len(segments[0]), *[0] * 13]
    dataset = image(1, BitsAllocated=16)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([struct.pack("<16L", 2, *offsets) + b"".join(segments)])
    dataset["PixelData"].is_undefined_length = True
    assert refused(buffer(dataset)).code == "undecodable"


def test_numbers() -> None:
    without = read(image(InstanceNumber=None))
    assert without.frames[0].number == 1
    assert without.warnings == ["An image without Instance Number has the number 1."]
    assert "Image 0" in read(image(InstanceNumber=0)).warnings[0]
    for wrong in (-1, 2**31):
        assert refused(buffer(image(InstanceNumber=wrong))).code == "bad_number"


def test_colour() -> None:
    values = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    assert read(image(1, values)).layout.channels == 3
    assert np.array_equal(pixels(image(1, values))[0], values)
    planar = image(1, values, PlanarConfiguration=1, PixelData=values.transpose(2, 0, 1).tobytes())
    assert np.array_equal(pixels(planar)[0], values)
    deep = (values.astype(np.uint16) << 8) + 17
    assert np.array_equal(pixels(image(1, deep))[0], values)
    assert "16 bits" in read(image(1, deep)).warnings[0]


def test_palette() -> None:
    indices = np.array([[0, 1], [2, 3]], np.uint8)
    lut = {
        f"{name}PaletteColorLookupTable{what}": value
        for name, table in (("Red", [0, 10, 20, 30]), ("Green", [1, 11, 21, 31]), ("Blue", [2, 12, 22, 32]))
        for what, value in (("Descriptor", [4, 0, 8]), ("Data", bytes(table)))
    }
    dataset = image(1, indices, PhotometricInterpretation="PALETTE COLOR", **lut)
    assert read(dataset).layout.channels == 3
    assert pixels(dataset)[0].tolist() == [[[0, 1, 2], [10, 11, 12]], [[20, 21, 22], [30, 31, 32]]]


def test_modality_lut() -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [4, 0, 16], "US", [1000, 500, 7, 60000]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    dataset = image(1, np.array([[0, 1], [2, 3]], np.uint8), ModalityLUTSequence=Sequence([item]))
    assert pixels(dataset)[0].tolist() == [[1000, 500], [7, 60000]]
    frame = read(dataset).frames[0]
    assert (frame.slope, frame.maximum) == (1, 60000)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PixelData": None}, "no_pixel_data"),
        ({"PixelData": bytes(46)}, "truncated"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "bad_pixels"),
        ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, "bad_pixels"),
        ({"SamplesPerPixel": 4}, "bad_pixels"),
        ({"BitsStored": 12, "HighBit": 15}, "bad_pixels"),
        ({"Rows": 0}, "bad_size"),
        ({"Rows": None}, "no_pixel_description"),
        ({"SeriesInstanceUID": None}, "no_series_uid"),
        ({"Rows": 65535, "Columns": 65535, "NumberOfFrames": 99999}, "too_large"),
        ({"NumberOfFrames": 2**31 - 1}, "bad_size"),
    ],
)
def test_refusals(changes: dict[str, Any], code: str) -> None:
    assert refused(buffer(image(**changes))).code == code


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, a file is refused and never half read."""
    for dataset in (image(), multiframe()):
        whole = buffer(dataset).read()
        for length in range(0, len(whole), 7):
            refused(io.BytesIO(whole[:length]))
    compressed = multiframe(3, (32, 40))
    compressed.compress(JPEG2000Lossless, np.frombuffer(compressed.PixelData, "<u2").reshape(3, 32, 40))
    whole = buffer(compressed).read()
    for length in range(0, len(whole) - 8, 7):
        refused(io.BytesIO(whole[:length]))


def test_damage_never_ends_in_another_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    random = np.random.default_rng(1)
    for dataset in (image(), multiframe()):
        whole = np.frombuffer(buffer(dataset).read(), np.uint8)
        for _ in range(300):
            damaged = whole.copy()
            damaged[random.integers(128, len(whole), 5)] = random.integers(0, 256, 5)
            try:
                read_instance(io.BytesIO(damaged.tobytes()))
            except DicomRefused as refusal:
                assert "Secret" not in refusal.sentence  # noqa: PT017  most damage is refused, some is not seen
    assert "Secret" not in caplog.text


def test_no_preamble() -> None:
    whole = buffer(image()).read()
    assert read_instance(io.BytesIO(whole[132:])).series_uid == SERIES_UID
    dataset = image()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    bare = io.BytesIO()
    dataset.save_as(bare, implicit_vr=True, little_endian=True)
    assert np.array_equal(next(decode_frames(io.BytesIO(bare.getvalue()), [0])), (np.arange(24) + 100).reshape(4, 6))
    for junk in (b"x", bytes(1000), b"%PDF-1.4" + bytes(500), bytes(128) + b"DICM"):
        refused(io.BytesIO(junk))
