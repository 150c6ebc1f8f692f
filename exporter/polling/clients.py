"""The client that an account's requests go through, which may be replaced while requests are under way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.verify.outcome import Attempt
    from exporter.watched import WatchedFactor


class FactorClient(Protocol):
    """What polling needs of a client."""

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        """Ask for one factor, once; never raises."""

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once."""


class Lease:
    """A client and the requests that go through it.

    ``void`` says that answers through it are no longer wanted: it asked another API, or with other credentials.
    """

    __slots__ = ("client", "open", "replaced", "void")

    def __init__(self, client: FactorClient) -> None:
        self.client = client
        self.open = 0
        self.replaced = False
        self.void = False


class Clients:
    """The client in use; one that was replaced is closed when its last request has ended."""

    def __init__(self, client: FactorClient) -> None:
        self._current = Lease(client)
        self._replaced: set[Lease] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Lease]:
        """Lend the client in use for one request."""
        lease = self._current
        lease.open += 1
        try:
            yield lease
        finally:
            lease.open -= 1
            self._close_if_done(lease)

    def replace(self, client: FactorClient, *, void: bool = False, at_once: bool = False) -> None:
        """Use another client from now on.

        ``void`` drops the answers that the old one still brings; ``at_once`` closes it under its requests,
        which fail then.
        """
        old, self._current = self._current, Lease(client)
        old.replaced, old.void = True, void
        self._replaced.add(old)
        if at_once:
            self._close(old)
        else:
            self._close_if_done(old)

    def _close_if_done(self, lease: Lease) -> None:
        if lease.replaced and lease.open == 0 and lease in self._replaced:
            self._close(lease)

    def _close(self, lease: Lease) -> None:
        self._replaced.discard(lease)
        task = asyncio.get_running_loop().create_task(lease.client.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close every client; requests under way fail at once."""
        for lease in (*self._replaced, self._current):
            self._close(lease)
        await asyncio.gather(*self._closing, return_exceptions=True)
