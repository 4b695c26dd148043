"""Colours of labels. Plain Python, no Django."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

COLOR = re.compile(r"#[0-9a-fA-F]{6}\Z")


def color_of(data: Mapping[str, Any]) -> str | None:
    """`#rrggbb` of a label's data; None where they have none, or, imported from elsewhere, something that is none."""
    color = data.get("color")
    return color if isinstance(color, str) and COLOR.match(color) else None
