"""Exported voxels: exact values, labels where they belong, volumes put together from stored slices."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from cases.deflate import END, Deflated, inflated, joined, piece_of, zeros
from cases.dicom.rescale import convert, rescaled_range
from cases.geometry import VolumeGeometry, element_type
from cases.label_bits import LabelVoxels, pack
from cases.slices import DamagedSlices, SliceReader, SliceWriter, compress_slice, nrrd_header
from exports.painting import paint_labels
from exports.pieces import Digest, Pieces

SIZE = (7, 5, 4)


@st.composite
def labels(draw: st.DrawFn) -> tuple[LabelVoxels, np.ndarray]:
    """A label and the same as a full mask (z, y, x); the box may touch any face."""
    origin = tuple(draw(st.integers(0, extent - 1)) for extent in SIZE)
    size = tuple(draw(st.integers(1, extent - o)) for extent, o in zip(SIZE, origin, strict=True))
    bits = draw(st.binary(min_size=size[0] * size[1] * size[2], max_size=size[0] * size[1] * size[2]))
    box = (np.frombuffer(bits, np.uint8) & 1).reshape(size[::-1]).astype(bool)
    mask = np.zeros(SIZE[::-1], bool)
    x, y, z = origin
    mask[z : z + size[2], y : y + size[1], x : x + size[0]] = box
    return LabelVoxels(pack(box), origin, size), mask  # type: ignore[arg-type]


@given(st.lists(labels(), max_size=5), st.sampled_from(["uint8", "uint16"]))
def test_labels_are_painted_in_order(chosen: list[tuple[LabelVoxels, np.ndarray]], dtype: str) -> None:
    """Against a plain loop over voxels."""
    values = [7 * index + 3 for index in range(len(chosen))]
    expected = np.zeros(SIZE[::-1], dtype)
    counts, covered = [0] * len(chosen), Counter[tuple[int, int]]()
    owner = {}
    for index, (_, mask) in enumerate(chosen):
        for place in map(tuple, np.argwhere(mask)):
            expected[place] = values[index]
            counts[index] += 1
            if place in owner:
                covered[owner[place], index] += 1
            owner[place] = index
    pairs = [(value, label) for value, (label, _) in zip(values, chosen, strict=True)]
    pieces = Pieces(io.BytesIO())
    painted = paint_labels(pairs, SIZE, np.dtype(dtype), pieces)
    assert content_of(pieces.content) == expected.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    assert painted.counts == counts
    assert painted.covered == covered
    assert [painted.visible(i) for i in range(len(chosen))] == [
        list(owner.values()).count(i) for i in range(len(chosen))
    ]


def test_an_empty_label_is_an_empty_volume() -> None:
    pieces = Pieces(io.BytesIO())
    painted = paint_labels([(1, LabelVoxels(b"", (0, 0, 0), (0, 0, 0)))], SIZE, np.dtype("uint8"), pieces)
    assert content_of(pieces.content) == bytes(7 * 5 * 4)
    assert painted.counts == [0]


def content_of(content: Deflated) -> bytes:
    """By zlib itself; what the pieces say of themselves is checked on the way."""
    compressed = b"".join(content.read())
    assert len(compressed) == content.length
    data = zlib.decompress(compressed + END, wbits=-15)
    assert (len(data), zlib.crc32(data)) == (content.size, content.crc)
    assert b"".join(inflated(content)) == data
    return data


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 5 * 2**20)), max_size=6))
def test_pieces_stand_behind_each_other(parts: list[bytes | int]) -> None:
    """Bytes, and runs of zeros of so many bytes."""
    whole = joined([zeros(part) if isinstance(part, int) else piece_of(part) for part in parts])
    assert content_of(whole) == b"".join(bytes(part) if isinstance(part, int) else part for part in parts)


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 3 * 2**20)), max_size=9))
def test_content_is_hashed_while_it_is_made(parts: list[bytes | int]) -> None:
    digest = Digest()
    pieces = Pieces(io.BytesIO(), digest)
    for part in parts:
        if isinstance(part, int):
            pieces.add_zeros(part)
        else:
            pieces.add(part)
    expected = b"".join(bytes(part) if isinstance(part, int) else part for part in parts)
    assert digest.hexdigest() == hashlib.sha256(expected).hexdigest()
    assert content_of(pieces.content) == expected


@pytest.mark.parametrize("damage", [b"", b"not deflate at all"])
def test_damaged_content_is_told(damage: bytes) -> None:
    piece = piece_of(b"0123456789" * 100)
    with pytest.raises(ValueError, match=r"1000 bytes|deflate"):
        list(inflated(replace(piece, read=lambda: [damage])))


NUMBERS = [3, 4, 5, 9]


@pytest.fixture(params=[("int16", 1), ("float32", 1), ("uint8", 3)])
def stored(request: Any, tmp_path: Path) -> tuple[Path, bytes, np.ndarray]:
    """A file of slices, its index and its voxels (z, y, x[, c])."""
    dtype, channels = request.param
    shape = (4, 5, 6) + ((3,) if channels == 3 else ())
    voxels = np.random.default_rng(1).integers(0, 200, shape).astype(np.dtype(dtype).newbyteorder("<"))
    turned = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    geometry = VolumeGeometry((0.5, 0.25, 3.0), (-10.0, 20.5, 1e-3), turned)
    path = tmp_path / "volume.nrrd"
    header = nrrd_header(element_type=dtype, size=(6, 5, 4), channels=channels, geometry=geometry, encoding="gzip")
    with path.open("wb") as file:
        writer = SliceWriter(file, header)
        for number, image in zip(NUMBERS, voxels, strict=True):
            writer.add(number, compress_slice(image))
        index = writer.finish()
    assert writer.position == path.stat().st_size
    return path, index, voxels


def test_stored_volumes_are_ordinary_files(stored: tuple[Path, bytes, np.ndarray]) -> None:
    path, _, voxels = stored
    data, header = nrrd.read(str(path), index_order="C")
    assert np.array_equal(data, voxels)
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)
    assert image.GetSpacing() == (0.5, 0.25, 3.0)
    assert image.GetOrigin() == (-10.0, 20.5, 1e-3)
    assert image.GetDirection() == (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert header["space"] == "left-posterior-superior"


@pytest.mark.parametrize("numbers", [[3, 4, 5, 9], [9, 5, 4, 3], [3, 5, 9], [4], [9, 9, 3, 4]])
def test_slices_in_any_order(stored: tuple[Path, bytes, np.ndarray], numbers: list[int]) -> None:
    path, index, voxels = stored
    with path.open("rb") as file:
        content = SliceReader(file, index, voxels[0].nbytes).pieces(numbers)
        assert content_of(content) == b"".join(voxels[NUMBERS.index(number)].tobytes() for number in numbers)


def test_damaged_slices_are_noticed(stored: tuple[Path, bytes, np.ndarray]) -> None:
    path, index, voxels = stored
    whole = path.read_bytes()
    for changed in (whole[:-60], whole[:-60] + bytes([whole[-60] ^ 1]) + whole[-59:]):
        path.write_bytes(changed)
        with path.open("rb") as file, pytest.raises(DamagedSlices):
            list(SliceReader(file, index, voxels[0].nbytes).pieces(NUMBERS).read())


STORED = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]


@given(
    st.sampled_from(STORED),
    st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4),
    st.sampled_from([1.0, -1.0, 2.0, 1000.0, 0.5, 0.1, 0.684, 1e-3]),
    st.sampled_from([0.0, -1024.0, 32768.0, 1e6, 0.25]),
)
def test_conversion_is_exact_and_never_wraps(dtype: str, raw: list[int], slope: float, intercept: float) -> None:
    stored = np.array(raw, np.uint32).astype(dtype).reshape(2, 2)
    low, high, integral = rescaled_range(stored, slope, intercept)
    name = element_type(low, high, integral, 1)
    got = convert(stored, slope, intercept, name)
    assert got.dtype == np.dtype(name)
    if name == "float32":
        expected = stored.astype(np.float64) * slope + intercept
        assert np.allclose(got, expected, rtol=1e-6, atol=0)
    else:
        whole = slope.is_integer() and intercept.is_integer()
        for value, exact in zip(got.ravel().tolist(), stored.ravel().tolist(), strict=True):
            assert value == (exact * int(slope) + int(intercept) if whole else exact * slope + intercept)


def test_conversion_refuses_what_does_not_fit() -> None:
    with pytest.raises(OverflowError):
        convert(np.array([[40000]], np.uint16), 1.0, 0.0, "int16")


@pytest.mark.parametrize(
    ("low", "high", "integral", "channels", "name"),
    [
        (-1024, 3071, True, 1, "int16"),
        (0, 255, True, 1, "int16"),
        (-32768, 32767, True, 1, "int16"),
        (0, 32768, True, 1, "uint16"),
        (0, 65536, True, 1, "int32"),
        (-1, 40000, True, 1, "int32"),
        (0, 2**31, True, 1, "float32"),
        (0.5, 1.5, False, 1, "float32"),
        (0, 255, True, 3, "uint8"),
    ],
)
def test_element_types(low: float, high: float, integral: bool, channels: int, name: str) -> None:
    assert element_type(low, high, integral, channels) == name
