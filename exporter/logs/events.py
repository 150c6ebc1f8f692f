"""What polling writes to the log: an event in full when it is news, a count while it goes on, a line at its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exporter.logs.folding import Folding
from exporter.logs.mass_not_found import ServiceWatch
from exporter.logs.output import fields
from exporter.polling.clients import RotationReason
from exporter.verify.outcome import Answer, Failure, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Outcome, Reason
    from exporter.watched import EntityKey, FactorKey, WatchedEntity

log = logging.getLogger(__name__)

_JAMS = {
    RotationReason.STUCK: "a request did not end in its time",
    RotationReason.SILENT: "no request was answered any more",
}
FULL_LINES = 5
_UNBOUNDED = 1 << 30  # the keys are accounts and entities, and as few as are configured


class EventLog:
    """Writes status changes, failures and pauses.

    Failures of one account for one reason are one episode: the first five factors are written in full in each
    five minutes, the rest as a count, and the end of the episode with a line. ``steady`` gives seconds,
    ``service_size`` the number of factors of an account's service, ``stretch`` that of an account's intervals.
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
        self._services: dict[tuple[str, str], ServiceWatch] = {}
        self._failures: Folding[tuple[str, Reason]] = Folding(steady, full_lines=FULL_LINES, most=_UNBOUNDED)
        self._members: dict[tuple[str, Reason], set[FactorKey]] = {}
        self._failing: dict[FactorKey, Reason] = {}
        self._withdrawn: Folding[str] = Folding(steady, full_lines=FULL_LINES, most=_UNBOUNDED)
        self._pauses: Folding[str] = Folding(steady, most=_UNBOUNDED)
        self._walks: Folding[EntityKey] = Folding(steady, most=_UNBOUNDED)

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Write what a fetch brought, if it is news."""
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
                    self._lost(record)
                else:
                    self._found(key)
        if change is not None:
            level = logging.INFO if change.after is Status.VERIFIED else logging.WARNING
            log.log(
                level, "status changed", extra=fields(**_who(record), **{"from": change.before, "to": change.after})
            )

    def _lost(self, record: FactorRecord) -> None:
        """Write, where a whole service seems gone, that it is hardly its factors' doing."""
        key = record.watched.key
        service = self._services.setdefault((key.account, key.service_sid), ServiceWatch())
        if key in service:
            return
        interval = record.watched.interval_seconds * self._stretch(key.account)
        told = service.lost(key, self._steady(), interval, self._service_size(key.account, key.service_sid))
        if told is not None:
            log.error(
                "more than half of a service's factors are not found: the service or the account may be wrong",
                extra=fields(
                    account=key.account,
                    service_sid=key.service_sid,
                    not_found=told.not_found,
                    factors=told.factors,
                    within_seconds=told.within_seconds,
                    hint="check service_sid, and that the account is the one which the service belongs to",
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
        trouble = (key.account, failure.reason)
        members = self._members.setdefault(trouble, set())
        news = key not in members
        members.add(key)
        self._failing[key] = failure.reason
        line = self._failures.happened(trouble, news=news)
        if line.again:
            log.warning(
                "fetches still fail",
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
                ),
            )
        else:
            log.debug(
                "fetch failed again", extra=fields(**_who(record), reason=failure.reason, detail=failure.detail)
            )

    def _recovered(self, key: FactorKey) -> None:
        reason = self._failing.pop(key)
        trouble = (key.account, reason)
        members = self._members[trouble]
        members.discard(key)
        if not members:
            del self._members[trouble]
            log.info(
                "no fetch fails so any more",
                extra=fields(account=key.account, reason=reason, failed=self._failures.over(trouble)),
            )

    def forgotten(self, key: FactorKey) -> None:
        """Take note that a factor is no longer watched."""
        if key in self._failing:
            self._recovered(key)
        self._found(key)

    def flush(self, *, at_the_end: bool = False) -> None:
        """Write the counts of what was folded for five minutes, or all of them; called now and then."""
        for (account, reason), folded, _ in self._failures.overdue(all_of_them=at_the_end):
            factors = len(self._members.get((account, reason), ()))
            log.warning(
                "fetches still fail", extra=fields(account=account, reason=reason, factors=factors, fetches=folded)
            )
        self._flush_withdrawn(at_the_end=at_the_end)
        for account, _, total in self._pauses.quiet():
            log.info("not rate limited for five minutes", extra=fields(account=account, pauses=total))
        for account, folded, _ in self._pauses.overdue(all_of_them=at_the_end):
            log.warning("rate limited more times", extra=fields(account=account, pauses=folded))
        for entity, folded, _ in self._walks.overdue(all_of_them=at_the_end):
            log.warning(
                "an entity's factors can't be listed",
                extra=fields(account=entity.account, service_sid=entity.service_sid, walks=folded),
            )

    def _flush_withdrawn(self, *, at_the_end: bool = False) -> None:
        for _, folded, _ in self._withdrawn.overdue(all_of_them=at_the_end):
            log.warning("more statuses were withdrawn", extra=fields(factors=folded))

    def withdrawn(self, record: FactorRecord) -> None:
        """Write that a status became stale."""
        self._flush_withdrawn()
        if self._withdrawn.happened("", news=True).times:
            log.warning("status withdrawn: no definite answer for too long", extra=fields(**_who(record)))

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """Write that an entity's factors can't be listed: in full at first, then each five minutes."""
        line = self._walks.happened(entity.key)
        if not line.times:
            return
        log.warning(
            "an entity's factors can't be listed",
            extra=fields(
                account=entity.key.account,
                service_sid=entity.key.service_sid,
                entity=entity.name,
                reason=failure.reason,
                detail=failure.detail,
                walks=line.times,
            ),
        )

    def listed(self, entity: WatchedEntity, found: int) -> None:
        """Write that an entity's factors can be listed again."""
        if failed := self._walks.over(entity.key):
            log.info(
                "an entity's factors can be listed again",
                extra=fields(
                    account=entity.key.account,
                    service_sid=entity.key.service_sid,
                    entity=entity.name,
                    factors=found,
                    failed=failed,
                ),
            )

    def entity_forgotten(self, entity: WatchedEntity) -> None:
        """Take note that an entity is no longer watched: what its walks failed at is over without a line."""
        self._walks.over(entity.key)

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Write that an account is paused for its credentials: loud, once."""
        log.error(
            "credentials refused: the account is paused and nothing of it is fetched",
            extra=fields(
                account=account,
                reason=failure.reason,
                detail=failure.detail,
                hint="correct username, password or the key's rights; a changed password_file is tried at once",
            ),
        )

    def credentials_accepted(self, account: str) -> None:
        """Write that an account's pause for its credentials has ended."""
        log.warning("credentials accepted: the account's pause has ended", extra=fields(account=account))

    def rate_limited(self, account: str, pause_seconds: float, concurrency_limit: int) -> None:
        """Write that the API asked an account to slow down; what follows within five minutes is counted."""
        line = self._pauses.happened(account)
        if not line.times:
            return
        log.warning(
            "rate limited: the account pauses",
            extra=fields(
                account=account,
                pause_seconds=pause_seconds,
                concurrency_limit=concurrency_limit,
                **({"pauses": line.times} if line.again else {}),
            ),
        )

    def client_rotated(self, account: str, why: RotationReason) -> None:
        """Write that a jammed client was replaced by a fresh one."""
        log.warning("the HTTP client was replaced: it was jammed", extra=fields(account=account, why=_JAMS[why]))

    def over_budget(self, account: str, stretch: float, demand: float, budget: float) -> None:
        """Write that an account's intervals are stretched, or no longer."""
        told = fields(
            account=account, stretch=stretch, demand_requests_per_second=demand, budget_requests_per_second=budget
        )
        if stretch > 1:
            log.warning("over budget: the account's intervals are stretched", extra=told)
        else:
            log.info("within budget: the account's intervals hold again", extra=told)


def _who(record: FactorRecord) -> dict[str, str]:
    key = record.watched.key
    return {"account": key.account, "service_sid": key.service_sid, "factor": record.watched.name}
