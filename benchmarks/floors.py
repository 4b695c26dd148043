"""What the measurements stand beside: the same bytes through Python's own archives, the disk alone, and SimpleITK."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.data import HEIGHT, WIDTH


def tar_gzip(parts: list[np.ndarray], path: Path) -> float:
    """Seconds of Python's tarfile with gzip level 6."""
    start = time.perf_counter()
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        for index, part in enumerate(parts):
            info = tarfile.TarInfo(f"{index}.raw")
            info.size = part.nbytes
            archive.addfile(info, io.BytesIO(memoryview(part).cast("B")))
    return time.perf_counter() - start


def zipped(parts: list[np.ndarray], path: Path) -> float:
    """Seconds of Python's zipfile with level 6."""
    start = time.perf_counter()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for index, part in enumerate(parts):
            archive.writestr(f"{index}.raw", memoryview(part).cast("B"))
    return time.perf_counter() - start


def igzip_tar(parts: list[np.ndarray], path: Path) -> float:
    """Seconds of Python's tarfile through isal's igzip, level 3."""
    from isal import igzip

    start = time.perf_counter()
    with (
        path.open("wb") as file,
        igzip.IGzipFile(fileobj=file, mode="wb", compresslevel=3) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", bufsize=2**20) as archive,
    ):
        for index, part in enumerate(parts):
            info = tarfile.TarInfo(f"{index}.raw")
            info.size = part.nbytes
            archive.addfile(info, io.BytesIO(memoryview(part).cast("B")))
    return time.perf_counter() - start


def write_and_hash(data: bytes, path: Path) -> float:
    """Seconds to write these bytes, see them on the disk, and compute their SHA-256."""
    start = time.perf_counter()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    hashlib.sha256(data).hexdigest()
    return time.perf_counter() - start


def bare_import(folder: Path, target: Path) -> float:
    """Seconds of what no import here can do without, in as many threads as there are processors.

    Each file is read, hashed, copied to the disk; its voxels are hashed and compressed as for a volume. Nothing is
    parsed, checked, put into a database or into order.
    """
    from cases.slices import compress_slice

    target.mkdir(exist_ok=True)

    def one(path: Path) -> None:
        data = path.read_bytes()
        hashlib.sha256(data).digest()
        voxels = np.frombuffer(data[-2 * WIDTH * HEIGHT :], "<i2").reshape(HEIGHT, WIDTH)
        hashlib.sha256(voxels.data).digest()
        with (target / path.name).open("wb") as copy, (target / f"{path.name}.piece").open("wb") as piece:
            piece.write(compress_slice(voxels).piece)
            copy.write(data)
            copy.flush()
            os.fsync(copy.fileno())

    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, sorted(folder.iterdir())))
    return time.perf_counter() - start


def simple_itk(folder: Path, target: Path) -> float:
    """Seconds of SimpleITK to read a series and write it as compressed MetaImage."""
    import SimpleITK

    start = time.perf_counter()
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    SimpleITK.WriteImage(reader.Execute(), str(target), useCompression=True)
    return time.perf_counter() - start
