"""The live part of ``check``: what Twilio says about credentials, services, factors and entities.

One request for every service, for one of its factors, and for the first page of every ``[[entities]]`` and
``[[services]]`` entry, within the account's rate limit and concurrency, and without retries. A service of which no
factor is listed is tested with one that these pages show. An account's requests end when its credentials are
refused or it is rate limited. An account with an OAuth app requests an access token first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from exporter.cli.findings import Finding, Severity, Subject
from exporter.cli.progress import progress_bar
from exporter.config import ConfigError
from exporter.daemon.parts import client_of
from exporter.polling.roster import SHORT_DIGITS
from exporter.polling.token import AccessToken
from exporter.verify.answers import is_not_found
from exporter.verify.outcome import (
    HINTS,
    Answer,
    EntityPage,
    FactorPage,
    Failure,
    Operation,
    Reason,
    ServiceAnswer,
    Status,
    TokenAnswer,
)
from exporter.verify.permissions import OPTIONAL_PERMISSIONS, PERMISSIONS, needed_permissions
from exporter.watched import EntityKey, FactorKey, WatchedEntity, WatchedFactor, WatchedService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.cli.progress import Bar
    from exporter.config import Config
    from exporter.verify.client import VerifyClient
    from exporter.verify.outcome import Attempt

_LISTINGS = (Subject.ENTITY, Subject.ENTITIES)
_UNTOLD = "a deleted service can't be told from deleted factors"
_BAD_CREDENTIALS, _INACTIVE_ACCOUNT = 20003, 20005

_MEANINGS = MappingProxyType(
    {
        Reason.TIMEOUT: "the API did not respond within polling.timeout",
        Reason.CONNECT: "the API can't be reached",
        Reason.DNS: "the API can't be reached",
        Reason.TLS: "no trusted connection to the API",
        Reason.AUTH: "Twilio refuses the credentials",
        Reason.FORBIDDEN: "the credentials lack a permission",
        Reason.RATE_LIMITED: "the account sends too many requests, perhaps from elsewhere",
        Reason.BAD_REQUEST: "Twilio can't answer the request",
        Reason.SERVER_ERROR: "the API failed",
        Reason.DECODE: "the response is not one of the Verify API",
        Reason.UNKNOWN_STATUS: "the factor has a status that this version does not know",
        Reason.INTERNAL: "the exporter failed",
    }
)


@dataclass(frozen=True, slots=True)
class LiveProbe:
    """One request: Fetch Service, Fetch Factor, or the first page of List Factors or List Entities.

    ``entry`` is the name of the ``[[services]]`` entry that an entity was found by.
    """

    target: str | WatchedFactor | WatchedEntity | WatchedService
    service_sid: str
    entry: str = ""

    async def send(self, client: VerifyClient) -> Attempt:
        """Send the request."""
        match self.target:
            case WatchedFactor() as factor:
                return await client.fetch_factor(factor)
            case WatchedEntity() as entity:
                return await client.list_factors(entity)
            case WatchedService() as service:
                return await client.list_entities(service.key.service_sid)
            case service_sid:
                return await client.fetch_service(service_sid)

    @property
    def subject(self) -> Subject:
        """What it is about."""
        match self.target:
            case WatchedFactor():
                return Subject.FACTOR
            case WatchedEntity():
                return Subject.ENTITY
            case WatchedService():
                return Subject.ENTITIES
        return Subject.SERVICE

    @property
    def permission(self) -> str:
        """The permission that it needs."""
        return PERMISSIONS[_OPERATIONS[self.subject]]

    @property
    def name(self) -> str:
        """The name of the factor, the entity or the ``[[services]]`` entry, empty for a service itself."""
        return "" if isinstance(self.target, str) else self.target.name


_OPERATIONS = MappingProxyType(
    {
        Subject.FACTOR: Operation.FETCH,
        Subject.ENTITY: Operation.LIST,
        Subject.ENTITIES: Operation.LIST_ENTITIES,
        Subject.SERVICE: Operation.SERVICE,
    }
)


def probes_of(config: Config, account: str) -> list[LiveProbe]:
    """Return the requests for an account: per service itself and its first polled factor, then the first pages."""
    first: dict[str, WatchedFactor | None] = {}
    for factor in config.factors:
        if factor.key.account == account:
            sid = factor.key.service_sid
            if first.setdefault(sid, None) is None and not factor.paused:
                first[sid] = factor
    entries: list[WatchedEntity | WatchedService] = [*config.entities, *config.services]
    listed = [LiveProbe(entry, entry.key.service_sid) for entry in entries if entry.key.account == account]
    for probe in listed:
        first.setdefault(probe.service_sid, None)
    probes: list[LiveProbe] = []
    for sid, chosen in first.items():
        probes.append(LiveProbe(sid, sid))
        if chosen is not None:
            probes.append(LiveProbe(chosen, sid))
    return probes + listed


def follow_ups(config: Config, attempts: Mapping[LiveProbe, Attempt]) -> list[LiveProbe]:
    """Return the requests for a factor of each service of which none was requested, as far as pages show one.

    For a ``[[services]]`` entry, that takes the page of an entity first.
    """
    tested = {probe.service_sid for probe in attempts if probe.subject is Subject.FACTOR}
    chosen: dict[str, LiveProbe] = {}
    for probe, attempt in attempts.items():
        if probe.service_sid not in tested and (shown := _shown(config, probe, attempt)) is not None:
            before = chosen.get(probe.service_sid)
            if shown not in attempts and (before is None or before.subject is not Subject.FACTOR):
                chosen[probe.service_sid] = shown
    return list(chosen.values())


def _shown(config: Config, probe: LiveProbe, attempt: Attempt) -> LiveProbe | None:
    """Return the request for the first factor, or the first entity of this shard, that a page shows."""
    match probe.target, attempt.result:
        case WatchedEntity() as entity, FactorPage(factors=[first, *_]):
            key = FactorKey(entity.key.account, probe.service_sid, first.sid)
            name = f"{probe.entry or entity.name}-{first.sid[-SHORT_DIGITS:]}"
            factor = WatchedFactor(key, name, entity.key.identity, entity.interval_seconds)
            return LiveProbe(factor, probe.service_sid)
        case WatchedService() as service, EntityPage(entities=entities):
            for found in entities:
                of = EntityKey(*service.key, found.identity)
                if config.shard.holds(*of):
                    name = f"{service.name}-{found.sid[-SHORT_DIGITS:]}"
                    of_service = WatchedEntity(of, name, service.interval_seconds)
                    return LiveProbe(of_service, probe.service_sid, service.name)
    return None


async def diagnose(config: Config) -> list[Finding]:
    """Send the requests of every account; return what they mean."""
    with progress_bar(0, "request") as bar:
        found = await asyncio.gather(*(_account(config, name, bar) for name in config.settings.accounts))
    return [finding for findings in found for finding in findings]


async def _account(config: Config, name: str, bar: Bar) -> list[Finding]:
    following = probes_of(config, name)
    if not following:
        seen = "not checked, because it has no factor, entity or service to watch"
        return [_of_account(name, Subject.CREDENTIALS, Severity.WARNING, seen)]
    token = AccessToken()
    try:
        client = client_of(config, name, token=token)
    except ConfigError as error:
        return [
            Finding(
                severity=Severity.ERROR,
                subject=Subject.CONFIGURATION,
                place=detail.place,
                seen=detail.problem,
                hint=detail.hint,
                account=name,
            )
            for detail in error.errors
        ]
    account = config.settings.accounts[name]
    gap_seconds = 1 / account.requests_per_second
    attempts: dict[LiveProbe, Attempt] = {}
    probes: list[LiveProbe] = []
    try:
        if account.oauth is not None and (findings := await _lacks_token(name, client, token, len(following))):
            return [*findings, _permissions(config, name)]
        while following:
            probes += following
            bar.total = (bar.total or 0) + len(following)
            await _send(
                following,
                attempts,
                client,
                bar.update,
                gap_seconds=gap_seconds,
                concurrency=account.max_concurrency,
            )
            following = [] if any(map(_ends_all, attempts.values())) else follow_ups(config, attempts)
            await asyncio.sleep(gap_seconds if following else 0)
    finally:
        await client.aclose()
    return [*_interpreted(name, probes, attempts), _permissions(config, name)]


async def _lacks_token(account: str, client: VerifyClient, token: AccessToken, requests: int) -> list[Finding]:
    """Request an access token for this many requests; return what is wrong if there is none."""
    attempt = await client.request_token()
    answer = attempt.result
    if isinstance(answer, TokenAnswer):
        token.obtained(answer)
        return []
    refused = _refused(attempt)
    seen = "refused" if refused else "not known, because there is no access token"
    credentials = _of_account(
        account,
        Subject.CREDENTIALS,
        Severity.ERROR,
        f"{seen} ({_evidence(attempt)})",
        hint=answer.hint if isinstance(answer, Failure) else "",
        http_status=attempt.code,
        twilio_code=attempt.twilio_code,
        request_id=attempt.request_id,
        reason=answer.reason if isinstance(answer, Failure) else "",
    )
    return [credentials, _unsent(account, requests, requests, "there is no access token")]


async def _send(
    probes: list[LiveProbe],
    attempts: dict[LiveProbe, Attempt],
    client: VerifyClient,
    sent: Callable[[], object],
    *,
    gap_seconds: float,
    concurrency: int,
) -> None:
    """Send the requests, the first one alone, and add their attempts.

    After a refusal of the credentials or a 429, no more are sent.
    """
    waiting = iter(probes)
    loop = asyncio.get_running_loop()
    next_at = loop.time()

    async def send_until_refused() -> None:
        nonlocal next_at
        for probe in waiting:
            start_at, next_at = next_at, max(next_at, loop.time()) + gap_seconds
            await asyncio.sleep(start_at - loop.time())
            if any(map(_ends_all, attempts.values())):
                return
            attempts[probe] = await probe.send(client)
            sent()
            if len(attempts) == 1:
                await asyncio.gather(*(send_until_refused() for _ in range(concurrency)))

    await send_until_refused()


def _ends_all(attempt: Attempt) -> bool:
    """Return whether further requests of the account are pointless: its credentials or its rate are refused."""
    return isinstance(attempt.result, Failure) and (
        attempt.result.reason in (Reason.AUTH, Reason.RATE_LIMITED) or _refused(attempt)
    )


def _refused(attempt: Attempt) -> bool:
    """Return whether a response refuses the credentials or the account as a whole."""
    return isinstance(attempt.result, Failure) and (
        attempt.result.reason is Reason.AUTH or attempt.twilio_code in (_BAD_CREDENTIALS, _INACTIVE_ACCOUNT)
    )


def _accepted(attempt: Attempt) -> bool:
    """Return whether Twilio answered, which shows that it accepts the credentials."""
    return not isinstance(attempt.result, Failure) or (
        attempt.result.reason is Reason.BAD_REQUEST and attempt.twilio_code is not None
    )


# What the responses mean


def _interpreted(account: str, probes: list[LiveProbe], attempts: Mapping[LiveProbe, Attempt]) -> Iterator[Finding]:
    """Yield an account's findings: credentials, then the requests in their order."""
    yield _credentials(account, list(attempts.values()))
    exists = {
        probe.service_sid: attempt.result.exists
        for probe, attempt in attempts.items()
        if isinstance(attempt.result, ServiceAnswer)
    }
    others_answered = any(map(_accepted, attempts.values()))
    for probe in probes:
        if probe in attempts:
            yield _finding(account, probe, attempts[probe], exists.get(probe.service_sid), others_answered)
    if unsent := len(probes) - len(attempts):
        yield _unsent(account, unsent, len(probes), "Twilio refused an earlier one")


