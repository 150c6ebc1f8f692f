"""The access token of an account with an OAuth app: when it is renewed, and what its requests do without one.

:class:`AccessToken` decides, with time passed in; :class:`TokenKeeper` sends the requests for tokens.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING

from exporter.verify.outcome import TOKEN_ENDPOINT, Attempt, Failure, Operation, Reason, TokenAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Protocol, TypeVar

    from exporter.polling.clients import Clients, FactorClient
    from exporter.polling.clock import Clock
    from exporter.polling.observer import Observer
    from exporter.polling.throttle import Throttle

    T = TypeVar("T")

    class Spawn(Protocol):
        """Runs work as a task that a drain waits for."""

        def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
            """Return the task."""


RENEW_AT_SHARE = 0.8  # of a token's lifetime
FRESH_SECONDS = 60.0
SPACING_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0
RETRIED_FAILURES = 1  # in a row; after them a fetch doesn't wait for the next token request
_REMEMBERED = 4
_STUCK = f"{TOKEN_ENDPOINT}no complete answer in time; the request did not end and was cancelled"


class AccessToken:
    """One account's access token, and when the next may be requested. Times are seconds of one monotonic clock.

    ``value`` is empty while there is none. A lifetime counts from the start of the request, so that it never ends
    here later than at the endpoint. ``generation`` changes with the token, ``credentials`` when the app's
    credentials change. ``failure`` is why the last request failed, ``failures`` how many failed in a row; requests
    start at least 10 s apart, and up to 60 s after failures, or as late as the endpoint requests.
    """

    def __init__(self) -> None:
        self.value = ""
        self.generation = 0
        self.credentials = 0
        self.failure: Failure | None = None
        self.failures = 0
        self.next_at = -math.inf
        self.recent: deque[str] = deque(maxlen=_REMEMBERED)  # the latest ones, which logs must not show
        self._requested_at = -math.inf
        self._obtained_at = -math.inf
        self._renew_at = -math.inf
        self._expires_at = -math.inf
        self._retry_at = -math.inf

    def __repr__(self) -> str:
        return f"<AccessToken {'present' if self.value else 'absent'}>"

    def usable(self, now: float) -> bool:
        """Return whether requests can use the token."""
        return bool(self.value) and now < self._expires_at

    def renewal_due(self, now: float) -> bool:
        """Return whether a usable token is to be renewed: at 80 % of its lifetime."""
        return now >= max(self._renew_at, self.next_at)

    def requested(self, now: float) -> None:
        """Take note of a request for a token."""
        self._requested_at = now
        self.next_at = now + SPACING_SECONDS

    def obtained(self, answer: TokenAnswer) -> None:
        """Take the token that the last request was answered with."""
        self._obtained_at = self._requested_at
        self._renew_at = self._requested_at + RENEW_AT_SHARE * answer.lifetime_seconds
        self._expires_at = self._requested_at + answer.lifetime_seconds
        self._use(answer.access_token)
        self._reset_failures()
        self.recent.append(answer.access_token)

    def failed(self, failure: Failure, retry_after_seconds: float | None = None) -> None:
        """Take the failure of the last request; the waits double from 10 s to 60 s."""
        self.failure = failure
        self.failures += 1
        wait = min(SPACING_SECONDS * 2.0 ** min(self.failures - 1, 16), LONGEST_WAIT_SECONDS)
        self._retry_at = self._requested_at + (retry_after_seconds or 0.0)
        self.next_at = max(self._requested_at + wait, self._retry_at)

    def refused(self, generation: int, now: float) -> bool:
        """Take a 401 to a request with the token of this generation; return whether another token may do better.

        A token under 60 s old that has not expired is as good as any other: then the credentials are refused.
        """
        if generation == self.generation:
            if now - self._obtained_at < FRESH_SECONDS and self.usable(now):
                return False
            self._use("")
        return True

    def forget(self, now: float) -> None:
        """Use a new token next, for the probes of a pause.

        Not if this one was requested within the last 10 s, or the endpoint requested a longer wait.
        """
        if now >= max(self._requested_at + SPACING_SECONDS, self._retry_at):
            self._use("")
            self._reset_failures()

    def credentials_changed(self) -> None:
        """Take other credentials of the app: the token is no longer used, nor one that is still to come."""
        self.credentials += 1
        self._use("")
        self._reset_failures()

    def _use(self, value: str) -> None:
        self.value = value
        self.generation += 1

    def _reset_failures(self) -> None:
        self.failure, self.failures = None, 0
        self.next_at = self._requested_at + SPACING_SECONDS


class TokenKeeper:
    """Keeps an account in tokens: one renewal at a time for all its requests.

    ``needed`` is whether the account has an OAuth app. ``spawn`` runs a renewal, ``reread_secret`` reads the client
    secret again and returns whether it changed. A request for a token counts against the account's rate and
    concurrency, but doesn't wait for a slot: those who hold the slots may be waiting for it.
    """

    def __init__(
        self,
        account: str,
        token: AccessToken,
        *,
        needed: bool,
        clients: Clients,
        throttle: Throttle,
        clock: Clock,
        observer: Observer,
        spawn: Spawn,
        reread_secret: Callable[[], bool],
    ) -> None:
        self.token = token
        self._account = account
        self._needed = needed
        self._clients = clients
        self._throttle = throttle
        self._clock = clock
        self._observer = observer
        self._spawn = spawn
        self._reread_secret = reread_secret
        self._renewal: asyncio.Task[None] | None = None

    async def ready(self) -> Failure | None:
        """Return ``None`` as soon as requests can use the token, or why there is none.

        Only the first failure in a row is waited for by all requests; after that, by the one that starts the next
        request for a token.
        """
        token = self.token
        while self._needed:
            now = self._clock.steady()
            renewal = None if self._renewal is None or self._renewal.done() else self._renewal
            if token.usable(now):
                if renewal is None and token.renewal_due(now):
                    self._start()
                return None
            failure = token.failure
            if failure is not None and (
                now < token.next_at if renewal is None else token.failures > RETRIED_FAILURES
            ):
                return failure
            await asyncio.wait((renewal or self._start(),))
            if token.failure is not None and not token.usable(self._clock.steady()):
                return token.failure
        return None

    def need(self, needed: bool) -> None:
        """Take whether requests need a token; where they don't, those who wait for one go on at once without."""
        self._needed = needed
        if not needed and self._renewal is not None:
            self._renewal.cancel()

    def _start(self) -> asyncio.Task[None]:
        self._renewal = renewal = self._spawn(self._renew())
        return renewal

    async def _renew(self) -> None:
        while not await self._request():
            pass

    async def _request(self) -> bool:
        """Request a token as soon as that is allowed; return whether the result counts."""
        token = self.token
        await asyncio.sleep(token.next_at - self._clock.steady())
        client, credentials, now = self._clients.current, token.credentials, self._clock.steady()
        token.requested(now)
        self._throttle.begin(now)
        try:
            attempt = await self._bounded(client)
        finally:
            self._throttle.end(None)
        self._observer.attempted(self._account, Operation.TOKEN, attempt)
        if credentials != token.credentials:
            return False
        match attempt.result:
            case TokenAnswer() as answer:
                token.obtained(answer)
            case Failure() as failure:
                if attempt.code is None:
                    if client is not self._clients.current:
                        return False  # it was replaced, and closed with its requests
                    self._clients.health.heard(self._clock.steady(), answered=False)
                if failure.reason is Reason.AUTH and self._reread_secret():
                    return False
                token.failed(failure, attempt.retry_after_seconds)
                if token.usable(self._clock.steady()):
                    self._observer.token_not_renewed(self._account, failure)
        return True

    async def _bounded(self, client: FactorClient) -> Attempt:
        """Send a request; one that outlived its timeout has failed, whether or not its cancellation ends it."""
        began = self._clock.steady()
        sending = self._spawn(client.request_token())
        try:
            await asyncio.wait((sending,), timeout=self._clients.stuck_after_seconds)
        finally:
            sending.cancel()
        if sending.done():
            return sending.result()
        self._clients.found_stuck(client)
        return Attempt(Failure(Reason.TIMEOUT, _STUCK), round(self._clock.steady() - began, 6))
