"""Work on several things at once, in threads, whose results come in the order of the things."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def several(work: Callable[[Item], Made], items: Iterable[Item], *, threads: int) -> Generator[Made, None, None]:
    """Takes the items one by one, and only a few more of them than there are threads before a result is asked for.

    What `work` raises is raised in its place. When the iterator ends or is closed, no thread works any more.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
