"""The factors that are being asked for at this moment, each of them once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.watched import FactorKey


class UnderWay:
    """A set of factors that lets anybody wait for the end of a look."""

    def __init__(self) -> None:
        self._ends: dict[FactorKey, asyncio.Future[None] | None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._ends

    def __iter__(self) -> Iterator[FactorKey]:
        return iter(self._ends)

    def add(self, key: FactorKey) -> None:
        """Take note that a factor's look begins."""
        self._ends.setdefault(key, None)

    def discard(self, key: FactorKey) -> None:
        """Take note that a factor's look is over, and tell those who wait for it."""
        end = self._ends.pop(key, None)
        if end is not None and not end.done():
            end.set_result(None)

    async def end(self, key: FactorKey, timeout_seconds: float) -> None:
        """Wait for the end of a factor's look, at most this long; whoever stops waiting ends nothing."""
        if key not in self._ends:
            return
        end = self._ends[key]
        if end is None:
            end = self._ends[key] = asyncio.get_running_loop().create_future()
        await asyncio.wait((end,), timeout=timeout_seconds)
