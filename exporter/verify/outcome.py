"""What a look at a factor can end in; the closed lists that metrics, logs and pages share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType


class Status(StrEnum):
    """What the API last said of a factor; ``NOT_FOUND`` is an answer (404), not a failure."""

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
        """Whether the API refused the credentials, which may concern the whole account."""
        return self in (Reason.AUTH, Reason.FORBIDDEN)

    @property
    def needs_a_change(self) -> bool:
        """Whether asking again soon is pointless: the same request gets the same answer."""
        return self in (Reason.BAD_REQUEST, Reason.DECODE, Reason.UNKNOWN_STATUS)


class Operation(StrEnum):
    """Which call of the API; the values of the label ``operation``."""

    FETCH = "fetch"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Answer:
    """A definite answer: a known status, and what the API told beside it.

    Timestamps are seconds since the epoch, ``None`` where missing or unreadable; ``factor_type`` and
    ``entity_sid`` are empty where the answer did not tell them.
    """

    status: Status
    created_seconds: float | None = None
    updated_seconds: float | None = None
    factor_type: str = ""
    entity_sid: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """No definite answer; ``detail`` is for people and holds neither identity nor secret."""

    reason: Reason
    detail: str = ""


@lru_cache(maxsize=256)
def one_of_alike(failure: Failure) -> Failure:
    """Return the same object for failures that are alike: in an outage every factor keeps one."""
    return failure


@dataclass(frozen=True, slots=True)
class FactorPage:
    """One page of an entity's factors: their SIDs, and the address of the next page if there is one."""

    factor_sids: tuple[str, ...]
    next_url: str | None = field(default=None, repr=False)  # holds the identity


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what came of it.

    ``code`` is the HTTP status or ``None`` where none arrived; ``server_duration_seconds`` is Twilio's own
    figure (``Twilio-Request-Duration``); ``retry_after_seconds`` is a readable ``Retry-After``, bounded;
    ``concurrent_requests`` is how many requests of the account Twilio saw at once, this one among them.
    """

    result: Answer | FactorPage | Failure
    duration_seconds: float
    code: int | None = None
    request_id: str = ""
    server_duration_seconds: float | None = None
    retry_after_seconds: float | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fetch (one or more attempts) ended in.

    ``duration_seconds`` runs from the first attempt's start to the end, pauses between attempts included, the
    wait for a slot not. ``alone`` marks a refusal that concerns this factor and not its account.
    """

    result: Answer | Failure
    duration_seconds: float
    attempts: int = 1
    code: int | None = None
    request_id: str = ""
    alone: bool = False


HINTS = MappingProxyType(
    {
        Reason.TIMEOUT: "the API is slow or out of reach; see polling.timeout and the network",
        Reason.CONNECT: "check the network, the firewall and the proxy",
        Reason.DNS: "check base_url and the name servers",
        Reason.TLS: "check ca_file, a proxy that opens TLS, and this machine's clock",
        Reason.AUTH: "check the account's username and password",
        Reason.FORBIDDEN: "give the API key permission to read Verify factors",
        Reason.RATE_LIMITED: "lower requests_per_second or max_concurrency, or lengthen intervals",
        Reason.BAD_REQUEST: "check service_sid, identity and factor_sid",
        Reason.SERVER_ERROR: "Twilio's side; see its status page",
        Reason.DECODE: "something other than the API answered; check base_url and the proxy",
        Reason.UNKNOWN_STATUS: "the API answered a status that this version doesn't know; look for a newer one",
        Reason.INTERNAL: "a fault of the exporter; see its log and report it",
    }
)
"""Reason of a failure → its hint, which names the keys of the configuration that bear on it."""