def _unsent(account: str, unsent: int, requests: int, why: str) -> Finding:
    """Return the finding that some of an account's requests were not sent."""
    seen = f"{unsent} of {requests} requests not sent, because {why}"
    return _of_account(account, Subject.REQUESTS, Severity.ERROR, seen, hint="fix that first, then check again")


def _permissions(config: Config, account: str) -> Finding:
    """Return the finding that names what an account's restricted API key or OAuth app needs, for all shards."""
    permissions = needed_permissions(
        entities=account in config.with_entities,
        services=any(service.key.account == account for service in config.services),
    )
    required = [name for name in permissions if name not in OPTIONAL_PERMISSIONS]
    optional = tuple(name for name in permissions if name in OPTIONAL_PERMISSIONS)
    holder = "a restricted API key" if config.settings.accounts[account].oauth is None else "an OAuth app"
    listing = PERMISSIONS[Operation.LIST]
    unknown = config.unloaded and listing not in permissions
    return _of_account(
        account,
        Subject.PERMISSIONS,
        Severity.INFO,
        f"{holder} needs {', '.join(required)}",
        meaning=f"without {', '.join(optional)}, {_UNTOLD}; "
        "these names are not from Twilio's documentation and may differ in the console",
        hint=f"if a URL that was not loaded lists entities, {listing} is needed, too" if unknown else "",
        permissions=permissions,
        optional_permissions=optional,
    )


