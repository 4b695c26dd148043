"""Whoever alters an archive, and its digests with it, is found out wherever it contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases.models import Project
from exports.services import Wanted
from exports.verify import verify
from tests.altering import Alter, altered, at_byte, exported, named, of_bytes, of_json, write
from tests.formats import box_label, phantom_case
from tests.packing import files as files_of
from tests.world import World, voxel_label

LABELS = "cases/0/series/0/labels"


def said(place: str, value: Any) -> Alter:
    """The manifest says something else at a place like `cases/0/folder`; with `...` nothing."""

    def alter(files: dict[str, bytes], manifest: Any) -> None:
        *path, last = place.split("/")
        for step in path:
            manifest = manifest[int(step) if step.isdigit() else step]
        key = int(last) if last.isdigit() else last
        if value is ...:
            del manifest[key]
        else:
            manifest[key] = value

    return alter


def dropped(name: str) -> Alter:
    """A file is neither there nor told."""

    def alter(files: dict[str, bytes], manifest: Any) -> None:
        path = named(files, name)
        del files[path]
        manifest["cases"][0]["files"] = [file for file in manifest["cases"][0]["files"] if file["name"] != path]

    return alter


def added(name: str, data: bytes = b"more") -> Alter:
    def alter(files: dict[str, bytes], manifest: Any) -> None:
        path = f"{manifest['cases'][0]['folder']}/{name}"
        files[path] = data
        manifest["cases"][0]["files"].append({"name": path})

    return alter


def swapped(files: dict[str, bytes], manifest: Any) -> None:
    told = manifest["cases"][0]["files"]
    told[0], told[1] = told[1], told[0]


def of_label(key: str, value: Any, index: int = 0) -> Alter:
    return of_json("data.json", lambda data: data["revision"]["series"][0]["labels"][index].__setitem__(key, value))


def of_box(key: str, value: Any) -> Alter:
    return of_json("data.json", lambda data: data["revision"]["series"][0]["labels"][0]["data"].__setitem__(key, value))


EVERYWHERE: list[tuple[str, Alter]] = [
    ("is not that of its name", said("cases/0/caseId", "other")),
    ("is of another case or revision", said("cases/0/revisionDate", "2001-02-03T04:05:06.000Z")),
    ("has the revision index", said("cases/0/revisionIndex", -1)),
    ("is not that of its name", said("cases/0/folder", "other")),
    ("neither packed nor left out", said("cases/1/status", "done")),
    ("neither packed nor left out", said("cases/1/reason", "")),
    ("but has files in the manifest", said("cases/1/files", [])),
    ("was left out, but", said("cases/0/status", "failed")),
    ("is not one of version 1", said("version", 2)),
    ("is not one of version 1", said("more", 1)),
    ("option format cannot be", said("options/format", "xyz")),
    ("option rasterizeShapes cannot be", said("options/rasterizeShapes", 1)),
    ("option compressionFormat is missing", said("options/compressionFormat", ...)),
    ("not what the option compressionFormat says", said("options/compressionFormat", "zip")),
    ("are not those of data.json", said("options/rasterizeShapes", False)),
    ("The series of", said("cases/0/series/0/seriesUid", "1.2.3")),
    ("The series of", said("cases/0/series/0/partialVolumeDescriptor/end", 8)),
    ("The series of", said("cases/0/series/0/volume", "vol001")),
    ("The series of", said("cases/0/series", [])),
    ("are not sentences", said("cases/0/series/0/warnings", [1])),
    ("are not those of data.json", said(f"{LABELS}/0/name", "other")),
    ("are not those of data.json", said(f"{LABELS}/0/index", 7)),
    ("are not those of data.json", said(f"{LABELS}/3", ...)),
    ("The value of label 0", said(f"{LABELS}/0/value", 9)),
    ("there is room for", said(f"{LABELS}/0/voxels", 100)),
    ("voxels instead of", said(f"{LABELS}/0/voxelsInFile", 2)),
    ("and in the file", said(f"{LABELS}/0/voxels", 1)),
    ("is not the file that is told of label 0", said(f"{LABELS}/0/file", "vol000-other")),
    ("in another order", swapped),
    ("are not those that its labels and the options ask for", added("note.txt")),
    ("is missing", lambda files, manifest: files.pop(named(files, "data.json"))),
    ("is of another case or revision", of_json("data.json", lambda data: data.update(caseId="other"))),
    ("is of another case or revision", of_json("data.json", lambda data: data["revision"].update(date="2001"))),
    ("are not those of data.json", of_label("name", "other")),
    ("are not those of data.json", of_label("type", "point")),
    ("outside the box", of_box("size", [2, 1, 2])),
    ("outside the box", of_box("origin", [1, 0, 0])),
    ("is not that of an export", said("options", 5)),
]
OVERLAPPING: list[tuple[str, Alter]] = [
    ("The overlaps of", said("cases/0/series/0/overlaps", [])),
    ("are not between labels", said("cases/0/series/0/overlaps/0/by", 9)),
    ("are not between labels", said("cases/0/series/0/overlaps/0/by", 0)),
]
ISOLATED: list[tuple[str, Alter]] = [
    ("are not those that its labels", dropped("vol000-label003.raw")),
    ("yet overlaps", said("cases/0/series/0/overlaps", [])),
    ("no label has", at_byte("vol000-label000.raw", 0, 7)),
    ("voxels instead of", at_byte("vol000-label000.raw", 0, 0)),
    ("different geometries", of_bytes("vol000-label000.mhd", b"ElementSpacing = 2", b"ElementSpacing = 3")),
    ("not a header as exports have it", of_bytes("vol000.mhd", b"CompressedData = False", b"CompressedData = True")),
    ("not a header as exports have it", of_bytes("vol000.mhd", b"DimSize", b"DimSiz")),
    ("not a header as exports have it", of_bytes("vol000.mhd", b"ElementSpacing = 2", b"ElementSpacing = two")),
    ("not that of its file", of_bytes("vol000.mhd", b"vol000.raw", b"vol001.raw")),
    ("describes another size", of_bytes("vol000.mhd", b"MET_SHORT", b"MET_CHAR")),
    ("has 8 slices", of_bytes("vol000.mhd", b"13 11 9", b"13 11 8")),
    ("option mhdLineEnding is missing", said("options/mhdLineEnding", ...)),
    ("not a header as exports have it", said("options/mhdLineEnding", "crlf")),
]
COMBINED: list[tuple[str, Alter]] = [
    ("do not explain", said("cases/0/series/0/overlaps/0/voxelsPaintedOver", 3)),
    ("no label has", at_byte("vol000-label.raw", 50, 9)),
]
NRRD: list[tuple[str, Alter]] = [
    ("are not those of its file", said("cases/0/series/0/overlaps/0/voxelsShared", 3)),
    ("which no label has", said(f"{LABELS}/0/layer", 1)),
    ("is not that of its labels", of_bytes(".seg.nrrd", b"Segment0_Name:=a", b"Segment0_Name:=b")),
    ("is not that of its labels", of_bytes(".seg.nrrd", b"Segment0_Color:=1 ", b"Segment0_Color:=0 ")),
    ("is not that of its labels", of_bytes(".seg.nrrd", b"Segment0_Extent:=0 1", b"Segment0_Extent:=0 2")),
    ("is not that of its labels", of_bytes(".seg.nrrd", b"Segment1_Layer:=1", b"Segment1_Layer:=0")),
    ("is not that of its labels", of_box("color", "#00ff00")),
    ("different geometries", of_bytes(".seg.nrrd", b"space origin: (", b"space origin: (1")),
    ("has not the size", of_bytes("vol000.nrrd", b"sizes: 13 11 9", b"sizes: 11 13 8")),
    ("no header as exports have it", of_bytes("vol000.nrrd", b"sizes:", b"sises:")),
    ("no header as exports have it", of_bytes("vol000.nrrd", b"endian: little", b"endian: big")),
    ("no header as exports have it", of_bytes("vol000.nrrd", b"type: int16", b"type: many")),
    ("means nothing to the format", said("options/labelPackType", "isolated")),
    ("no label has", at_byte(".seg.nrrd", -1, 9)),
]
NIFTI: list[tuple[str, Alter]] = [
    ("is not the table", of_json("-label.json", lambda table: table["values"][0].update(color="#000000"))),
    ("is not the table", of_box("color", "#00ff00")),
    ("is not that of labels of its volume", at_byte("-label.nii", 78, 77)),
    ("is not that of labels of its volume", at_byte("-label.nii", 68, 1)),
    ("has not the size", at_byte("vol000.nii", 42, 11)),
    ("no header as exports have it", at_byte("vol000.nii", 344, 0)),
    ("The two transforms of", at_byte("vol000.nii", 283, 0)),
    ("no label has", at_byte("-label.nii", -1, 9)),
    ("do not explain", said("cases/0/series/0/overlaps/0/voxelsPaintedOver", 3)),
]
DICOM: list[tuple[str, Alter]] = [
    ("are not those of its file", said("cases/0/series/0/overlaps/0/voxelsShared", 3)),
    ("which no label has", said(f"{LABELS}/0/segment", 9)),
    ("are not these labels", of_bytes("-label.dcm", b"cuboid", b"cubuid")),
    ("is not the table", of_json("-label.json", lambda table: table["values"][0].update(segment=9))),
    ("voxels instead of", at_byte("-label.dcm", -9, 0x80)),
    ("has not the size", at_byte("-label.dcm", -1, 0x80)),
    ("refer to the files", dropped("vol000/00005.dcm")),
    (
        "holds a file twice",
        lambda files, manifest: files.update({named(files, "/00002.dcm"): files[named(files, "/00001.dcm")]}),
    ),
    ("holds a file twice", lambda files, manifest: files.update({named(files, "/00002.dcm"): b"nothing"})),
]
FORMATS: dict[str, tuple[dict[str, Any], list[tuple[str, Alter]]]] = {
    "isolated": ({"labelPackType": "isolated"}, EVERYWHERE + ISOLATED),
    "combined": ({"labelPackType": "combined"}, EVERYWHERE + OVERLAPPING + COMBINED),
    "nrrd": ({"format": "nrrd"}, EVERYWHERE + OVERLAPPING + NRRD),
    "nifti": ({"format": "nifti"}, EVERYWHERE + OVERLAPPING + NIFTI),
    "dicom-seg": ({"format": "dicom-seg"}, EVERYWHERE + OVERLAPPING + DICOM),
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_altered_is_told(world: World, tmp_path: Path, name: str) -> None:
    options, alterations = FORMATS[name]
    one = np.ones((1, 2, 2), bool)
    labels: list[dict[str, Any]] = [
        box_label(world, one, [0, 0, 0], "a", color="#ff0000"),
        box_label(world, one, [1, 1, 0], "b"),
        voxel_label(None, [0, 0, 0], [1, 1, 1]),
        {"type": "cuboid", "name": "cuboid ", "data": {"min": [12, 12, 12], "max": [20, 20, 20]}},
        {"type": "point", "data": {"location": [1, 1, 1]}},
    ]
    case = phantom_case(world, tmp_path, labels)
    world.series("1.2.3.4")
    without = world.case("1.2.3.4").case_id
    found = files_of(exported(world, [case, without], rasterizeShapes=True, **options))
    assert verify(write(tmp_path / "same", altered(found, "tgz", lambda files, manifest: None))) == []
    silent = []
    for number, (says, alter) in enumerate(alterations):
        problems = verify(write(tmp_path / "altered", altered(found, "tgz", alter)))
        if not any(says in problem for problem in problems):
            silent.append((number, says, problems))
    assert silent == []


def test_names_have_one_value_in_an_archive(world: World, tmp_path: Path) -> None:
    Project.objects.update(label_values={"a": 300, "b": 7})
    one = np.ones((1, 2, 2), bool)
    labels = [box_label(world, one, [0, 0, 0], "a"), box_label(world, one, [4, 4, 0], "b")]
    cases: list[Any] = [phantom_case(world, tmp_path, labels) for _ in range(2)]
    cases.append(Wanted(cases[0], 0))
    for options in ({"labelPackType": "isolated"}, {"format": "nrrd"}, {"format": "dicom-seg"}):
        data = exported(world, cases, labelValues="project", **options)
        assert verify(write(tmp_path / "good", data)) == []
        alter = said("cases/1/series/0/labels/0/value", 301)
        problems = verify(write(tmp_path / "bad", altered(files_of(data), "tgz", alter)))
        assert any("that of another label with its name 300" in problem for problem in problems), problems
