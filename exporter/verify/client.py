"""The Verify client of one account: asks for a factor, once, and tells what came of it."""

from __future__ import annotations

import logging
import platform
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from exporter import __version__
from exporter.verify.answers import interpret, parse_request_id, parse_retry_after, parse_server_duration
from exporter.verify.outcome import Attempt, Failure, Reason
from exporter.verify.transport import AttemptError, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.watched import WatchedFactor

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
        self._root = base_url.rstrip("/") + "/v2/Services/"
        self._username = username
        self._password = password
        self._monotonic = monotonic
        self._wall = wall
        self._client = httpx.AsyncClient(
            transport=transport, follow_redirects=False, trust_env=False, cookies=_no_cookies()
        )
        self._headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }

    def factor_url(self, watched: WatchedFactor) -> str:
        """Return the address of a factor; it holds the identity and is not for any output."""
        service = quote(watched.key.service_sid, safe="")
        identity = quote(watched.identity, safe="")
        return f"{self._root}{service}/Entities/{identity}/Factors/{quote(watched.key.factor_sid, safe='')}"

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        """Ask for one factor, once. Never raises but for cancellation."""
        request = httpx.Request("GET", self.factor_url(watched), headers=self._headers)
        started = self._monotonic()
        try:
            response = await self._client.send(request, auth=httpx.BasicAuth(self._username, self._password()))
        except AttemptError as error:
            return Attempt(Failure(error.reason, error.detail), self._since(started))
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this fetch's failure, not the daemon's end
            failure = failure_of(error)
            if failure.reason is Reason.INTERNAL:
                log.error("%s in %s", type(error).__name__, _place_of(error))
            return Attempt(Failure(failure.reason, failure.detail), self._since(started))
        duration = self._since(started)
        headers = response.headers
        return Attempt(
            result=interpret(response.status_code, response.content, watched.key.factor_sid),
            duration_seconds=duration,
            code=response.status_code,
            request_id=parse_request_id(headers),
            server_duration_seconds=parse_server_duration(headers),
            retry_after_seconds=parse_retry_after(headers.get("retry-after"), self._wall()),
        )

    def _since(self, started: float) -> float:
        """Return the seconds since ``started``, to the microsecond."""
        return round(self._monotonic() - started, 6)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once."""
        await self._client.aclose()


def _no_cookies() -> httpx.Cookies:
    """Return a jar that keeps and sends nothing: a poller has no session."""

    return httpx.Cookies(CookieJar(DefaultCookiePolicy(allowed_domains=[])))


def _place_of(error: BaseException) -> str:
    """Return file and line where an error was raised; its message is left out, it may hold a path."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
