"""Gunicorn's settings that its command line cannot say."""

from __future__ import annotations

from gunicorn.http import message

# A filter travels in the request line. Gunicorn knows 8190 bytes at most, or no limit at all, by which anybody could
# fill its memory.
message.MAX_REQUEST_LINE = 65_536
limit_request_line = message.MAX_REQUEST_LINE
