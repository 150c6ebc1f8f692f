"""The HTTP clients of an account: the one in use and those it replaced; the watchdog, and when a client rotates."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.request import ApiRequest
    from exporter.verify.outcome import Attempt
    from exporter.watched import WatchedEntity, WatchedFactor

log = logging.getLogger(__name__)

STUCK_SECONDS = 5.0
SILENT_SECONDS = 60.0
SILENT_ATTEMPTS = 10
ROTATION_SECONDS = 300.0
CLOSE_SECONDS = 1.0


class FactorClient(Protocol):
    """What polling needs of a client."""

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        """Send one request for a factor; raises nothing but a cancellation."""

    async def list_factors(self, entity: WatchedEntity, page_query: str | None = None) -> Attempt:
        """Send one request for a page of an entity's factors; raises nothing but a cancellation."""

    async def list_entities(self, service_sid: str, page_query: str | None = None) -> Attempt:
        """Send one request for a page of a service's entities; raises nothing but a cancellation."""

    async def fetch_service(self, service_sid: str) -> Attempt:
        """Send one request for a service; raises nothing but a cancellation."""

    async def request_token(self) -> Attempt:
        """Send one request for an access token; raises nothing but a cancellation."""

    async def aclose(self) -> None:
        """Close every connection; requests in flight fail at once."""


class RotationReason(StrEnum):
    """Why a client is replaced."""

    STUCK = "stuck"
    """A request was still in flight long after its timeout."""
    SILENT = "silent"
    """No request was answered, with whatever status."""


