"""Whether a service exists: Fetch Service tells a deleted service from deleted factors.

A 404 for a factor can mean either. A service is in doubt while one of its factors is not found. It is fetched when
that begins and, while it lasts, every ``interval_seconds``; earlier, but at most once a minute, if most of its
factors have become missing since it was found, or if a factor is found in a service that was not.

A factor that is found shows that its service exists, whatever Fetch Service says: a gateway may know only one of
the two paths. After that, a 404 for the service counts only once none of its factors is known to exist.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.polling.calendar import Calendar
from exporter.polling.observer import Observer
from exporter.verify.outcome import Answer, Failure, ServiceAnswer, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Outcome

SOONEST_SECONDS = 60.0
REFUSED_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """The settings of Fetch Service: the interval in seconds, and for how many of them an answer is valid."""

    interval_seconds: float = 900.0
    stale_after: int = 3


@dataclass(slots=True, eq=False)
class _Doubt:
    """What is known of a service in doubt; times are steady seconds.

    ``exists`` is the last answer, valid until ``stale_at``; ``None`` means not known. ``contradicted`` means that
    a factor was found although the service was not. ``due`` is ``None`` while the service is queued or in flight.
    """

    exists: bool | None = None
    contradicted: bool = False
    stale_at: float = math.inf
    requested: float = -math.inf
    due: float | None = None


class Services(Observer):
    """Fetches the services that are in doubt, one at a time per account, within the account's budget."""

    def __init__(
        self,
        policy: ServicePolicy,
        *,
        accounts: Mapping[str, AccountPoller],
        ledger: Ledger,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.policy = policy
        self._accounts = accounts
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._doubts: dict[tuple[str, str], _Doubt] = {}
        self._refused: dict[tuple[str, str], tuple[float, int]] = {}  # until when, for which credentials
        self._calendar: Calendar[tuple[str, str]] = Calendar(self._due_of)
        self._queues: dict[str, deque[tuple[str, str]]] = {}  # by account; there while its services are fetched

    def existence(self) -> dict[tuple[str, str], bool]:
        """Return whether services exist, by (account, service SID); a service is left out if that isn't known."""
        now = self._clock.steady()
        return {
            service: doubt.exists or doubt.contradicted
            for service, doubt in self._doubts.items()
            if doubt.exists is not None and now < doubt.stale_at
        }

    def requests_per_second(self, account: str) -> float:
        """Return how many requests per second the unstretched interval needs from an account."""
        return sum(service[0] == account for service in self._doubts) / self.policy.interval_seconds

    def retain(self, services: Collection[tuple[str, str]]) -> None:
        """Drop what is known of all other services."""
        for service in self._doubts.keys() - services:
            self._drop(service)
        self._refused = {service: refused for service, refused in self._refused.items() if service in services}

    # What puts a service in doubt

    def watched(self, record: FactorRecord) -> None:
        """Doubt the service of a factor that was missing before a restart."""
        if record.status is Status.NOT_FOUND and not record.watched.paused:
            self._missing(record)

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Doubt the service of a factor that is missing, and the answer that a service of a found one is gone."""
        if not isinstance(outcome.result, Answer):
            return
        if outcome.result.status is Status.NOT_FOUND:
            self._missing(record)
        elif self._doubts:
            service = record.watched.key[:2]
            doubt = self._doubts.get(service)
            if doubt is not None and doubt.exists is False:
                doubt.contradicted = True
                self._soon(service, doubt)

    def _missing(self, record: FactorRecord) -> None:
        service = record.watched.key[:2]
        doubt = self._doubts.get(service)
        if doubt is None:
            self._doubts[service] = doubt = _Doubt()
            self._ledger.doubt(service, doubted=True)
            self._plan(service, doubt, self._clock.steady())
        elif (
            doubt.exists is not False
            and record.not_verified_since == record.answered_steady  # newly missing
            and self._ledger.mostly_missing(service)
        ):
            self._ledger.doubt(service, doubted=True)
            self._soon(service, doubt)

    def _soon(self, service: tuple[str, str], doubt: _Doubt) -> None:
        """Fetch a service again, at most once a minute."""
        at = max(self._clock.steady(), doubt.requested + SOONEST_SECONDS)
        if doubt.due is not None and at < doubt.due:
            self._plan(service, doubt, at)

    # The schedule

    def _due_of(self, service: tuple[str, str]) -> float | None:
        doubt = self._doubts.get(service)
        return None if doubt is None else doubt.due

    def _plan(self, service: tuple[str, str], doubt: _Doubt, at: float) -> None:
        doubt.due = at
        self._calendar.put(service, at)
        if self._calendar.places > 2 * len(self._doubts):  # places that were left for earlier times
            self._calendar.rebuild(self._doubts)

    def _drop(self, service: tuple[str, str]) -> None:
        del self._doubts[service]
        self._ledger.doubt(service, doubted=False)

    def dispatch(self) -> None:
        """Fetch the services that are due, and drop those that are no longer in doubt; runs every second."""
        now = self._clock.steady()
        for service, _ in self._calendar.take(now):
            doubt = self._doubts[service]
            doubt.due = None
            if doubt.exists is not False and not self._ledger.missing(service):
                self._drop(service)
                continue
            account = self._accounts[service[0]]
            until, credentials = self._refused.get(service, (now, 0))
            if now < until and credentials == account.credentials:
                self._plan(service, doubt, now + self.policy.interval_seconds)
                continue
            queue = self._queues.get(account.name)
            if queue is None:
                self._queues[account.name] = queue = deque()
                account.spawn(self._work(account, queue))
            queue.append(service)

    async def _work(self, account: AccountPoller, queue: deque[tuple[str, str]]) -> None:
        """Fetch the queued services of an account, one after the other."""
        try:
            while queue and not account.stopping:
                service = queue.popleft()
                doubt = self._doubts.get(service)
                if doubt is not None and doubt.due is None:
                    await self._fetch(account, service, doubt)
        finally:
            del self._queues[account.name]
            for service in queue:  # the account was removed, and may be back
                if (doubt := self._doubts.get(service)) is not None and doubt.due is None:
                    self._plan(service, doubt, self._clock.steady())

    async def _fetch(self, account: AccountPoller, service: tuple[str, str], doubt: _Doubt) -> None:
        doubt.requested, wait = self._clock.steady(), SOONEST_SECONDS
        try:
            attempt = await account.request_service(service[1])
            if attempt is None or self._doubts.get(service) is not doubt:
                return  # polling stops, the answer was another API's, or the service is no longer watched
            before = doubt.exists
            wait = self._take(account, service, doubt, attempt)
            self._observer.service_fetched(*service, attempt, before)
        finally:
            if self._doubts.get(service) is doubt:
                self._plan(service, doubt, self._clock.steady() + wait)

    def _take(self, account: AccountPoller, service: tuple[str, str], doubt: _Doubt, attempt: Attempt) -> float:
        """Take an answer; return the seconds until the next request."""
        now, interval = self._clock.steady(), self.policy.interval_seconds * account.stretch
        match attempt.result:
            case ServiceAnswer(exists=exists):
                doubt.exists, doubt.stale_at = exists, now + self.policy.stale_after * interval
                doubt.contradicted = doubt.contradicted and not exists and self._ledger.found(service) > 0
                self._ledger.doubt(service, doubted=False)
                if doubt.contradicted or (not exists and not self._ledger.missing(service)):
                    return min(SOONEST_SECONDS, interval)  # its factors were found meanwhile
            case Failure(reason=reason) if reason.refused:
                doubt.exists = None
                self._refused[service] = (now + REFUSED_SECONDS, account.credentials)
        return interval
