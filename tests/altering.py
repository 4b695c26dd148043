"""Archives that were altered so that their containers, sizes and digests still are as they should be."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cases.deflate import piece_of
from casestore.tasks.services import Progress
from exports.archives import archive_writer
from exports.packing import pack
from exports.serializers import DEFAULTS
from exports.services import Wanted, request_export
from tests.packing import content
from tests.world import World

Files = dict[str, bytes]
Alter = Callable[[Files, Any], object]


class Sink(io.BytesIO):
    @property
    def position(self) -> int:
        return self.tell()

    def read_at(self, place: int, size: int) -> bytes:
        return self.getvalue()[place : place + size]


def exported(world: World, cases: list[str | Wanted], **options: Any) -> bytes:
    """An archive as the API makes it."""
    wanted = [case if isinstance(case, Wanted) else Wanted(case) for case in cases]
    name = options.get("format", "mhd")
    options = {"compressionFormat": "tgz", "format": name, **DEFAULTS[name], **options, "strict": False}
    task = request_export(user=world.user("everything"), wanted=wanted, options=options)
    return content(pack(task, Progress(task)))


def written(found: Files, kind: str, times: dict[str, datetime]) -> bytes:
    sink = Sink()
    writer = archive_writer(sink, kind)
    for name, data in found.items():
        writer.add(name, times.get(name, next(iter(times.values()))), piece_of(data))
    writer.finish()
    return sink.getvalue()


def times_of(manifest: Any) -> dict[str, datetime]:
    packed = [case for case in manifest["cases"] if case["status"] == "packed"]
    moments = {case["folder"]: datetime.fromisoformat(case["revisionDate"]) for case in packed}
    times = {file["name"]: moments[case["folder"]] for case in packed for file in case["files"]}
    return times | {"manifest.json": max(moments.values())}


def altered(found: Files, kind: str, alter: Alter) -> bytes:
    """The archive of these files after `alter`, which is given them and the manifest; digests and sizes follow."""
    files, manifest = dict(found), json.loads(found["manifest.json"])
    times = times_of(manifest)
    alter(files, manifest)
    for case in manifest["cases"]:
        for file in case.get("files", []):
            if (data := files.get(file["name"])) is not None:
                file |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del files["manifest.json"]
    files["manifest.json"] = json.dumps(manifest).encode()
    return written(files, kind, times)


def of_json(name: str, change: Callable[[Any], object]) -> Alter:
    """Changes what the first JSON file of this name says."""

    def alter(files: Files, manifest: Any) -> None:
        path = named(files, name)
        document = json.loads(files[path])
        change(document)
        files[path] = json.dumps(document).encode()

    return alter


def of_bytes(name: str, old: bytes, new: bytes) -> Alter:
    """Replaces, once, in the first file of this name."""

    def alter(files: Files, manifest: Any) -> None:
        path = named(files, name)
        assert old in files[path], (path, old)
        files[path] = files[path].replace(old, new, 1)

    return alter


def at_byte(name: str, place: int, value: int) -> Alter:
    def alter(files: Files, manifest: Any) -> None:
        path = named(files, name)
        data = bytearray(files[path])
        assert data[place] != value
        data[place] = value
        files[path] = bytes(data)

    return alter


def named(files: Files, name: str) -> str:
    return next(path for path in files if path.endswith(name))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
