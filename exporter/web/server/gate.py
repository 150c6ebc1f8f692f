"""The middleware before every path: rate limit, authentication, and how many requests are answered at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import web

from exporter.web.health import HEALTH_PATHS
from exporter.web.server.basicauth import BasicAuth, BusyError
from exporter.web.server.connections import SLOW_SECONDS, Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from exporter.config.webconfig import RateLimit, WebConfig
    from exporter.web.server.connections import Connections
    from exporter.web.server.limits import Limits

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CHALLENGE = 'Basic realm="verify-factor-exporter", charset="UTF-8"'


class TokenBucket:
    """Allows ``burst`` requests at once and one more per interval; ``now`` is monotonic time in seconds."""

    def __init__(self, rate: RateLimit, now: float) -> None:
        self.rate = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Return whether a request is allowed now, and count it."""
        self._tokens = min(self.rate.burst, self._tokens + (now - self._at) / self.rate.interval_seconds)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Gate:
    """Admits requests by the applied web config; health paths are always admitted."""

    def __init__(
        self,
        limits: Limits,
        connections: Connections,
        *,
        telemetry_path: str = "/metrics",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._connections = connections
        self._telemetry_path = telemetry_path
        self._now = now
        self._auth = BasicAuth(limits)
        self._bucket: TokenBucket | None = None
        self._headers: dict[str, str] = {}
        self._scrapes: set[Connection] = set()
        self._others: set[Connection] = set()

    def use(self, config: WebConfig) -> None:
        """Apply a web config."""
        self._auth.use(config.users)
        self._headers = self._connections.headers = dict(config.headers)
        if self._bucket is None or self._bucket.rate != config.rate:
            self._bucket = TokenBucket(config.rate, self._now()) if config.rate else None

    def add_to(self, application: web.Application) -> None:
        """Install the middleware in an application."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self.admit(request, handler)

        application.middlewares.insert(0, gate)
        application.on_response_prepare.append(self._put_headers)

    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request, or refuse it."""
        if request.rel_url.raw_path in HEALTH_PATHS and request.method in ("GET", "HEAD"):
            return await handler(request)
        if self._bucket is not None and not self._bucket.take(self._now()):
            return _refusal(429, "rate limit exceeded (rate_limit in the web configuration file)", Retry_After="1")
        connection = cast("Connection", request.protocol)
        if not self._auth.open_to_all:
            try:
                allowed = await self._auth.allows(request.headers.get("Authorization"), connection.peer)
            except BusyError:
                self._connections.warn("password checks refused at the limit")
                return _refusal(503, "too many passwords are waiting to be checked; try again", Retry_After="1")
            if not allowed:
                return _refusal(401, "a valid user name and password are required", WWW_Authenticate=_CHALLENGE)
        if (request.content_length or 0) > self._limits.body_bytes:
            response = _refusal(413, f"the request body is larger than {self._limits.body_bytes} bytes")
            response.force_close()
            return response
        if request.rel_url.raw_path == self._telemetry_path:
            if not self._room_for_a_scrape():
                return self._too_many("scrapes", self._limits.scrapes)
            with _among(self._scrapes, connection):
                scrape = await handler(request)
            if scrape.status == HTTPStatus.OK:
                self._connections.peers.note(connection.peer, asyncio.get_running_loop().time())
            return scrape
        if not self._room_for_a_request():
            return self._too_many("requests", self._limits.requests)
        self._others.add(connection)
        connection.when_answered = self._answered  # aiohttp sends the response after this returns
        try:
            return await handler(request)
        except web.RequestPayloadError:
            return _refusal(400, "the request body is truncated or malformed")

    def _answered(self, connection: Connection) -> None:
        self._others.discard(connection)

    def _room_for_a_request(self) -> bool:
        """Return whether one more request may be answered, closing the one with the slowest client if need be."""
        return len(self._others) < self._limits.requests or self._end_slowest(self._others)

    def _room_for_a_scrape(self) -> bool:
        """Return whether one more scrape may start, closing the one with the slowest client if need be."""
        return len(self._scrapes) < self._limits.scrapes or self._end_slowest(self._scrapes)

    @staticmethod
    def _end_slowest(answered: set[Connection]) -> bool:
        slowest = max(answered, key=Connection.slow_for)
        if slowest.slow_for() < SLOW_SECONDS:
            return False
        slowest.abort()
        answered.discard(slowest)
        return True

    def _too_many(self, what: str, limit: int) -> web.Response:
        self._connections.warn(f"{what} refused at the limit", limit=limit)
        return _refusal(503, f"too many {what} at once: the limit is {limit}; try again", Retry_After="1")

    async def _put_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._headers)


@contextlib.contextmanager
def _among(answered: set[Connection], connection: Connection) -> Iterator[None]:
    answered.add(connection)
    try:
        yield
    finally:
        answered.discard(connection)


def _refusal(status: int, message: str, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(status=status, text=f"{message}\n", headers=named)
