"""Deflate streams put together from ready-made pieces (RFC 1951). Plain Python, no Django.

A piece is compressed by itself and ends on a byte (a full flush, which also forgets what came before), so that pieces
can stand behind each other in any order. CRCs are combined arithmetically, never computed from the bytes again.

zlib-ng gives the same bytes for the same input, everywhere; so do pieces made again after a cache was emptied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from zlib_ng import zlib_ng

LEVEL = 3
RAW = -15
# The largest, and with that the fastest.
MEMORY = 9
# Entropy coding alone takes a third of the time; noise, of which most images are full, it compresses nearly as well.
WORTHWHILE = 1.12
# The last block, empty, with which a stream ends.
END = b"\x03\x00"
# Zeros are put together from runs of this many and one shorter run.
RUN = 2**20
ZEROS = memoryview(bytes(RUN))

combine_crc: Callable[[int, int, int], int] = zlib_ng.crc32_combine


def crc32(data: Any, crc: int = 0) -> int:
    value: int = zlib_ng.crc32(data, crc)
    return value


def deflate(data: Any, *, repetitive: bool = True) -> bytes:
    """`data`, C-contiguous, as a piece. Where it is not repetitive no time is spent on looking for repetitions."""
    if not memoryview(data).nbytes:
        return b""
    strategy = zlib_ng.Z_DEFAULT_STRATEGY if repetitive else zlib_ng.Z_HUFFMAN_ONLY
    compressor = zlib_ng.compressobj(LEVEL, zlib_ng.DEFLATED, RAW, MEMORY, strategy)
    compressed: bytes = compressor.compress(data) + compressor.flush(zlib_ng.Z_FULL_FLUSH)
    return compressed


def is_repetitive(sample: Any) -> bool:
    """Whether looking for repetitions makes data like this so much smaller that it is worth three times the time."""
    return len(deflate(sample)) * WORTHWHILE < len(deflate(sample, repetitive=False))


@dataclass(frozen=True, slots=True)
class Deflated:
    """`size` bytes of content whose CRC-32 is `crc`, as `length` compressed bytes, which `read` gives in chunks.

    `plain`: the content itself in chunks, where it is to be had without decompressing.
    """

    size: int
    crc: int
    length: int
    read: Callable[[], Iterable[Any]]
    plain: Callable[[], Iterable[Any]] | None = None


def piece_of(data: Any) -> Deflated:
    compressed = deflate(data)
    return Deflated(memoryview(data).nbytes, crc32(data), len(compressed), lambda: (compressed,))


def measured(size: int) -> Deflated:
    """Content of which nothing but the size is known."""
    return Deflated(size, 0, 0, lambda: ())


def joined(pieces: Sequence[Deflated]) -> Deflated:
    """The pieces as one. Reading it reads them one after another."""
    size = crc = length = 0
    for piece in pieces:
        crc = combine_crc(crc, piece.crc, piece.size)
        size += piece.size
        length += piece.length

    def read() -> Iterator[Any]:
        for piece in pieces:
            yield from piece.read()

    def plain() -> Iterator[Any]:
        for piece in pieces:
            yield from inflated(piece)

    return Deflated(size, crc, length, read, plain)


def inflated(content: Deflated) -> Iterator[Any]:
    """The content itself, in chunks of at most RUN bytes. Raises ValueError where it is damaged."""
    if content.plain is not None:
        yield from content.plain()
        return
    decompressor = zlib_ng.decompressobj(RAW)
    left = content.size
    try:
        for chunk in content.read():
            while chunk:
                data = decompressor.decompress(chunk, RUN)
                chunk = decompressor.unconsumed_tail
                left -= len(data)
                yield data
    except zlib_ng.error as error:  # type: ignore[misc]  # an exception, though its stub does not say so
        raise ValueError(f"This is no deflate stream: {error}.") from None
    if left:
        raise ValueError(f"Content of {content.size} bytes has {content.size - left}.")


def zeros(count: int) -> Deflated:
    """A run of zero bytes, of any length: neither made nor compressed, but put together."""
    runs, rest = divmod(count, RUN)
    full, _ = _zero_run(RUN)
    last, crc = _zero_run(rest)

    def read() -> Iterator[bytes]:
        for _ in range(runs):
            yield full
        yield last

    def plain() -> Iterator[memoryview]:
        for _ in range(runs):
            yield ZEROS
        yield ZEROS[:rest]

    return Deflated(count, _crc_of_zeros(count) if runs else crc, runs * len(full) + len(last), read, plain)


@lru_cache(maxsize=256)
def _zero_run(count: int) -> tuple[bytes, int]:
    return deflate(ZEROS[:count]), crc32(ZEROS[:count])


@lru_cache(maxsize=256)
def _crc_of_zeros(count: int) -> int:
    runs, rest = divmod(count, RUN)
    (_, of_run), (_, crc) = _zero_run(RUN), _zero_run(rest)
    for _ in range(runs):
        crc = combine_crc(crc, of_run, RUN)
    return crc