def _of_account(account: str, subject: Subject, severity: Severity, seen: str, **more: Any) -> Finding:
    """Return a finding about a whole account; ``more`` are further fields."""
    place = f"{account}: {subject}"
    return Finding(severity=severity, subject=subject, place=place, seen=seen, account=account, **more)


def _credentials(account: str, attempts: Sequence[Attempt]) -> Finding:
    refused = next(filter(_refused, attempts), None)
    if any(map(_accepted, attempts)):
        return _of_account(account, Subject.CREDENTIALS, Severity.OK, "accepted")
    if refused is not None:
        return _of_account(
            account,
            Subject.CREDENTIALS,
            Severity.ERROR,
            f"refused ({_evidence(refused)})",
            hint=_refusal_hint(refused),
            http_status=refused.code,
            twilio_code=refused.twilio_code,
            request_id=refused.request_id,
        )
    forbidden = next(filter(_forbidden, attempts), None)
    if forbidden is None:
        seen = "not known, because no request got an answer of the Verify API"
        return _of_account(account, Subject.CREDENTIALS, Severity.ERROR, seen, hint="see the other errors")
    return _of_account(
        account,
        Subject.CREDENTIALS,
        Severity.ERROR,
        f"not known, because Twilio refused every request that it answered ({_evidence(forbidden)})",
        hint="see the other errors",
        http_status=forbidden.code,
        twilio_code=forbidden.twilio_code,
        request_id=forbidden.request_id,
    )


