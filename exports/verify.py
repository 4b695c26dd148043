"""Checks every promise that an archive's manifest makes: `python -m exports.verify FILE…`. No Django, no database.

The manifest against the files and against each case's `data.json`; files, their sizes, SHA-256 and headers; one
geometry for a volume and its labels; for each label its voxels, where they are, and what overlaps; and that there is
nothing else. The archive is read once, a chunk at a time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from exports.verification import checks
from exports.verification.container import kind_of, members
from exports.verification.reading import MANIFEST, Found, look

MAX_PROBLEMS = 1000


def verify(path: Path) -> list[str]:
    """What is wrong with the archive, a sentence for each, the first thousand; empty where nothing is."""
    found: dict[str, Found] = {}
    told: list[str] = []
    try:
        for name, written, file in members(path, told.append):
            if name in found:
                return [f"{name} is there twice."]
            found[name] = look(name, written, file, found)
    except Exception as error:  # It may be any file, made to break whatever reads it.
        return [*told, f"The archive cannot be read: {type(error).__name__}: {error}"][:MAX_PROBLEMS]
    manifest = found.get(MANIFEST)
    if manifest is None:
        return [*told, "There is no manifest.json."][:MAX_PROBLEMS]
    try:
        for problem in checks.problems(checks.Archive(manifest.document, found, kind_of(path))):
            told.append(problem)
            if len(told) >= MAX_PROBLEMS:
                break
    except Exception as error:  # It may be any JSON.
        told.append(f"manifest.json is not that of an export: {type(error).__name__}.")
    return told[:MAX_PROBLEMS]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m exports.verify", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    failed = False
    for path in parser.parse_args(arguments).files:
        problems = verify(path)
        failed = failed or bool(problems)
        sys.stdout.write("".join(f"{path}: {problem}\n" for problem in problems) or f"{path}: as promised\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
