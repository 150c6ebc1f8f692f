"""Factors to watch and outcomes to apply, with short names."""

from __future__ import annotations

import hashlib

from exporter.verify.outcome import Answer, FactorPage, Failure, ListedFactor, Outcome, Reason, Status
from exporter.watched import FactorKey, WatchedFactor

SERVICES = tuple("VA" + digit * 32 for digit in "abcdef")

_CODES = {
    Reason.AUTH: 401,
    Reason.FORBIDDEN: 403,
    Reason.RATE_LIMITED: 429,
    Reason.BAD_REQUEST: 400,
    Reason.SERVER_ERROR: 503,
    Reason.DECODE: 200,
    Reason.UNKNOWN_STATUS: 200,
}


def key(number: int, *, account: str = "main", service: int = 0) -> FactorKey:
    """Return the key of the factor with this number."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    return FactorKey(account, SERVICES[service], "YF" + digest)


def listed_page(*listed: FactorKey, following: str | None = None) -> FactorPage:
    """Return the page that lists these factors, as TOTP factors."""
    return FactorPage(tuple(ListedFactor(of.factor_sid, "totp") for of in listed), following)


def factor(
    number: int,
    *,
    account: str = "main",
    service: int = 0,
    interval: float = 300.0,
    paused: bool = False,
) -> WatchedFactor:
    """Return the factor with this number."""
    return WatchedFactor(
        key(number, account=account, service=service),
        name=f"factor-{number}",
        identity=f"identity-{number}",
        interval_seconds=interval,
        paused=paused,
    )


def factors(
    count: int, *, account: str = "main", services: int = 1, interval: float = 300.0
) -> list[WatchedFactor]:
    """Return this many factors, distributed over the services."""
    return [factor(n, account=account, service=n % services, interval=interval) for n in range(count)]


def code_of(result: Answer | Failure) -> int | None:
    """Return the HTTP status that a result comes with."""
    if isinstance(result, Answer):
        return 404 if result.status is Status.NOT_FOUND else 200
    return _CODES.get(result.reason)


def outcome(
    result: Status | Reason | Answer, *, duration: float = 0.1, attempts: int = 1, alone: bool = False
) -> Outcome:
    """Return an outcome with a status, or a failure with a reason."""
    match result:
        case Status():
            full: Answer | Failure = Answer(result)
        case Reason():
            full = Failure(result)
        case _:
            full = result
    return Outcome(full, duration, attempts, code_of(full), "RQ1", alone)
