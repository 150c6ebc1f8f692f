"""The Verify API client of one account: one call sends one request and returns an :class:`Attempt`."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from exporter.verify.answers import (
    PAGE_SIZE,
    interpret,
    interpret_entity_page,
    interpret_page,
    interpret_service,
    parse_concurrent_requests,
    parse_request_id,
    parse_retry_after,
    parse_server_duration,
    twilio_error,
)
from exporter.verify.attempt import USER_AGENT, log_if_internal, with_peer
from exporter.verify.freshness import Freshness
from exporter.verify.outcome import (
    Attempt,
    Failure,
    Result,
    cached_failure,
    from_proxy,
)
from exporter.verify.request import Get
from exporter.verify.transport import AttemptError, BoundedTransport, reply_of, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.verify.token import TokenClient
    from exporter.verify.transport import Reply
    from exporter.watched import WatchedEntity, WatchedFactor


_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")  # RFC 3986 §2.3


class VerifyClient:
    """Sends requests to the Verify API with one account's credentials.

    ``password`` is called for every request, so that a changed password file takes effect immediately. With
    ``bearer``, which returns an access token, requests carry the token instead; ``tokens`` requests one. The
    transport should raise only :class:`AttemptError`; any other error becomes ``internal`` and is logged without
    its message, which may contain the request's path. ``proxy`` is the proxy's host and port, for messages.
    ``listing_interval_seconds`` is the time between two listings of an entity, or two fetches of a service.
    """

    def __init__(
        self,
        *,
        base_url: str,
        username: str,
        password: Callable[[], str],
        transport: httpx.AsyncBaseTransport,
        bearer: Callable[[], str] | None = None,
        tokens: TokenClient | None = None,
        proxy: str = "",
        listing_interval_seconds: float = 900.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._origin = httpx.URL(base_url)
        self._root = self._origin.raw_path.decode().rstrip("/") + "/v2/Services/"
        self._username = username
        self._password = password
        self._bearer = bearer
        self._tokens = tokens
        self._proxy = proxy
        self._listing_interval_seconds = listing_interval_seconds
        self._freshness = Freshness()
        self._monotonic = monotonic
        self._wall = wall
        # Not httpx's client: its cookies, redirects, hooks and timeouts per phase are unwanted and double the cost.
        self._transport = transport
        # Built again only when the secret changes; neither repr shows it.
        self._headers = lru_cache(maxsize=1)(self._with_credentials)

    def _with_credentials(self, secret: str) -> httpx.Headers:
        """Return the headers of a request, with the password or the access token."""
        basic = b64encode(f"{self._username}:{secret}".encode()).decode()
        return httpx.Headers(
            {
                "Host": self._origin.netloc.decode("ascii"),
                "User-Agent": USER_AGENT,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Authorization": f"Basic {basic}" if self._bearer is None else f"Bearer {secret}",
            }
        )

    def _factors_path(self, service_sid: str, identity: str) -> str:
        """Return the path of an entity's factors; it contains the identity and must not be logged."""
        return f"{self._root}{_segment(service_sid)}/Entities/{_segment(identity)}/Factors"

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        """Send one Fetch Factor request. Raises nothing except on cancellation."""
        key = watched.key
        path = f"{self._factors_path(key.service_sid, watched.identity)}/{_segment(key.factor_sid)}"
        return await self._attempt(
            path,
            lambda code, body: interpret(code, body, key.factor_sid),
            watched.identity,
            interval_seconds=watched.interval_seconds,
        )

    async def list_factors(self, entity: WatchedEntity, page_query: str | None = None) -> Attempt:
        """Send one List Factors request, for the first page or the one with these paging parameters.

        Raises nothing except on cancellation.
        """
        query = f"PageSize={PAGE_SIZE}" if page_query is None else page_query
        path = f"{self._factors_path(entity.key.service_sid, entity.key.identity)}?{query}"
        return await self._attempt(path, interpret_page, entity.key.identity)

    async def list_entities(self, service_sid: str, page_query: str | None = None) -> Attempt:
        """Send one List Entities request, for the first page or the one with these paging parameters.

        The API chooses the size of the pages: its reference allows up to 1000 entities, its list of errors up to 25
        (https://www.twilio.com/docs/api/errors/60373). Raises nothing except on cancellation.
        """
        path = f"{self._root}{_segment(service_sid)}/Entities"
        return await self._attempt(f"{path}?{page_query}" if page_query else path, interpret_entity_page)

    async def fetch_service(self, service_sid: str) -> Attempt:
        """Send one Fetch Service request. Raises nothing except on cancellation."""
        path = f"{self._root}{_segment(service_sid)}"
        return await self._attempt(path, lambda code, body: interpret_service(code, body, service_sid))

    async def request_token(self) -> Attempt:
        """Send one request for an access token of the account's OAuth app; raises ValueError if it has none."""
        if self._tokens is None:
            raise ValueError("the account has no OAuth app")
        return await self._tokens.request_token()

    async def _attempt(
        self,
        path: str,
        interpret_response: Callable[[int, bytes], Result],
        identity: str = "",
        *,
        interval_seconds: float | None = None,
    ) -> Attempt:
        started = self._monotonic()
        result: Result
        answer: Reply | None
        twilio_code: int | None = None
        try:
            answer = await self._send(path)
        except AttemptError as error:
            duration = self._since(started)
            result, answer = Failure(error.reason, from_proxy(error.detail, self._proxy)), error.answer
            log_if_internal(error)
        else:
            duration = self._since(started)
            interval = self._listing_interval_seconds if interval_seconds is None else interval_seconds
            if header := self._freshness.cached_by(answer.headers, started + duration, interval):
                request_id = parse_request_id(answer.headers, identity)
                return Attempt(cached_failure(answer.code, header), duration, answer.code, request_id)
            result = interpret_response(answer.code, answer.body)
            if isinstance(result, Failure):
                result = with_peer(result, answer, self._origin.host, self._proxy, identity)
            if answer.code != 200:
                twilio_code = twilio_error(answer.code, answer.body)
        if answer is None:
            return Attempt(result, duration)
        return Attempt(
            result=result,
            duration_seconds=duration,
            code=answer.code,
            request_id=parse_request_id(answer.headers, identity),
            server_duration_seconds=parse_server_duration(answer.headers),
            retry_after_seconds=parse_retry_after(answer.headers.get("retry-after"), self._wall()),
            concurrent_requests=parse_concurrent_requests(answer.headers),
            twilio_code=twilio_code,
        )

    async def _send(self, path: str) -> Reply:
        try:
            secret = self._password() if self._bearer is None else self._bearer()
            request = Get(self._origin, path.encode(), self._headers(secret))
            if isinstance(self._transport, BoundedTransport):
                return await self._transport.get(request)
            return reply_of(await self._transport.handle_async_request(request))
        except AttemptError:
            raise
        except Exception as error:  # an unexpected error fails this attempt, not the daemon
            raise unexpected(error) from error

    def _since(self, started: float) -> float:
        """Return the seconds since ``started``, rounded to microseconds."""
        return round(self._monotonic() - started, 6)

    async def aclose(self) -> None:
        """Close all connections; requests in flight fail immediately."""
        await self._transport.aclose()
        if self._tokens is not None:
            await self._tokens.aclose()


def _segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")  # which costs several times the match