def _refusal_hint(attempt: Attempt) -> str:
    if attempt.twilio_code == _INACTIVE_ACCOUNT:
        return "the account is not active: check it in Twilio's console"
    return HINTS[Reason.AUTH]


def _finding(
    account: str, probe: LiveProbe, attempt: Attempt, service_exists: bool | None, others_answered: bool
) -> Finding:
    severity, seen, meaning, hint = _reading(probe, attempt, service_exists, others_answered)
    sid = probe.service_sid
    of = "entities of" if probe.subject is Subject.ENTITIES else probe.subject
    shown = f'{of} "{probe.name}" ({sid})' if probe.name else f"{of} {sid}"
    return Finding(
        severity=severity,
        subject=probe.subject,
        place=f"{account}: {shown}",
        seen=f"{seen} ({_evidence(attempt)})",
        meaning=meaning,
        hint=hint,
        account=account,
        service_sid=probe.service_sid,
        name=probe.name,
        http_status=attempt.code,
        twilio_code=attempt.twilio_code,
        request_id=attempt.request_id,
        reason=attempt.result.reason if isinstance(attempt.result, Failure) else "",
        permissions=(probe.permission,) if _forbidden(attempt) else (),
    )


def _reading(
    probe: LiveProbe, attempt: Attempt, service_exists: bool | None, others_answered: bool
) -> tuple[Severity, str, str, str]:
    """Return how bad a result is, what was seen, what it means, and what to do."""
    match attempt.result:
        case ServiceAnswer(exists=True) | TokenAnswer():  # a token is requested before the probes
            return Severity.OK, "exists", "", ""
        case ServiceAnswer():
            return (
                Severity.ERROR,
                "not found",
                "this account has no such service",
                "check service_sid, and that the service was not deleted and belongs to this account",
            )
        case Answer(status=Status.NOT_FOUND):
            return Severity.ERROR, "not found", *_missing(service_exists, Subject.FACTOR)
        case Answer(status=status):
            return Severity.OK, status, "", ""
        case FactorPage(factors=factors, next_query=following):
            listed = "1 factor listed" if len(factors) == 1 else f"{len(factors)} factors listed"
            return Severity.OK, f"{listed}, and more" if following else listed, "", ""
        case EntityPage(unusable=[_, *_] as unusable):
            found = "1 entity" if len(unusable) == 1 else f"{len(unusable)} entities"
            problem = f"the identity of {found} can't be part of a path, so its factors aren't watched"
            return Severity.ERROR, "failed", problem, f"the first one is {unusable[0]}"
        case EntityPage(entities=entities, next_query=following):
            listed = "1 entity listed" if len(entities) == 1 else f"{len(entities)} entities listed"
            return Severity.OK, f"{listed}, and more" if following else listed, "", ""
        case Failure(reason=Reason.FORBIDDEN) if _forbidden(attempt):
            return _lacking(probe, others_answered)
        case Failure() if probe.subject in _LISTINGS and is_not_found(attempt.code, attempt.twilio_code):
            return Severity.ERROR, "not found", *_missing(service_exists, probe.subject)
        case Failure() if _refused(attempt):
            return Severity.ERROR, "refused", _MEANINGS[Reason.AUTH], _refusal_hint(attempt)
        case Failure(reason=reason) as failure:
            # Twilio's own errors have a code; a redirect or a 407 is from something else.
            foreign = reason is Reason.BAD_REQUEST and attempt.twilio_code is None
            return Severity.ERROR, "failed", _MEANINGS[Reason.DECODE if foreign else reason], failure.hint


