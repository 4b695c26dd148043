"""What JPEG 2000 codestreams claim (ISO/IEC 15444-1 A.5.1), before a decoder takes memory for it. Plain Python."""

from __future__ import annotations

import struct

from cases.dicom.errors import DicomRefused
from cases.dicom.source import Source

SYNTAXES = {f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 92, 93, 201, 202, 203)}
# SOC, and SIZ, which follows it at once.
START = b"\xff\x4f\xff\x51"
SIZE = struct.Struct(">HH4L")
# Where the codestream is in a JP2 file, which it should not be, boxes come first.
LOOKED_AT = 2**16


def check_codestreams(source: Source, *, width: int, height: int) -> None:
    """Raises DicomRefused where one is of another size: it would decode to that, whatever room it takes."""
    if source.fragments is None or str(source.transfer_syntax) not in SYNTAXES:
        return
    for offset, length in source.fragments:
        source.stream.seek(offset)
        head = source.stream.read(min(length, LOOKED_AT))
        place = head.find(START) + len(START)
        # A fragment may go on with what another one began.
        if place < len(START) or len(head) - place < SIZE.size:
            continue
        _, _, right, bottom, left, top = SIZE.unpack_from(head, place)
        if (right - left, bottom - top) != (width, height):
            raise DicomRefused(
                "undecodable", "One of its images has another size in its pixel data than its header says."
            )
