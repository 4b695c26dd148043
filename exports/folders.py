"""The folders of an archive. Plain Python, no Django."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from urllib.parse import quote


def folders(entries: Sequence[tuple[str, int]], repeated: AbstractSet[str]) -> list[str]:
    """`<caseId>`, or `<caseId>-rev<index>` for a case that the request names more than once (`repeated`).

    All different, also where small and capital letters are not told apart.
    """
    found: dict[str, str] = {}
    for case_id, index in entries:
        folder = folder_name(case_id) + (f"-rev{index}" if case_id in repeated else "")
        while folder.casefold() in found:
            folder += "_"
        found[folder.casefold()] = folder
    return list(found.values())


def folder_name(case_id: str) -> str:
    """The id itself, except for characters that mean something in a path: imported ids are any string."""
    name = quote(case_id, safe=" !#$&'()+,;=@[]{}~")
    return name.replace(".", "%2E") if not name.strip(". ") or name == "manifest.json" else name
