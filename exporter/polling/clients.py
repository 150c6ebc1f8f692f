"""The client that an account's requests go through, which may be replaced while requests are under way."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from exporter.verify.outcome import Attempt, Failure, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from exporter.watched import WatchedEntity, WatchedFactor

CLOSE_SECONDS = 1.0


class FactorClient(Protocol):
    """What polling needs of a client."""

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        """Ask for one factor, once; never raises."""

    async def list_factors(self, entity: WatchedEntity, page_url: str | None = None) -> Attempt:
        """Ask for a page of an entity's factors, once; never raises."""

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once."""


class _Request:
    """One request, in a task of its own: should that never end, whoever waits for its answer still goes on."""

    __slots__ = ("_loop", "_task", "answer", "began", "given_up", "late")

    def __init__(self, asked: Coroutine[Any, Any, Attempt]) -> None:
        self._loop = asyncio.get_running_loop()
        self.began = self._loop.time()
        self.late = False
        self.given_up = False
        self.answer: asyncio.Future[Attempt] = self._loop.create_future()
        self._task = self._loop.create_task(asked)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Attempt]) -> None:
        error = None if task.cancelled() else task.exception()
        if self.answer.done():
            return
        if task.cancelled():
            self._fail_late() if self.given_up else self.answer.cancel()
        elif error is not None:
            self.answer.set_exception(error)
        elif self.given_up and task.result().code is None:
            self._fail_late()
        else:
            self.answer.set_result(task.result())

    def give_up(self) -> None:
        """End it, if it lets itself be ended; it has failed either way."""
        self.given_up = True
        self._task.cancel()

    def abandon(self) -> None:
        """Wait for its end no longer than a second."""
        self._loop.call_later(CLOSE_SECONDS, self._fail_late)

    def _fail_late(self) -> None:
        if not self.answer.done():
            failure = Failure(Reason.TIMEOUT, "no complete answer in time, and no end either: given up")
            self.answer.set_result(Attempt(failure, round(self._loop.time() - self.began, 6)))

    async def cancel(self) -> None:
        """End it, and wait for that."""
        self._task.cancel()
        await asyncio.wait((self._task,))


class Lease:
    """A client and the requests that go through it.

    ``void`` says that answers through it are no longer wanted: it asked another API, or with other credentials.
    """

    __slots__ = ("_requests", "client", "closed", "open", "replaced", "stuck_after_seconds", "void")

    def __init__(self, client: FactorClient, stuck_after_seconds: float) -> None:
        self.client = client
        self.stuck_after_seconds = stuck_after_seconds
        self.open = 0
        self.replaced = False
        self.closed = False
        self.void = False
        self._requests: set[_Request] = set()

    async def result(self, asked: Coroutine[Any, Any, Attempt]) -> Attempt:
        """Return what a request of the client brings; a failure where it was given up."""
        request = _Request(asked)
        self._requests.add(request)
        try:
            return await request.answer
        except asyncio.CancelledError:
            await request.cancel()
            raise
        finally:
            self._requests.discard(request)

    def give_up_stuck(self) -> bool:
        """Give up what outlived its bound at this look and at the one before; return if any of it is still there.

        One look is not enough: after a standstill of the whole process all of them are late, and end at once.
        """
        late_before = asyncio.get_running_loop().time() - self.stuck_after_seconds
        for request in self._requests:
            if request.late and not request.given_up:
                request.give_up()
            request.late = request.began < late_before
        return any(request.given_up for request in self._requests)

    def abandon(self) -> None:
        """Let nobody wait for what was given up: the client is closed, so that nothing of it is on the wire."""
        for request in self._requests:
            if request.given_up:
                request.abandon()


class Clients:
    """The client in use; one that was replaced is closed when its last request has ended.

    ``stuck_after_seconds`` is the time by which a request of the next client has ended if all is well.
    """

    def __init__(self, client: FactorClient, stuck_after_seconds: float = math.inf) -> None:
        self.stuck_after_seconds = stuck_after_seconds
        self._current = Lease(client, stuck_after_seconds)
        self._lent: set[Lease] = set()
        self._replaced: set[Lease] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Lease]:
        """Lend the client in use for one request."""
        lease = self._current
        lease.open += 1
        self._lent.add(lease)
        try:
            yield lease
        finally:
            lease.open -= 1
            if lease.open == 0:
                self._lent.discard(lease)
            self._close_if_done(lease)

    def replace(self, client: FactorClient, *, void: bool = False, at_once: bool = False) -> None:
        """Use another client from now on.

        ``void`` drops the answers that the old one still brings; ``at_once`` closes it under its requests,
        which fail then.
        """
        old, self._current = self._current, Lease(client, self.stuck_after_seconds)
        old.replaced, old.void = True, void
        self._replaced.add(old)
        if at_once:
            self._close(old)
        else:
            self._close_if_done(old)

    def give_up_stuck(self) -> bool:
        """Give up every stuck request; return whether one of them went through the client in use.

        One that doesn't end even so keeps its slot, and its factor, until its client is closed: there are never
        two requests at once for a factor. A client that was replaced before is closed now.
        """
        stuck = [lease for lease in self._lent if lease.give_up_stuck()]
        for lease in stuck:
            if lease.replaced:
                self._close(lease)
        return self._current in stuck

    def _close_if_done(self, lease: Lease) -> None:
        if lease.replaced and lease.open == 0:
            self._close(lease)

    def _close(self, lease: Lease) -> None:
        self._replaced.discard(lease)
        lease.abandon()
        if lease.closed:
            return
        lease.closed = True
        task = asyncio.get_running_loop().create_task(lease.client.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # a client that can't be closed is of no more use either way

    async def aclose(self) -> None:
        """Close every client; requests under way fail at once. One that doesn't close is left after a second."""
        for lease in (*self._replaced, self._current):
            self._close(lease)
        if self._closing:
            _, unclosed = await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)
            for task in unclosed:
                task.cancel()
