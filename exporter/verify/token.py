"""The token endpoint of an account's OAuth app: the request for an access token, and what a response means.

Client credentials (RFC 6749 §4.4), as Twilio documents them: https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token
Apart from ``client``, because it is another host with answers of its own.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx

from exporter.verify.answers import (
    describe_error,
    error_number,
    parse_json,
    parse_request_id,
    parse_retry_after,
    reason_of_code,
    twilio_error,
)
from exporter.verify.attempt import USER_AGENT, log_if_internal, with_peer
from exporter.verify.outcome import TOKEN_ENDPOINT, Attempt, Failure, Reason, TokenAnswer, from_proxy
from exporter.verify.request import post
from exporter.verify.transport import AttemptError, reply_of, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.verify.transport import Reply

DEFAULT_LIFETIME_SECONDS = 300.0
LONGEST_LIFETIME_SECONDS = 30 * 86_400.0  # the longest that Twilio offers

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")  # RFC 6750 §2.1
_DIGITS = re.compile(r"[0-9]{1,15}")
# RFC 6749 §5.2; the rest of a response may repeat the request.
_REFUSALS = frozenset(("invalid_client", "invalid_grant", "unauthorized_client", "invalid_scope", "access_denied"))
_MISTAKES = frozenset(("invalid_request", "unsupported_grant_type"))
# Source: https://www.twilio.com/docs/api/errors/322402, …/321401, …/20003 and …/20005
_REFUSED_CODES = frozenset((322402, 321401, 20003, 20005))
_ERROR_BODY_BYTES = 65536


class TokenClient:
    """Requests access tokens with the credentials of an OAuth app, one request per call and without retries.

    ``client_secret`` is called for every request. ``transport`` leads to the token endpoint, as an account's
    transport leads to the API: with the same proxy, certificate authorities and limits. ``proxy`` is the proxy's
    host and port, for messages.
    """

    def __init__(
        self,
        *,
        url: str,
        client_id: str,
        client_secret: Callable[[], str],
        transport: httpx.AsyncBaseTransport,
        proxy: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._url = httpx.URL(url)
        self._client_id = client_id
        self._client_secret = client_secret
        self._transport = transport
        self._proxy = proxy
        self._monotonic = monotonic
        self._wall = wall

    async def request_token(self) -> Attempt:
        """Request an access token; the result is a :class:`TokenAnswer` or a failure.

        Raises nothing except on cancellation.
        """
        started = self._monotonic()
        try:
            answer = await self._send()
        except AttemptError as error:
            log_if_internal(error)
            failure = Failure(error.reason, f"{TOKEN_ENDPOINT}{from_proxy(error.detail, self._proxy)}")
            code = None if error.answer is None else error.answer.code
            return Attempt(failure, self._since(started), code)
        duration = self._since(started)
        result = interpret_token(answer.code, answer.body)
        if isinstance(result, Failure):
            named = with_peer(result, answer, self._url.host, self._proxy)
            result = Failure(named.reason, f"{TOKEN_ENDPOINT}{named.detail}")
        return Attempt(
            result,
            duration,
            answer.code,
            request_id=parse_request_id(answer.headers),
            retry_after_seconds=parse_retry_after(answer.headers.get("retry-after"), self._wall()),
            twilio_code=twilio_error(answer.code, answer.body),
        )

    async def _send(self) -> Reply:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._client_secret(),
        }
        try:
            request = post(self._url, urlencode(form).encode(), USER_AGENT)
            return reply_of(await self._transport.handle_async_request(request))
        except AttemptError:
            raise
        except Exception as error:  # an unexpected error fails this attempt, not the daemon
            raise unexpected(error) from error

    def _since(self, started: float) -> float:
        return round(self._monotonic() - started, 6)

    async def aclose(self) -> None:
        """Close all connections; a request in flight fails immediately."""
        await self._transport.aclose()


def interpret_token(code: int, body: bytes) -> TokenAnswer | Failure:
    """Return the access token in a response of the token endpoint, or why there is none.

    A refusal of the app (400, 401 or 403 with an error of OAuth or Twilio) is ``auth``.
    """
    if code == 200:
        return _token(body)
    document = _document(body)
    number, named = error_number(document), document.get("error")
    known = named if isinstance(named, str) and named in _REFUSALS | _MISTAKES else ""
    detail = f"HTTP {code}, OAuth error {known}" if known and number is None else describe_error(code, body)
    if code not in (400, 401, 403):
        return Failure(reason_of_code(code), detail)
    if known in _REFUSALS or number in _REFUSED_CODES:
        return Failure(Reason.AUTH, detail)
    if code == 400:
        return Failure(Reason.BAD_REQUEST, detail)
    if known or number is not None:
        return Failure(Reason.AUTH, detail)
    return Failure(Reason.DECODE, f"HTTP {code}, but the body is neither an OAuth nor a Twilio error")


def _token(body: bytes) -> TokenAnswer | Failure:
    document = _document(body)
    token, kind = document.get("access_token"), document.get("token_type", "bearer")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return Failure(Reason.DECODE, "HTTP 200, but the body has no valid access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return Failure(Reason.DECODE, "HTTP 200, but the access token is not a bearer token")
    return TokenAnswer(token, _lifetime(document.get("expires_in")))


def _lifetime(value: Any) -> float:
    """Return ``expires_in`` in seconds: 5 minutes where it is missing, invalid or not positive."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return DEFAULT_LIFETIME_SECONDS
    return float(min(value, LONGEST_LIFETIME_SECONDS))


def _document(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; empty if there is none, or it is too large."""
    if len(body) > _ERROR_BODY_BYTES:
        return {}
    try:
        document = parse_json(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
