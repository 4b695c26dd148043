"""Which parser reads, which renderer answers."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class LenientNegotiation(DefaultContentNegotiation):
    """Where nothing acceptable is left, JSON: a download asked for by its own media type still has JSON errors.

    A body that does not say what it is, as in a published example, is what the endpoint takes.
    """

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return super().select_parser(request, parsers) if request.content_type else parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type
