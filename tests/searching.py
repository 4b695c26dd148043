"""Asking for cases as clients do."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.world import World


def get(world: World, role: str, path: str = "/api/cases", **parameters: Any) -> Any:
    words = {k: v if isinstance(v, str) else json.dumps(v) for k, v in parameters.items()}
    return world.client(role).get(f"{path}?{urlencode(words)}")


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [case["caseId"] for case in answer.json()]


def following(answer: Any) -> str | None:
    links = re.findall(r'<([^>]*)>; rel="(\w+)"', answer.get("Link", ""))
    return next((address for address, relation in links if relation == "next"), None)


def walk(world: World, role: str, path: str = "/api/cases", **parameters: Any) -> list[str]:
    """All ids behind a cursor, page by page."""
    answer = get(world, role, path, cursor="", **parameters)
    found = ids(answer)
    while (address := following(answer)) is not None:
        parts = urlsplit(address)
        answer = world.client(role).get(f"{parts.path}?{parts.query}")
        found += ids(answer)
    return found
