"""Exports end to end: POST, a real Celery worker, download; read back by ITK and compared with ITK's own DICOM reader."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from cases.demo.phantom import write_phantom
from cases.image_numbers import PartialVolume
from cases.models import Series, SeriesImage
from tests.dicom import SERIES_UID, image, write_series
from tests.test_import import run, wait
from tests.world import PROJECT, World, make_world, revision, voxel_label

OPTIONS = [
    {"labelPackType": "isolated", "compressionFormat": "tgz", "mhdLineEnding": "lf"},
    {"labelPackType": "combined", "compressionFormat": "zip", "mhdLineEnding": "crlf"},
    {"labelPackType": "isolated", "compressionFormat": "zip", "mhdLineEnding": "crlf"},
    {"labelPackType": "combined", "compressionFormat": "tgz", "mhdLineEnding": "lf"},
]


@dataclass
class Exported:
    """An unpacked archive."""

    folder: Path
    task: dict[str, Any]
    response: Any

    def image(self, name: str) -> sitk.Image:
        return sitk.ReadImage(str(self.folder / f"{name}.mhd"))

    def array(self, name: str) -> np.ndarray:
        return sitk.GetArrayFromImage(self.image(name))

    def names(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_bytes())


def export(world: World, target: Path, cases: Sequence[Any], by: str = "everything", **options: str) -> Exported:
    client = world.client(by)
    answer = client.post("/api/cases/export-mhd", {"caseIds": list(cases), **options})
    assert answer.status_code == 201, answer.content
    task = wait(client, answer.json()["taskId"])
    assert task["status"] == "finished", task
    download = client.get(f"/api/tasks/{task['taskId']}/download")
    assert download.status_code == 200
    file = io.BytesIO(b"".join(download.streaming_content))
    folder = target / task["taskId"]
    if options.get("compressionFormat") == "zip":
        assert zipfile.ZipFile(file).testzip() is None
        zipfile.ZipFile(file).extractall(folder)
    else:
        with tarfile.open(fileobj=file, mode="r:gz") as archive:
            archive.extractall(folder)
    return Exported(folder, task, download)


def usable_series(folder: Path) -> list[str]:
    """What the data set itself suggests to import as one volume, with three slices or more."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return [
        series["name"]
        for series in manifest["series"]
        if series["facts"]["numberOfSlices"] >= 3 and series["suggestedHandling"].startswith("import as one volume")
    ]


def volumes(first: int, last: int) -> list[PartialVolume]:
    """Forwards, backwards, with a step, a sub-range, and one image."""
    odd_end = first + 2 * ((last - first) // 2)
    return [
        PartialVolume(first, last, 1),
        PartialVolume(last, first, -1),
        PartialVolume(first, odd_end, 2),
        PartialVolume(odd_end, first, -2),
        PartialVolume(first + 1, last - 1, 1),
        PartialVolume(last, last, 1),
    ]


def descriptor(volume: PartialVolume) -> dict[str, int]:
    return {"start": volume.start, "end": volume.end, "delta": volume.delta}


def itk_slices(folder: Path) -> dict[int, sitk.Image]:
    """What ITK reads from each DICOM file, by Instance Number: rescaled voxels, position, axes, spacing."""
    found = {}
    for path in folder.iterdir():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(path)])
        found[int(dcmread(path, stop_before_pixels=True).InstanceNumber)] = reader.Execute()
    return found


def make_case(world: World, uid: str, volume: PartialVolume, labels: list[dict[str, Any]]) -> str:
    client = world.client("everything")
    series = [{"seriesUid": uid, "partialVolumeDescriptor": descriptor(volume)}]
    answer = client.post("/api/cases", {"projectId": PROJECT, "series": series})
    assert answer.status_code == 201, answer.content
    case_id: str = answer.json()["caseId"]
    answer = client.post(f"/api/cases/{case_id}/revision", revision([{**series[0], "labels": labels}]))
    assert answer.status_code == 201, answer.content
    return case_id


