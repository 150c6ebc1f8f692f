"""The client that an account's requests go through, which may be replaced while requests are under way."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from exporter.verify.outcome import Attempt, FactorPage, Failure, Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from exporter.polling.record import FactorRecord
    from exporter.verify.outcome import Operation
    from exporter.watched import WatchedEntity, WatchedFactor


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One thing to ask for: its name in the counters, the request, and the factor it is about, if any."""

    operation: Operation
    send: Callable[[FactorClient], Coroutine[Any, Any, Attempt]]
    about: FactorRecord | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The last attempt of a series, and what the series took; see :class:`exporter.verify.outcome.Outcome`."""

    attempt: Attempt
    duration_seconds: float
    attempts: int
    alone: bool = False

    def outcome(self) -> Outcome:
        """Return the outcome of a fetch."""
        if isinstance(self.attempt.result, FactorPage):
            raise TypeError("a page is no outcome of a fetch")
        return Outcome(
            result=self.attempt.result,
            duration_seconds=self.duration_seconds,
            attempts=self.attempts,
            code=self.attempt.code,
            request_id=self.attempt.request_id,
            alone=self.alone,
        )


STUCK_SECONDS = 5.0
SILENT_SECONDS = 60.0
SILENT_ATTEMPTS = 10
ROTATION_SECONDS = 300.0


class RotationReason(StrEnum):
    """Why a client is replaced."""

    STUCK = "stuck"
    """A request was still under way long after its own bound."""
    SILENT = "silent"
    """Nothing was answered any more, whatever the status."""


class ClientHealth:
    """Decides when an account's client is replaced by a fresh one: new pool, new name look-up, new TLS.

    That is when a request outlived its bound, or when 10 attempts in a row, and twice as many as may be under way
    at once, brought no answer over at least 60 s. An outage looks the same: no more than once in five minutes.
    Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._unanswered = 0
        self._silent_since = math.inf
        self._rotated_at = -math.inf

    def heard(self, now: float, *, answered: bool) -> None:
        """Take the end of an attempt through the client in use; an answer of any status shows that it works."""
        if answered:
            self.renewed()
            return
        self._unanswered += 1
        self._silent_since = min(self._silent_since, now)

    def due(self, now: float, *, stuck: bool, max_concurrency: int) -> RotationReason | None:
        """Return why the client is to be replaced now, ``None`` where it is not."""
        if now - self._rotated_at < ROTATION_SECONDS:
            return None
        if stuck:
            return RotationReason.STUCK
        silent = self._unanswered >= max(SILENT_ATTEMPTS, 2 * max_concurrency)
        return RotationReason.SILENT if silent and now - self._silent_since >= SILENT_SECONDS else None

    def renewed(self) -> None:
        """Begin anew to count: the client is another one, or it brought an answer."""
        self._unanswered = 0
        self._silent_since = math.inf

    def rotated(self, now: float) -> None:
        """Take a replacement, or the attempt at one, that :meth:`due` asked for."""
        self.renewed()
        self._rotated_at = now


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
