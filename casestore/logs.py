"""What the log says of exceptions: their types and where they happened.

Not what they say: a database quotes rows, a parser what it was sent.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from types import TracebackType


class PlainFormatter(logging.Formatter):
    def formatException(  # noqa: N802  logging calls it so
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else without_sentences(ei[1])


def without_sentences(exception: BaseException) -> str:
    """The traceback, causes first as Python prints it, but only the types of the exceptions."""
    return "\nled to\n".join(reversed(list(_told(exception))))


def _told(exception: BaseException) -> Iterator[str]:
    told: BaseException | None = exception
    seen: set[int] = set()
    while told is not None and id(told) not in seen:
        seen.add(id(told))
        kind = type(told)
        yield "".join(traceback.format_tb(told.__traceback__)) + f"{kind.__module__}.{kind.__qualname__}"
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
