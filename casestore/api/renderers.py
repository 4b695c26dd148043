"""How answers are written: JSON, JSON lines, pages."""

from __future__ import annotations

from typing import Any

from rest_framework import renderers

from casestore.json_text import dump


class JSONRenderer(renderers.JSONRenderer):
    """UTF-8 without escapes, camelCase as the serializers name it, dates in ISO 8601 with milliseconds."""

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        return dump(data, indent=bool(self.get_indent(accepted_media_type or "", renderer_context or {})))


class NDJSONRenderer(renderers.BaseRenderer):
    """One JSON document a line, as many as there are: views stream it themselves."""

    media_type = "application/x-ndjson"
    format = "ndjson"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return dump(data) + b"\n"


class BrowsableAPIRenderer(renderers.BrowsableAPIRenderer):
    """DRF's pages for developers. Forms post the raw JSON body, the way any other client does."""

    def get_rendered_html_form(self, data: Any, view: Any, method: str, request: Any) -> Any:
        # An HTML form cannot express nested bodies; the raw form below it can.
        if method in {"DELETE", "OPTIONS"}:
            return super().get_rendered_html_form(data, view, method, request)
        return None
