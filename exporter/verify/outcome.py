"""Statuses, reasons, hints and outcomes: the closed lists and values that metrics, logs and pages share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias


class Status(StrEnum):
    """A known status of a factor; ``NOT_FOUND`` is a definite answer (404), not a failure."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    NOT_FOUND = "not_found"


class Reason(StrEnum):
    """Why a fetch ended without a definite answer; the values of the label ``reason``."""

    TIMEOUT = "timeout"
    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    BAD_REQUEST = "bad_request"
    SERVER_ERROR = "server_error"
    DECODE = "decode"
    UNKNOWN_STATUS = "unknown_status"
    INTERNAL = "internal"

    @property
    def refused(self) -> bool:
        """Whether the API refused the credentials, which may affect the whole account."""
        return self in (Reason.AUTH, Reason.FORBIDDEN)

    @property
    def needs_a_change(self) -> bool:
        """Whether a retry is pointless, because the same request would get the same response."""
        return self in (Reason.BAD_REQUEST, Reason.DECODE, Reason.UNKNOWN_STATUS)


HINTS = MappingProxyType(
    {
        Reason.TIMEOUT: "the API is slow or unreachable; check the network, or raise polling.timeout",
        Reason.CONNECT: "check the network, the firewall and the proxy",
        Reason.DNS: "check base_url and the DNS servers",
        Reason.TLS: "check ca_file, any proxy that intercepts TLS, and this machine's clock",
        Reason.AUTH: "check the account's username and password, or its OAuth app: they may be deleted, or those "
        "of another account, subaccount or region; the account may be suspended, or a proxy may have removed the "
        "credentials",
        Reason.FORBIDDEN: "give the API key permission to read Verify factors: a restricted key may lack it; or "
        "the key is of another account or subaccount than the service, or the account is suspended",
        Reason.RATE_LIMITED: "lower requests_per_second or max_concurrency, or use longer intervals",
        Reason.BAD_REQUEST: "check service_sid, identity and factor_sid",
        Reason.SERVER_ERROR: "Twilio's API has a problem; check Twilio's status page",
        Reason.DECODE: "a proxy or gateway may have answered instead of Twilio; check base_url and the proxy",
        Reason.UNKNOWN_STATUS: "this version does not know the status that the API returned; upgrade the exporter",
        Reason.INTERNAL: "this is a bug in the exporter; check its log and report it",
    }
)
"""The hint for each reason: what to do about the failure, with the configuration keys involved."""

TOKEN_ENDPOINT = "token endpoint: "  # noqa: S105  words, no password
"""What the detail of a failure begins with that concerns a request for an access token."""

_TOKEN_HINTS = MappingProxyType(
    {
        Reason.CONNECT: "token_url must be reachable, too: check the network, the firewall and the proxy",
        Reason.TIMEOUT: "the token endpoint is slow or unreachable; check the network, the firewall and the proxy",
        Reason.DNS: "check token_url and the DNS servers",
        Reason.AUTH: "check client_id and client_secret of the account's OAuth app: the app may be deleted or "
        "disabled, or its secret may be rotated and the previous one no longer valid",
        Reason.RATE_LIMITED: "check whether other programs request tokens with the same OAuth app",
        Reason.BAD_REQUEST: "check token_url and client_id",
        Reason.SERVER_ERROR: "the token endpoint has a problem; check Twilio's status page",
        Reason.DECODE: "a proxy or gateway may have answered instead of the token endpoint; check token_url and "
        "the proxy",
    }
)
_REDIRECT = ", a redirect to "
_UNKNOWN_HOST = "an unknown host"
_PROXY = ", from the proxy "
_FROM_CACHE = ", but from a cache ("
_ACCOUNT_NOT_ACTIVE = re.compile(r"Twilio error 20005\b")
_CONNECT_REFUSED = re.compile(r": the proxy (?:(\S+) )?returned HTTP 407")