def test_voxels_and_geometry_are_what_itk_reads(worker: Path, tmp_path: Path, dicom_folder: Path) -> None:
    world = make_world()
    names = usable_series(dicom_folder)
    assert len(names) >= 4
    for name in names:
        (uid,) = run(dicom_folder / name, spool=tmp_path).series
        slices = itk_slices(dicom_folder / name)
        sheared = any("sheared" in warning for warning in Series.objects.get(series_uid=uid).geometry["warnings"])
        plans = volumes(min(slices), max(slices))
        labels = [label_at_known_places(world, slices, volume) for volume in plans]
        cases = [make_case(world, uid, volume, [label]) for volume, (label, _) in zip(plans, labels, strict=True)]
        for options in OPTIONS:
            exported = export(world, tmp_path, cases, **options)
            for case_id, volume, (_, places) in zip(cases, plans, labels, strict=True):
                compare_volume(exported.image(f"{case_id}/vol000"), slices, volume, sheared)
                mask = "vol000-label000" if options["labelPackType"] == "isolated" else "vol000-label"
                compare_mask(exported, f"{case_id}/vol000", f"{case_id}/{mask}", places, sheared)
                header = (exported.folder / case_id / "vol000.mhd").read_bytes()
                assert (b"\r\n" in header) == (options["mhdLineEnding"] == "crlf")
                assert header.count(b"\n") == header.count(b"\r\n") or options["mhdLineEnding"] == "lf"


def compare_volume(image: sitk.Image, slices: dict[int, sitk.Image], volume: PartialVolume, sheared: bool) -> None:
    wanted = [slices[number] for number in volume.numbers()]
    array = sitk.GetArrayFromImage(image)
    assert np.array_equal(array, np.concatenate([sitk.GetArrayFromImage(s) for s in wanted]))
    first = wanted[0]
    assert image.GetSpacing()[:2] == pytest.approx(first.GetSpacing()[:2], abs=1e-9)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    assert np.allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    assert np.allclose(direction[:, :2], np.array(first.GetDirection()).reshape(3, 3)[:, :2], atol=1e-5)
    assert image.GetOrigin() == pytest.approx(first.GetOrigin(), abs=1e-9)
    for k, slice_ in enumerate(wanted):
        here = np.array(image.TransformIndexToPhysicalPoint((0, 0, k)))
        deviation = here - slice_.GetOrigin()
        if sheared:
            deviation = deviation @ direction[:, 2]
        assert np.abs(deviation).max() < 0.01


def label_at_known_places(
    world: World, slices: dict[int, sitk.Image], volume: PartialVolume
) -> tuple[dict[str, Any], list[tuple[float, float, float]]]:
    """A label on voxels whose places in the scanner, in mm, ITK names from the DICOM files."""
    wanted = [slices[number] for number in volume.numbers()]
    width, height, _ = wanted[0].GetSize()
    random = np.random.default_rng(len(wanted))
    mask = random.random((len(wanted), 3, 5)) < 0.3
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    origin = [width - 5, height - 3, 0]
    places = [
        wanted[z].TransformIndexToPhysicalPoint((int(x) + origin[0], int(y) + origin[1], 0))
        for z, y, x in np.argwhere(mask)
    ]
    sha1 = world.blob(mask)
    return voxel_label(sha1, origin, [5, 3, len(wanted)]), places


