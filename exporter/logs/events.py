"""The log lines of polling: an event in full when it is new, a count while it lasts, a line at its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exporter.logs.folding import Folding, FullLogger
from exporter.logs.mass_not_found import MassNotFoundDetector
from exporter.logs.output import fields
from exporter.polling.clients import RotationReason
from exporter.polling.observer import Observer
from exporter.verify.outcome import HINTS, Answer, Failure, Reason, ServiceAnswer, Status
from exporter.watched import EntityKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Outcome
    from exporter.watched import FactorKey, ServiceKey, WatchedEntity, WatchedService

log = FullLogger(logging.getLogger(__name__))  # collapsed here already

_ROTATIONS = {
    RotationReason.STUCK: "a request did not end in time",
    RotationReason.SILENT: "no request was answered",
}
FULL_LINES = 5
_UNBOUNDED = 1 << 30  # the keys are accounts and entities, and as few as are configured


class EventLog(Observer):
    """Logs status changes, failures and pauses.

    Failures of one account for one reason are one episode. In every five minutes the first five factors are
    logged in full and the rest as a count; the end of the episode is logged too. ``steady`` gives seconds,
    ``service_size`` the number of factors of an account's service, ``stretch`` the factor by which an account's
    intervals are stretched.
    """

    def __init__(
        self,
        steady: Callable[[], float],
        *,
        service_size: Callable[[str, str], int] = lambda _account, _service_sid: 0,
        stretch: Callable[[str], float] = lambda _account: 1.0,
    ) -> None:
        self._steady = steady
        self._service_size = service_size
        self._stretch = stretch
        self._services: dict[tuple[str, str], MassNotFoundDetector] = {}
        self._failures: Folding[tuple[str, Reason]] = Folding(steady, full_lines=FULL_LINES, most=_UNBOUNDED)
        self._members: dict[tuple[str, Reason], set[FactorKey]] = {}
        self._failing: dict[FactorKey, Reason] = {}
        self._withdrawn: Folding[str] = Folding(steady, full_lines=FULL_LINES, most=_UNBOUNDED)
        self._pauses: Folding[str] = Folding(steady, most=_UNBOUNDED)
        self._renewals: Folding[str] = Folding(steady, most=_UNBOUNDED)
        self._listings: Folding[EntityKey] = Folding(steady, most=_UNBOUNDED)
        self._truncated: set[ServiceKey] = set()
        self._unknown_services: Folding[str] = Folding(steady, most=_UNBOUNDED)

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Log the result of a fetch, if it is new."""
        key = record.watched.key
        match outcome.result:
            case Failure() as failure:
                if self._failing.get(key) not in (None, failure.reason):
                    self._recovered(key)
                self._failed(record, failure, outcome)
            case Answer(status=status):
                if key in self._failing:
                    self._recovered(key)
                if status is Status.NOT_FOUND:
                    self._check_not_found(record)
                else:
                    self._found(key)
        if change is not None:
            level = logging.INFO if change.after is Status.VERIFIED else logging.WARNING
            log.log(
                level,
                "status changed",
                extra=fields(
                    **_who(record),
                    **{"from": change.before, "to": change.after},
                    http_status=outcome.code,
                    twilio_code=outcome.twilio_code,
                    request_id=outcome.request_id or None,
                ),
            )

    def _check_not_found(self, record: FactorRecord) -> None:
        """Log that most factors of a service are not found: then its SID or its account is wrong."""
        key = record.watched.key
        service = self._services.setdefault((key.account, key.service_sid), MassNotFoundDetector())
        if key in service:
            return
        interval = record.watched.interval_seconds * self._stretch(key.account)
        found = service.not_found(key, self._steady(), interval, self._service_size(key.account, key.service_sid))
        if found is not None:
            log.error(
                "most factors of a service not found",
                extra=fields(
                    account=key.account,
                    service_sid=key.service_sid,
                    not_found=found.not_found,
                    factors=found.factors,
                    within_seconds=found.within_seconds,
                    hint="check service_sid, and that the service belongs to the account",
                ),
            )

    def _found(self, key: FactorKey) -> None:
        service = self._services.get((key.account, key.service_sid))
        if service is not None and key in service:
            service.found(key, self._service_size(key.account, key.service_sid))
            if not len(service):
                del self._services[key.account, key.service_sid]

    def _failed(self, record: FactorRecord, failure: Failure, outcome: Outcome) -> None:
        key = record.watched.key
        episode = (key.account, failure.reason)
        members = self._members.setdefault(episode, set())
        new = key not in members
        members.add(key)
        self._failing[key] = failure.reason
        line = self._failures.happened(episode, new=new)
        if line.again:
            log.warning(
                "fetches still failing",
                extra=fields(
                    account=key.account,
                    reason=failure.reason,
                    factors=len(members),
                    fetches=line.times,
                    detail=failure.detail,
                ),
            )
        elif line.times:
            log.warning(
                "fetch failed",
                extra=fields(
                    **_who(record),
                    reason=failure.reason,
                    detail=failure.detail,
                    attempts=outcome.attempts,
                    request_id=outcome.request_id or None,
                    hint=failure.hint,
                ),
            )
        else:
            log.debug(
                "fetch failed again", extra=fields(**_who(record), reason=failure.reason, detail=failure.detail)
            )

    def _recovered(self, key: FactorKey) -> None:
        reason = self._failing.pop(key)
        episode = (key.account, reason)
        members = self._members[episode]
        members.discard(key)
        if not members:
            del self._members[episode]
            log.info(
                "fetches recovered",
                extra=fields(account=key.account, reason=reason, failed=self._failures.over(episode)),
            )

    def revised(self, record: FactorRecord) -> None:
        """End a paused factor's part in an episode."""
        if record.watched.paused:
            self.forgotten(record)

    def forgotten(self, record: FactorRecord) -> None:
        """End a factor's part in an episode."""
        key = record.watched.key
        if key in self._failing:
            self._recovered(key)
        self._found(key)

    def flush(self, *, at_the_end: bool = False) -> None:
        """Log the counts of the events collapsed for five minutes, or of all collapsed events; called regularly."""
        for (account, reason), collapsed, _ in self._failures.overdue(all_of_them=at_the_end):
            factors = len(self._members.get((account, reason), ()))
            log.warning(
                "fetches still failing",
                extra=fields(account=account, reason=reason, factors=factors, fetches=collapsed),
            )
        self._flush_withdrawn(at_the_end=at_the_end)
        for account, _, total in self._pauses.quiet():
            log.info("no longer rate limited", extra=fields(account=account, pauses=total))
        for account, collapsed, _ in self._pauses.overdue(all_of_them=at_the_end):
            log.warning("still rate limited", extra=fields(account=account, pauses=collapsed))
        for account, collapsed, _ in self._renewals.overdue(all_of_them=at_the_end):
            log.warning("access token still not renewed", extra=fields(account=account, requests=collapsed))
        for _ in self._renewals.quiet():
            pass  # the next failure is a new event
        for entity, collapsed, _ in self._listings.overdue(all_of_them=at_the_end):
            log.warning(
                "listings still failing",
                extra=fields(account=entity.account, service_sid=entity.service_sid, listings=collapsed),
            )
        for account, collapsed, _ in self._unknown_services.overdue(all_of_them=at_the_end):
            log.warning("more services not fetched", extra=fields(account=account, services=collapsed))

    def _flush_withdrawn(self, *, at_the_end: bool = False) -> None:
        for _, collapsed, _ in self._withdrawn.overdue(all_of_them=at_the_end):
            log.warning("more stale statuses withdrawn", extra=fields(factors=collapsed))

    def withdrawn(self, record: FactorRecord) -> None:
        """Log that a status became stale."""
        self._flush_withdrawn()
        if self._withdrawn.happened("", new=True).times:
            log.warning("stale status withdrawn", extra=fields(**_who(record)))

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """Log a failed listing: the first one, then every five minutes."""
        self._listing_failed(entity.key, entity.name, failure)

    def _listing_failed(self, key: EntityKey, name: str, failure: Failure) -> None:
        line = self._listings.happened(key)
        if not line.times:
            return
        log.warning(
            "listings still failing" if line.again else "listing failed",
            extra=fields(
                account=key.account,
                service_sid=key.service_sid,
                entity=name,
                reason=failure.reason,
                detail=failure.detail,
                listings=line.times,
                hint=failure.hint,
            ),
        )

    def listed(self, entity: WatchedEntity, found: int) -> None:
        """Log the first listing that succeeds after failures."""
        if failed := self._listings.over(entity.key):
            log.info(
                "listings recovered",
                extra=fields(
                    account=entity.key.account,
                    service_sid=entity.key.service_sid,
                    entity=entity.name,
                    factors=found,
                    failed=failed,
                ),
            )

    def entity_forgotten(self, entity: WatchedEntity) -> None:
        """Forget the failed listings of an entity that is no longer watched, without a line."""
        self._listings.over(entity.key)

    def service_listing_failed(self, service: WatchedService, entity: str, failure: Failure) -> None:
        """Log a failed listing of a service or of one of its entities, as for an entity with its own entry."""
        self._listing_failed(EntityKey(*service.key, ""), entity, failure)

    def service_listed(self, service: WatchedService, entities: int, truncated: bool, failed: int) -> None:
        """Log the first walk without failures after others, the first one that is truncated, and the first not."""
        if not failed and (failures := self._listings.over(EntityKey(*service.key, ""))):
            log.info(
                "listings recovered",
                extra=fields(
                    account=service.key.account,
                    service_sid=service.key.service_sid,
                    entity=service.name,
                    entities=entities,
                    failed=failures,
                ),
            )
        details = fields(
            account=service.key.account,
            service_sid=service.key.service_sid,
            entity=service.name,
            entities=entities,
            max_entities=service.max_entities,
        )
        if truncated and service.key not in self._truncated:
            self._truncated.add(service.key)
            details["fields"]["hint"] = "the other entities are not watched; raise max_entities"
            log.warning("service has more entities than max_entities", extra=details)
        elif not truncated and service.key in self._truncated:
            self._truncated.discard(service.key)
            log.info("service no longer has more entities than max_entities", extra=details)

    def service_forgotten(self, service: WatchedService) -> None:
        """Forget the failed listings of a service that is no longer watched, without a line."""
        self._listings.over(EntityKey(*service.key, ""))
        self._truncated.discard(service.key)

    def service_fetched(self, account: str, service_sid: str, attempt: Attempt, before: bool | None) -> None:
        """Log that a service is not found, or found again, and why that can't be known."""
        answer: dict[str, object] = {
            "account": account,
            "service_sid": service_sid,
            "http_status": attempt.code,
            "twilio_code": attempt.twilio_code,
            "request_id": attempt.request_id or None,
        }
        match attempt.result:
            case ServiceAnswer(exists=False) if before is not False:
                hint = "check whether the service was deleted, and check service_sid, account_sid and base_url"
                log.error("service not found", extra=fields(**answer, hint=hint))
            case ServiceAnswer(exists=True) if before is False:
                log.warning("service found again", extra=fields(**answer))
            case Failure(reason=reason, detail=detail) as failure if self._unknown_services.happened(account).times:
                lacking = (
                    failure.hint == HINTS[Reason.FORBIDDEN]
                )  # the general hint: nothing more specific is known
                hint = "give the API key permission to read Verify services" if lacking else failure.hint
                log.warning("service not fetched", extra=fields(**answer, reason=reason, detail=detail, hint=hint))

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Log, as an error, that an account pauses for its credentials."""
        log.error(
            "account paused for refused credentials",
            extra=fields(
                account=account,
                reason=failure.reason,
                detail=failure.detail,
                hint=f"{failure.hint}; a changed password_file or client_secret_file is tried at once",
            ),
        )

    def credentials_accepted(self, account: str) -> None:
        """Log that an account's pause for its credentials ended."""
        log.warning("account resumed", extra=fields(account=account))

    def token_not_renewed(self, account: str, failure: Failure) -> None:
        """Log that an access token was not renewed; further failures within five minutes are counted."""
        line = self._renewals.happened(account)
        if not line.times:
            return
        log.warning(
            "access token still not renewed" if line.again else "access token not renewed",
            extra=fields(
                account=account,
                reason=failure.reason,
                detail=failure.detail,
                hint=failure.hint,
                **({"requests": line.times} if line.again else {}),
            ),
        )

    def rate_limited(self, account: str, pause_seconds: float, concurrency_limit: int) -> None:
        """Log that a 429 pauses an account; further ones within five minutes are counted."""
        line = self._pauses.happened(account)
        if not line.times:
            return
        log.warning(
            "still rate limited" if line.again else "rate limited",
            extra=fields(
                account=account,
                pause_seconds=pause_seconds,
                concurrency_limit=concurrency_limit,
                **({"pauses": line.times} if line.again else {}),
            ),
        )

    def client_rotated(self, account: str, why: RotationReason) -> None:
        """Log that a stuck or silent client was replaced."""
        log.warning("stuck HTTP client replaced", extra=fields(account=account, detail=_ROTATIONS[why]))

    def over_budget(self, account: str, stretch: float, demand: float, budget: float) -> None:
        """Log that an account's intervals are stretched, or no longer."""
        details = fields(
            account=account, stretch=stretch, demand_requests_per_second=demand, budget_requests_per_second=budget
        )
        if stretch > 1:
            log.warning("account over budget", extra=details)
        else:
            log.info("account within budget", extra=details)


def _who(record: FactorRecord) -> dict[str, str]:
    key = record.watched.key
    return {"account": key.account, "service_sid": key.service_sid, "factor": record.watched.name}
