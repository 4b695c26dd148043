"""A whole dump, collection by collection, in the order in which they refer to each other."""

from __future__ import annotations

from pathlib import Path

from casestore.dumps.files import READERS
from mylists.circus.cases import CaseImporter
from mylists.circus.folders import import_blobs, import_dicom_folder
from mylists.circus.importing import Progress, files_of, import_files
from mylists.circus.installation import GroupImporter, ProjectImporter, TokenImporter, UserImporter
from mylists.circus.lists import MyListImporter
from mylists.circus.report import Report
from mylists.circus.series import SeriesImporter

COLLECTIONS = ("projects", "groups", "users", "series", "clinicalCases", "myLists", "tokens")
FOLDERS = ("blobs", "dicom")


def is_dump(folder: Path) -> bool:
    return any(files_of(folder, name) for name in COLLECTIONS) or any((folder / name).is_dir() for name in FOLDERS)


def import_dump(folder: Path, report: Report, on_progress: Progress = lambda name, done, total: None) -> None:
    """Imports what is there of a dump. Importing it again changes nothing.

    Each record is in by itself or not at all; the report says which are not, and why. Raises OSError, and imports
    nothing, where a file cannot be read.
    """
    for name in COLLECTIONS:
        for path in files_of(folder, name):
            path.open("rb").close()
    groups = GroupImporter(report)
    users = UserImporter(report, groups.groups)
    if (folder / "blobs").is_dir():
        import_blobs(folder / "blobs", report, on_progress)
    for name, importer in (
        ("projects", ProjectImporter(report)),
        ("groups", groups),
        ("users", users),
        ("series", SeriesImporter(report)),
    ):
        import_files(files_of(folder, name), importer, report, on_progress)
    if (folder / "dicom").is_dir():
        import_dicom_folder(folder / "dicom", report, on_progress)
    import_files(files_of(folder, "clinicalCases"), CaseImporter(report), report, on_progress)
    lists = MyListImporter(report, users.lists, groups.groups)
    import_files(files_of(folder, "myLists"), lists, report, on_progress)
    lists.put_empty()
    import_files(files_of(folder, "tokens"), TokenImporter(report), report, on_progress)
    known = {path.name for name in COLLECTIONS for path in files_of(folder, name)}
    report.unread = sorted(path.name for path in folder.iterdir() if path.suffix in READERS and path.name not in known)