def compare_mask(
    exported: Exported, volume: str, mask: str, places: list[tuple[float, float, float]], sheared: bool
) -> None:
    """The mask's voxels lie at exactly these places; its header is the volume's, to the letter."""
    image = exported.image(mask)
    found = [
        image.TransformIndexToPhysicalPoint([int(i) for i in zyx[::-1]]) for zyx in np.argwhere(exported.array(mask))
    ]
    assert len(found) == len(places)
    if not sheared:
        assert np.allclose(sorted(found), sorted(places), atol=0.01) or np.allclose(found, places, atol=0.01)
    skip = (b"ElementType", b"ElementDataFile", b"ElementNumberOfChannels")
    lines = [
        [line for line in (exported.folder / f"{name}.mhd").read_bytes().splitlines() if not line.startswith(skip)]
        for name in (volume, mask)
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("kind", ["feet_first", "oblique"])
@pytest.mark.parametrize("backwards", [False, True])
def test_labels_of_every_shape(worker: Path, tmp_path: Path, kind: str, backwards: bool) -> None:
    """Boxes whose voxel count is no multiple of 8, that touch every face, that overlap; later over earlier."""
    world = make_world()
    phantom = write_phantom(tmp_path / "in", kind=kind, size=(13, 11, 9))
    run(tmp_path / "in", spool=tmp_path)
    volume = PartialVolume(8, 2, -1) if backwards else PartialVolume(2, 8, 1)
    extent = np.array([13, 11, 7])
    boxes = [((0, 0, 0), (13, 11, 7)), ((0, 0, 0), (3, 1, 1)), ((10, 8, 4), (3, 3, 3)), ((5, 5, 2), (1, 1, 5))]
    boxes += [((12, 0, 6), (1, 11, 1)), ((2, 3, 1), (7, 5, 3)), ((0, 10, 0), (13, 1, 7))]
    random = np.random.default_rng(4)
    labels: list[dict[str, Any]] = [{"type": "point", "data": {"location": [1, 1, 1]}}]
    masks: dict[int, np.ndarray] = {}
    for origin, size in boxes:
        assert (np.array(origin) + size <= extent).all()
        box = random.random(size[::-1]) < 0.5
        full = np.zeros(extent[::-1], bool)
        x, y, z = origin
        full[z : z + size[2], y : y + size[1], x : x + size[0]] = box
        masks[len(labels)] = full
        labels.append(voxel_label(world.blob(box), list(origin), list(size)))
    masks[len(labels)] = np.zeros(extent[::-1], bool)
    labels.append(voxel_label(None, [0, 0, 0], [0, 0, 0]))
    case_id = make_case(world, phantom.series_uid, volume, labels)
    isolated = export(world, tmp_path, [case_id], **OPTIONS[0])
    expected = {"manifest.json", f"{case_id}/data.json", f"{case_id}/vol000.mhd", f"{case_id}/vol000.raw"}
    expected |= {f"{case_id}/vol000-label{i:03d}.{ending}" for i in masks for ending in ("mhd", "raw")}
    assert isolated.names() == expected
    combined = np.zeros(extent[::-1], np.uint8)
    for index, mask in masks.items():
        assert np.array_equal(isolated.array(f"{case_id}/vol000-label{index:03d}"), mask), index
        combined[mask] = index + 1
    assert np.array_equal(export(world, tmp_path, [case_id], **OPTIONS[1]).array(f"{case_id}/vol000-label"), combined)


def test_organs_of_the_phantom_lie_on_its_organs(worker: Path, tmp_path: Path) -> None:
    """Through the scanner's millimetres: each voxel of a mask shows the organ's own value in the volume."""
    world = make_world()
    phantom = write_phantom(tmp_path / "in", kind="oblique", size=(48, 48, 20))
    run(tmp_path / "in", spool=tmp_path)
    forwards, backwards = PartialVolume(1, 20, 1), PartialVolume(19, 3, -2)
    organ = phantom.organs["right ventricle"]
    cases = []
    for volume in (forwards, backwards):
        mask = organ[[number - 1 for number in volume.numbers()]]
        size = list(mask.shape[::-1])
        cases.append(make_case(world, phantom.series_uid, volume, [voxel_label(world.blob(mask), [0, 0, 0], size)]))
    exported = export(world, tmp_path, cases)
    whole = exported.image(f"{cases[0]}/vol000-label000")
    part = exported.image(f"{cases[1]}/vol000-label000")
    for index in np.argwhere(sitk.GetArrayFromImage(part)):
        place = part.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        assert whole[whole.TransformPhysicalPointToIndex(place)] == 1
    assert sitk.GetArrayFromImage(whole).sum() == organ.sum()


def test_archive_layout(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "a", range(1, 4), ImagePositionPatient=None)
    write_series(tmp_path / "b", [1, 2, 4], SeriesInstanceUID=f"{SERIES_UID}.2")
    run(tmp_path / "a", tmp_path / "b", spool=tmp_path)
    case = world.case(SERIES_UID)
    entries = [{"seriesUid": SERIES_UID}, {"seriesUid": f"{SERIES_UID}.2"}]
    client = world.client("everything")
    body = revision(entries, attributes={"größe": 1}, description="Zweite")
    assert client.post(f"/api/cases/{case.case_id}/revision", body).status_code == 201
    other = world.case(SERIES_UID).case_id
    exported = export(
        world,
        tmp_path,
        [
            {"caseId": case.case_id, "revisionIndex": -2},
            case.case_id,
            {"caseId": case.case_id, "revisionIndex": 1},
            other,
        ],
    )
    first, second = f"{case.case_id}-rev0", f"{case.case_id}-rev1"
    pair = {"vol000.mhd", "vol000.raw"}
    assert exported.names() == {
        "manifest.json",
        *(f"{folder}/{name}" for folder in (first, second, other) for name in (*pair, "data.json")),
        *(f"{second}/{name}" for name in ("vol001.mhd", "vol001.raw")),
    }
    shown = client.get(f"/api/cases/{case.case_id}").json()
    for folder, index in ((first, 0), (second, 1)):
        assert exported.json(f"{folder}/data.json") == {
            "caseId": case.case_id,
            "createdAt": shown["createdAt"],
            # As that revision left the case.
            "updatedAt": shown["revisions"][index]["date"],
            "projectId": PROJECT,
            "revision": shown["revisions"][index],
        }
    manifest = exported.json("manifest.json")["cases"]
    assert [entry["folder"] for entry in manifest] == [first, second, other]
    assert any("plain stack" in warning for warning in manifest[0]["series"][0]["warnings"])
    # The part that is exported has no gap, the series has.
    assert manifest[1]["series"][1]["warnings"] == []
    assert any("missing" in warning for warning in manifest[1]["series"][1]["seriesWarnings"])
    assert exported.task["finished"] == exported.task["total"] == 3
    assert "3 with warnings" in exported.task["finishedMessage"]
    assert "Secret" not in str(exported.task)
    assert exported.response["Content-Type"] == "application/gzip"
    assert exported.response["Content-Disposition"].endswith('.tar.gz"')
    for name in exported.names():
        assert b"Secret" not in (exported.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("values", "changes", "element", "expected"),
    [
        (np.array([[0, 255]], np.uint8), {}, "MET_SHORT", [0, 255]),
        (np.array([[-5, 7]], np.int8), {}, "MET_SHORT", [-5, 7]),
        (np.array([[0, 65535]], np.uint16), {}, "MET_USHORT", [0, 65535]),
        (np.array([[0, 4095]], np.uint16), {"RescaleSlope": 1, "RescaleIntercept": -1024}, "MET_SHORT", [-1024, 3071]),
        (np.array([[0, 65535]], np.uint16), {"RescaleSlope": 2, "RescaleIntercept": -1}, "MET_INT", [-1, 131069]),
        (np.array([[1, 3]], np.uint16), {"RescaleSlope": 0.5, "RescaleIntercept": 0}, "MET_FLOAT", [0.5, 1.5]),
        (np.array([[2, 4]], np.uint16), {"RescaleSlope": 0.5, "RescaleIntercept": 0}, "MET_SHORT", [1, 2]),
        (np.array([[-(2**31), 2**31 - 1]], np.int32), {}, "MET_INT", [-(2**31), 2**31 - 1]),
        (np.array([[1, 2]], np.uint16), {"PhotometricInterpretation": "MONOCHROME1"}, "MET_SHORT", [1, 2]),
    ],
)
def test_element_types(
    worker: Path, tmp_path: Path, values: np.ndarray, changes: dict[str, Any], element: str, expected: list[float]
) -> None:
    world = make_world()
    write_series(tmp_path / "in", [1], pixels=values, **changes)
    run(tmp_path / "in", spool=tmp_path)
    case = world.case(SERIES_UID).case_id
    exported = export(world, tmp_path, [case])
    assert f"ElementType = {element}\n" in (exported.folder / case / "vol000.mhd").read_text()
    assert exported.array(f"{case}/vol000").ravel().tolist() == expected


def test_rescale_differs_from_image_to_image(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    for n in (1, 2, 3):
        write_series(tmp_path / "in", [n], RescaleSlope=n, RescaleIntercept=-n)
    run(tmp_path / "in", spool=tmp_path)
    case = world.case(SERIES_UID).case_id
    got = export(world, tmp_path, [case]).array(f"{case}/vol000")
    expected = [image(n).pixel_array.astype(int) * n - n for n in (3, 2, 1)]
    assert np.array_equal(got, np.stack(expected))


def test_colour(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    values = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    write_series(tmp_path / "in", [1, 2], pixels=values)
    run(tmp_path / "in", spool=tmp_path)
    mask = np.ones((2, 4, 6), bool)
    case = make_case(world, SERIES_UID, PartialVolume(1, 2, 1), [voxel_label(world.blob(mask), [0, 0, 0], [6, 4, 2])])
    exported = export(world, tmp_path, [case])
    assert exported.image(f"{case}/vol000").GetNumberOfComponentsPerPixel() == 3
    assert np.array_equal(exported.array(f"{case}/vol000"), np.stack([values, values]))
    assert exported.array(f"{case}/vol000-label000").tolist() == mask.astype(int).tolist()


def test_more_labels_than_a_byte_can_count(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    write_series(tmp_path / "in", [1])
    run(tmp_path / "in", spool=tmp_path)
    sha1 = world.blob(np.ones((1, 1, 1), bool))
    labels = [voxel_label(sha1, [i % 6, i // 6 % 4, 0], [1, 1, 1]) for i in range(300)]
    case = make_case(world, SERIES_UID, PartialVolume(1, 1, 1), labels)
    got = export(world, tmp_path, [case], labelPackType="combined").array(f"{case}/vol000-label")
    expected = np.zeros((1, 4, 6), int)
    for i in range(300):
        expected[0, i // 6 % 4, i % 6] = i + 1
    assert np.array_equal(got, expected)


def test_the_same_export_gives_the_same_bytes(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    phantom = write_phantom(tmp_path / "in", size=(24, 24, 8))
    run(tmp_path / "in", spool=tmp_path)
    mask = phantom.organs["left ventricle"]
    label = voxel_label(world.blob(mask), [0, 0, 0], list(mask.shape[::-1]))
    case = make_case(world, phantom.series_uid, PartialVolume(1, 8, 1), [label])
    client = world.client("everything")
    for kind in ("tgz", "zip"):
        digests = set()
        for _ in range(2):
            answer = client.post("/api/cases/export-mhd", {"caseIds": [case], "compressionFormat": kind})
            task = wait(client, answer.json()["taskId"])
            download = client.get(f"/api/tasks/{task['taskId']}/download")
            digests.add(hashlib.sha256(b"".join(download.streaming_content)).hexdigest())
        assert len(digests) == 1


def test_a_missing_file_ends_in_an_error_that_says_so(worker: Path, tmp_path: Path) -> None:
    world = make_world()
    world.series()
    case = world.case()
    client = world.client("everything")
    answer = client.post("/api/cases/export-mhd", {"caseIds": [case.case_id]})
    task = wait(client, answer.json()["taskId"])
    assert (task["status"], task["errorMessage"]) == (
        "error",
        f"No case could be exported. {case.case_id}: Image 1 of series 1.2.3 is not stored here.",
    )
    assert client.get(f"/api/tasks/{task['taskId']}/download").status_code == 409
    assert SeriesImage.objects.count() == 0
