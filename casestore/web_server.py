"""Gunicorn's settings that its command line cannot say."""

from __future__ import annotations

from gunicorn.http import message, parser

# A filter travels in the request line. Gunicorn knows 8190 bytes at most, or no limit at all, by which anybody could
# fill its memory.
message.MAX_REQUEST_LINE = 65_536
limit_request_line = message.MAX_REQUEST_LINE
# Who sends a body that is refused hears why only if it is read meanwhile; nginx makes a 502 of it otherwise. Gunicorn
# reads 64 kB. This is every body but an upload, and of an upload enough for its sender to see the answer; a thread is
# kept by it for 5 seconds at most.
parser._DRAIN_MAX_BYTES = 32 * 2**20