class ClientHealth:
    """Decides when an account's client is replaced by a fresh one: new pool, new name lookup, new TLS.

    A client is replaced when a request outlived its timeout, or when 10 attempts in a row, and twice the
    concurrency, brought no answer over at least 60 s. An outage has the same symptoms, so a client is replaced at
    most once every five minutes. Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._unanswered = 0
        self._silent_since = math.inf
        self._rotated_at = -math.inf

    def heard(self, now: float, *, answered: bool) -> None:
        """Count an attempt through the client in use; an answer of any status shows that the client works."""
        if answered:
            self.renewed()
            return
        self._unanswered += 1
        self._silent_since = min(self._silent_since, now)

    def due(self, now: float, *, stuck: bool, max_concurrency: int) -> RotationReason | None:
        """Return why the client has to be replaced now, ``None`` where it has not."""
        if now - self._rotated_at < ROTATION_SECONDS:
            return None
        if stuck:
            return RotationReason.STUCK
        silent = self._unanswered >= max(SILENT_ATTEMPTS, 2 * max_concurrency)
        return RotationReason.SILENT if silent and now - self._silent_since >= SILENT_SECONDS else None

    def renewed(self) -> None:
        """Restart the count: the client is another one, or it brought an answer."""
        self._unanswered = 0
        self._silent_since = math.inf

    def rotated(self, now: float) -> None:
        """Take note of a replacement, or of a failed one, that :meth:`due` called for."""
        self.renewed()
        self._rotated_at = now


@dataclass(slots=True, eq=False)
class ClientInUse:
    """A client and the requests in flight through it.

    A request is stuck after ``stuck_after_seconds``; ``stuck`` says that one for an access token was. Answers that
    come through a ``void`` client are dropped: they are another API's.
    """

    client: FactorClient
    stuck_after_seconds: float
    stuck: bool = False
    in_flight: set[ApiRequest] = field(default_factory=set)
    replaced: bool = False
    closed: bool = False
    void: bool = False


class Clients:
    """The client in use; one that was replaced is closed when its last request has ended.

    ``stuck_after_seconds`` applies to the next client. ``abandon`` finishes a request that even its cancellation
    did not end, once its client is closed.
    """

    def __init__(
        self,
        account: str,
        client: FactorClient,
        *,
        abandon: Callable[[ClientInUse, ApiRequest], None],
        stuck_after_seconds: float = math.inf,
        new_client: Callable[[], FactorClient] | None = None,
    ) -> None:
        self.stuck_after_seconds = stuck_after_seconds
        self.rotations = 0
        self.health = ClientHealth()
        self._account = account
        self._abandon = abandon
        self._new_client = new_client
        self._replaceable = True
        self._loop = asyncio.get_running_loop()
        self._current = ClientInUse(client, stuck_after_seconds)
        self._replaced: set[ClientInUse] = set()  # those that are open, or still have requests
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> FactorClient:
        """The client in use."""
        return self._current.client

    def begin(self, request: ApiRequest, now: float) -> ClientInUse:
        """Return the client for an attempt that begins ``now`` (steady seconds)."""
        request.began_steady, request.late, request.given_up = now, False, False
        self._current.in_flight.add(request)
        return self._current

    def found_stuck(self, client: FactorClient) -> None:
        """Take a client whose request for an access token outlived its timeout."""
        if client is self._current.client:
            self._current.stuck = True

    def end(self, used: ClientInUse, request: ApiRequest) -> None:
        """Take note that an attempt has ended."""
        used.in_flight.discard(request)
        if used.replaced and not used.in_flight:
            self._close(used)

    def replace(self, client: FactorClient, *, void: bool = False, at_once: bool = False) -> None:
        """Use another client from now on.

        ``void`` drops the answers that still come through the old one; ``at_once`` closes it without waiting for
        its requests, which fail then.
        """
        old, self._current = self._current, ClientInUse(client, self.stuck_after_seconds)
        old.replaced, old.void = True, void
        self._replaced.add(old)
        if at_once or not old.in_flight:
            self._close(old)
        self.health.renewed()

    def check(self, now: float, *, max_concurrency: int) -> RotationReason | None:
        """Cancel stuck requests, and replace the client where its health calls for it; runs every 10 s."""
        stuck = self.cancel_stuck(now)
        why = self.health.due(now, stuck=stuck, max_concurrency=max_concurrency)
        if why is None or self._new_client is None:
            return None
        self.health.rotated(now)
        if (client := self._fresh()) is None:
            return None
        self.rotations += 1
        self.replace(client, at_once=why is RotationReason.STUCK)
        return why

    def renew(self) -> None:
        """Use a fresh client, and close the old one at once: its connections have ended without notice."""
        if (client := self._fresh()) is not None:
            self.replace(client, at_once=True)

    def _fresh(self) -> FactorClient | None:
        """Return a fresh client, None where it can't be made: the old one may recover."""
        if self._new_client is None:
            return None
        try:
            client = self._new_client()
        except Exception as error:  # noqa: BLE001 - whatever prevents it, polling goes on
            if self._replaceable:
                values = {"account": self._account, "error": str(error)}
                log.error("HTTP client not replaced", extra={"fields": values})
            self._replaceable = False
            return None
        self._replaceable = True
        return client

    def cancel_stuck(self, now: float) -> bool:
        """Cancel what is late for the second check in a row; return whether that affects the client in use.

        One check is not enough: after a standstill of the whole process every request is late, and ends at once.
        A request that does not end even so keeps its slot, and its factor, until its client is closed: there are
        never two requests for a factor on the wire. A client that was replaced is closed now.
        """
        for used in (self._current, *self._replaced):
            for request in used.in_flight:
                if request.late and not request.given_up:
                    request.give_up()
                request.late = request.began_steady < now - used.stuck_after_seconds
        for used in tuple(self._replaced):
            if _stuck(used):
                self._close(used)
        return _stuck(self._current)

    def _close(self, used: ClientInUse) -> None:
        """Close a client; what was given up has a second to end."""
        for request in used.in_flight:
            if request.given_up:
                self._loop.call_later(CLOSE_SECONDS, self._abandon_if_stuck, used, request)
        if not used.in_flight:
            self._replaced.discard(used)
        if used.closed:
            return
        used.closed = True
        task = self._loop.create_task(used.client.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _abandon_if_stuck(self, used: ClientInUse, request: ApiRequest) -> None:
        if request in used.in_flight:
            self.end(used, request)
            self._abandon(used, request)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # a client that can't be closed is not used again either way

    async def aclose(self) -> None:
        """Close every client; requests in flight fail at once. One that does not close is left after a second."""
        for used in (*self._replaced, self._current):
            self._close(used)
        if self._closing:
            _, unclosed = await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)
            for task in unclosed:
                task.cancel()


def _stuck(used: ClientInUse) -> bool:
    return used.stuck or any(request.given_up for request in used.in_flight)
