"""Long work of the event loop, cut into slices: generators that yield wherever other work may come in between.

Everything that such a generator changes is consistent whenever it yields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

Slices: TypeAlias = Generator[float, None, T]
"""Work that returns a ``T``; it yields how much of a slice it has done since it yielded last."""

CHANGED = 100
"""The factors that can be changed in one slice: a few milliseconds."""
READ = 2_000
"""The factors that can be read in one slice: a few milliseconds, too."""
WHOLE = 1.0
"""A whole slice: other work comes first, and the next slice begins here."""


def at_once(work: Slices[T]) -> T:
    """Do all of the work now; return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_slices(work: Slices[T]) -> T:
    """Do the work with other work of the event loop after every slice; return its result.

    What fits into one slice has nothing in between.
    """
    done = 0.0
    try:
        while True:
            try:
                done += next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            if done >= WHOLE:
                done = 0.0
                await asyncio.sleep(0)
    finally:
        work.close()  # now, where it was cancelled


def in_lists(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most ``size``."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def taken_apart(items: dict[Any, Any] | list[Any]) -> Slices[None]:
    """Empty a dict or a list that may have the last references to a million objects."""
    while items:
        size = min(READ, len(items))
        if isinstance(items, list):
            del items[-size:]
        else:
            for _ in range(size):
                items.popitem()
        yield size / READ