def hint_of(reason: Reason, detail: str = "") -> str:
    """Return what to do about a failure; more specific than ``HINTS`` if its detail allows it.

    Source of the error codes: https://www.twilio.com/docs/api/errors/20005, …/20003 and …/70051
    """
    if detail.startswith(TOKEN_ENDPOINT):
        hint = hint_of(reason, detail.removeprefix(TOKEN_ENDPOINT))
        if hint == HINTS[reason]:
            return _TOKEN_HINTS.get(reason, hint)
        return hint.replace("base_url", "token_url").replace("the API's address", "the token endpoint's address")
    if _ACCOUNT_NOT_ACTIVE.search(detail):
        return (
            "the Twilio account is not active: it may be suspended, closed or out of funds; check it in the Console"
        )
    _, found, host = detail.rpartition(_REDIRECT)
    if found and host == _UNKNOWN_HOST:
        return "redirects are not followed; check base_url and the proxy"
    if found:
        return (
            f"the response redirects to {host}, and redirects are not followed; if this is the API's address, set "
            "base_url to it, else check the proxy or gateway that answers in Twilio's place"
        )
    if refused := _CONNECT_REFUSED.search(detail):
        return _proxy_hint(refused[1])
    if _FROM_CACHE in detail:
        return "a cache answered in Twilio's place; exempt the API from caching in the proxy or gateway"
    before, _, proxy = detail.partition(_PROXY)
    if before.startswith("HTTP 407"):
        return _proxy_hint(proxy)
    return HINTS[reason]


def _proxy_hint(proxy: str | None) -> str:
    if not proxy:
        return "a proxy requires a user name and password; write them into proxy_url or HTTPS_PROXY"
    return f"the proxy {proxy} requires a user name and password; check those in proxy_url or HTTPS_PROXY"


def redirected(detail: str, host: str) -> str:
    """Return the detail of a failure that is a redirect to this host, empty if it isn't known."""
    return f"{detail}{_REDIRECT}{host or _UNKNOWN_HOST}"


def from_proxy(detail: str, proxy: str) -> str:
    """Return the detail of a failure that the proxy caused, with the proxy's name; empty if there is no proxy."""
    if not proxy:
        return detail
    if ": the proxy " in detail:
        return detail.replace(": the proxy ", f": the proxy {proxy} ")
    return f"{detail}{_PROXY}{proxy}" if detail.startswith("HTTP 407") else detail


INTERMEDIARY_CODES = frozenset((401, 403, 404))
"""The HTTP statuses that count only if the body shows that Twilio sent them; an intermediary may send them, too."""


class Operation(StrEnum):
    """What a request does; the values of the label ``operation``."""

    FETCH = "fetch"
    LIST = "list"
    LIST_ENTITIES = "list_entities"
    SERVICE = "service"
    TOKEN = "token"  # noqa: S105  a word, no password


NOTIFICATION_PLATFORMS = ("apn", "fcm", "none")
"""The notification platforms of push factors. Source: https://www.twilio.com/docs/verify/api/factor"""

OTHER = "other"
"""Stands for every value that isn't in a closed list."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A definite answer: a known status, with other fields of the response.

    Timestamps are seconds since the epoch, ``None`` if missing or invalid; ``factor_type`` and ``entity_sid`` are
    empty if missing or invalid. ``approved_seconds`` is when a passkeys factor last approved a challenge.
    ``notification_platform`` is one of ``NOTIFICATION_PLATFORMS`` or ``OTHER``; it is empty for factors of other
    types than push.
    """

    status: Status
    created_seconds: float | None = None
    updated_seconds: float | None = None
    factor_type: str = ""
    entity_sid: str = ""
    approved_seconds: float | None = None
    notification_platform: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no definite answer; ``detail`` is for people and contains neither identity nor secret.

    ``from_cache`` says that a cache sent the response, not Twilio.
    """

    reason: Reason
    detail: str = ""
    from_cache: bool = False

    @property
    def hint(self) -> str:
        """What to do about it."""
        return hint_of(self.reason, self.detail)


@lru_cache(maxsize=256)
def one_of_alike(failure: Failure) -> Failure:
    """Return one shared object for equal failures, which saves memory when an outage affects every factor."""
    return failure


def cached_failure(code: int, header: str) -> Failure:
    """Return the failure of a response that comes from a cache, as this header shows."""
    return Failure(Reason.DECODE, f"HTTP {code}{_FROM_CACHE}{header})", from_cache=True)


class ListedFactor(NamedTuple):
    """A factor on a page of List Factors; ``factor_type`` is empty if missing or invalid."""

    sid: str
    factor_type: str = ""


@dataclass(frozen=True, slots=True)
class FactorPage:
    """One page of an entity's factors, and the query string of the next page if there is one."""

    factors: tuple[ListedFactor, ...]
    next_query: str | None = field(default=None, repr=False)  # its token may contain anything