def _lacking(probe: LiveProbe, others_answered: bool) -> tuple[Severity, str, str, str]:
    """Return what a 403 means: a permission, or the whole account if Twilio answered no other request."""
    hint = f"give the API key or the OAuth app the permission {probe.permission}"
    if not others_answered:
        meaning = f"{_MEANINGS[Reason.FORBIDDEN]}, or they are not those of this service's account"
        return Severity.ERROR, "refused", meaning, f"{hint}, and check its account, which may be suspended"
    if probe.subject is not Subject.SERVICE:
        return Severity.ERROR, "refused", _MEANINGS[Reason.FORBIDDEN], hint
    meaning = f"{_MEANINGS[Reason.FORBIDDEN]}; without it, {_UNTOLD}"
    return Severity.WARNING, "refused", meaning, hint


def _forbidden(attempt: Attempt) -> bool:
    """Return whether a request lacked a permission."""
    failure = attempt.result
    return isinstance(failure, Failure) and failure.reason is Reason.FORBIDDEN and not _refused(attempt)


def _missing(service_exists: bool | None, what: Subject) -> tuple[str, str]:
    """Return what a 404 means for this subject, given what is known of its service, and what to do."""
    if service_exists is False:
        return "its service does not exist", "correct the service first"
    if what is Subject.ENTITIES:
        if service_exists:
            return "the service exists, but this address has no list of its entities", "check base_url"
        return "this account has no such service", "check service_sid and base_url"
    if what is Subject.ENTITY:
        keys, meaning = "identity", "the entity does not exist, or has no factor yet"
    else:
        keys, meaning = "identity and factor_sid", "the factor does not exist, or belongs to another entity"
    if service_exists:
        return f"the service exists, but {meaning}", f"check {keys}, and whether it was deleted"
    return f"{meaning}, or its service doesn't", f"check service_sid, {keys} and base_url"


def _evidence(attempt: Attempt) -> str:
    """Return what the API responded, in words: HTTP status, Twilio's error code, request ID and duration."""
    if isinstance(attempt.result, Failure):
        responded = attempt.result.detail or attempt.result.reason.replace("_", " ")
    elif attempt.twilio_code is None:
        responded = f"HTTP {attempt.code}"
    else:
        responded = f"HTTP {attempt.code}, Twilio error {attempt.twilio_code}"
    request = f", request {attempt.request_id}" if attempt.request_id else ""
    return f"{responded}{request}, {attempt.duration_seconds * 1000:.0f} ms"
