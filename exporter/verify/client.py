"""The Verify client of one account: asks for a factor or a list, once, and tells what came of it."""

from __future__ import annotations

import logging
import platform
import time
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from exporter import __version__
from exporter.verify.answers import (
    PAGE_SIZE,
    interpret,
    interpret_page,
    parse_concurrent_requests,
    parse_request_id,
    parse_retry_after,
    parse_server_duration,
)
from exporter.verify.outcome import Answer, Attempt, FactorPage, Failure, Reason
from exporter.verify.request import Get
from exporter.verify.transport import AttemptError, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.watched import WatchedEntity, WatchedFactor

log = logging.getLogger(__name__)

USER_AGENT = (
    f"verify-factor-exporter/{__version__} ({platform.system()} {platform.machine()}) "
    f"Python/{platform.python_version()}"
)


class VerifyClient:
    """Calls the Verify API with one account's credentials.

    ``password`` is asked for at each request, so that a changed password file is used at once. The transport
    is expected to raise :class:`AttemptError`; any other error counts as ``internal`` and is logged without
    its message, which may hold the request's path.
    """

    def __init__(
        self,
        *,
        base_url: str,
        username: str,
        password: Callable[[], str],
        transport: httpx.AsyncBaseTransport,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._origin = httpx.URL(base_url)
        self._root = self._origin.raw_path.decode().rstrip("/") + "/v2/Services/"
        self._username = username
        self._password = password
        self._monotonic = monotonic
        self._wall = wall
        # httpx's own client would add cookies, redirects, hooks and a time-out for each phase: nothing of it is
        # wanted here, and it costs as much again as the request.
        self._transport = transport
        self._headers = httpx.Headers()  # their repr hides what authorizes

    def _with_credentials(self) -> httpx.Headers:
        """Return the headers of a request, made anew only where the password changed."""
        credentials = b64encode(f"{self._username}:{self._password()}".encode()).decode()
        if self._headers.get("Authorization") != f"Basic {credentials}":
            self._headers = httpx.Headers(
                {
                    "Host": self._origin.netloc.decode("ascii"),
                    "User-Agent": USER_AGENT,
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "Authorization": f"Basic {credentials}",
                }
            )
        return self._headers

    def _factors_path(self, service_sid: str, identity: str) -> str:
        """Return the path of an entity's factors; it holds the identity and is not for any output."""
        return f"{self._root}{quote(service_sid, safe='')}/Entities/{quote(identity, safe='')}/Factors"

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        """Ask for one factor, once. Never raises but for cancellation."""
        key = watched.key
        path = f"{self._factors_path(key.service_sid, watched.identity)}/{quote(key.factor_sid, safe='')}"
        return await self._ask(path, lambda code, body: interpret(code, body, key.factor_sid))

    async def list_factors(self, entity: WatchedEntity, page_url: str | None = None) -> Attempt:
        """Ask for one page of an entity's factors, once; the first one, or where the page before said.

        Never raises but for cancellation.
        """
        if page_url is None:
            path = f"{self._factors_path(entity.key.service_sid, entity.key.identity)}?PageSize={PAGE_SIZE}"
        else:
            path = httpx.URL(page_url).raw_path.decode()
        url = str(self._origin.copy_with(raw_path=path.encode()))
        return await self._ask(path, lambda code, body: interpret_page(code, body, url))

    async def _ask(
        self, path: str, interpret_answer: Callable[[int, bytes], Answer | FactorPage | Failure]
    ) -> Attempt:
        started = self._monotonic()
        result: Answer | FactorPage | Failure
        answer: httpx.Response | None
        try:
            answer = await self._send(path)
        except AttemptError as error:
            duration = self._since(started)
            result, answer = Failure(error.reason, error.detail), error.answer
            if error.reason is Reason.INTERNAL:
                cause = error.__cause__ or error
                log.error("%s in %s", type(cause).__name__, _place_of(cause))
        else:
            duration = self._since(started)
            result = interpret_answer(answer.status_code, answer.content)
        if answer is None:
            return Attempt(result, duration)
        return Attempt(
            result=result,
            duration_seconds=duration,
            code=answer.status_code,
            request_id=parse_request_id(answer.headers),
            server_duration_seconds=parse_server_duration(answer.headers),
            retry_after_seconds=parse_retry_after(answer.headers.get("retry-after"), self._wall()),
            concurrent_requests=parse_concurrent_requests(answer.headers),
        )

    async def _send(self, path: str) -> httpx.Response:
        try:
            request = Get(self._origin, path.encode(), self._with_credentials())
            return await self._transport.handle_async_request(request)
        except AttemptError:
            raise
        except Exception as error:  # whatever went wrong is this fetch's failure, not the daemon's end
            raise unexpected(error) from error

    def _since(self, started: float) -> float:
        """Return the seconds since ``started``, to the microsecond."""
        return round(self._monotonic() - started, 6)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once."""
        await self._transport.aclose()


def _place_of(error: BaseException) -> str:
    """Return file and line where an error was raised; its message is left out, it may hold a path."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