class ListedEntity(NamedTuple):
    """An entity on a page of List Entities; ``identity`` is personal data, and ``repr`` doesn't show it.

    An entity from before Twilio limited identities to 8 to 64 letters, digits and hyphens may have another one.
    """

    sid: str
    identity: str

    def __repr__(self) -> str:
        return f"ListedEntity({self.sid!r}, ...)"


@dataclass(frozen=True, slots=True)
class EntityPage:
    """One page of a service's entities, and the query string of the next page if there is one.

    ``unusable`` are the SIDs of entities on it whose identity no request can carry.
    """

    entities: tuple[ListedEntity, ...]
    next_query: str | None = field(default=None, repr=False)  # its token may contain anything
    unusable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """A definite answer to Fetch Service."""

    exists: bool


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """An access token of an account's OAuth app, and its lifetime in seconds."""

    access_token: str = field(repr=False)
    lifetime_seconds: float


Result: TypeAlias = Answer | FactorPage | EntityPage | ServiceAnswer | TokenAnswer | Failure
"""What a response means, by its operation."""


def sent_by_intermediary(code: int | None, result: Result) -> bool:
    """Return whether a proxy, a gateway or a cache sent a response: a 401, 403 or 404, or an old response."""
    if not isinstance(result, Failure):
        return False
    return result.from_cache or (code in INTERMEDIARY_CODES and result.reason is Reason.DECODE)


class Attempt(NamedTuple):
    """One request and its result.

    ``code`` is the HTTP status, ``None`` if none arrived; ``server_duration_seconds`` is Twilio's own measurement
    (``Twilio-Request-Duration``); ``retry_after_seconds`` is a valid ``Retry-After``, limited;
    ``concurrent_requests`` is the number of the account's requests that Twilio saw at once, including this one.
    ``twilio_code`` is the code of a Twilio error, ``None`` where the response is none.
    """

    result: Result
    duration_seconds: float
    code: int | None = None
    request_id: str = ""
    server_duration_seconds: float | None = None
    retry_after_seconds: float | None = None
    concurrent_requests: int | None = None
    twilio_code: int | None = None

    @property
    def by_intermediary(self) -> bool:
        """Whether this is a 401, 403 or 404 that Twilio did not send, or from a cache."""
        return sent_by_intermediary(self.code, self.result)


class Outcome(NamedTuple):
    """How a fetch ended, after one or more attempts.

    ``duration_seconds`` runs from the start of the first attempt to the end of the last; it includes backoff and
    excludes waits for a slot. ``alone`` marks refused credentials that affect this factor only, not its account;
    ``lacks_token`` a failure for lack of an access token, for which the API got no request.
    ``code``, ``twilio_code`` and ``request_id`` are those of the last response.
    """

    result: Answer | Failure
    duration_seconds: float
    attempts: int = 1
    code: int | None = None
    request_id: str = ""
    alone: bool = False
    twilio_code: int | None = None
    lacks_token: bool = False

    @property
    def by_intermediary(self) -> bool:
        """Whether the last response was a 401, 403 or 404 that Twilio did not send, or from a cache."""
        return sent_by_intermediary(self.code, self.result)
