"""The body of a search: read as the parameters in an address are, so that both say the same."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from casestore.api.parsers import JSONParser, read_bounded
from casestore.search.values import MAX_TEXT, SearchError, parse_json


class SearchParser(JSONParser):
    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        data = read_bounded(stream, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        # No character takes more bytes.
        if len(data) > 4 * MAX_TEXT:
            raise SearchError(f"The body is longer than {MAX_TEXT} characters.")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise SearchError("The body is not valid UTF-8.") from None
        return parse_json(text, "The body")
