"""Real polling over a scripted client, in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.polling.account import AccountPolicy, AccountPoller
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.observer import Observer, Tee
from exporter.polling.poller import Poller
from exporter.polling.removed import RemovedFactors
from exporter.polling.schedule import Schedule
from exporter.polling.services import ServicePolicy, Services
from exporter.verify.outcome import (
    Answer,
    Attempt,
    EntityPage,
    FactorPage,
    Failure,
    Outcome,
    Reason,
    ServiceAnswer,
    Status,
    TokenAnswer,
)
from tests.support.factors import code_of
from tests.support.virtual_time import virtual_clock, virtual_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.polling.clients import RotationReason
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.polling.throttle import Throttle
    from exporter.verify.outcome import Operation
    from exporter.watched import FactorKey, WatchedEntity, WatchedFactor, WatchedService

LATENCY = 0.05


@dataclass(frozen=True)
class Reply:
    """What the scripted API answers after ``latency`` seconds: a status, an answer or a failure's reason.

    ``code`` is the HTTP status, by default the usual one for the result.
    """

    result: Status | Reason | Answer = Status.VERIFIED
    latency: float = LATENCY
    retry_after: float | None = None
    concurrent: int | None = None
    code: int | None = None

    def attempt(self, seconds: float) -> Attempt:
        match self.result:
            case Status():
                result: Answer | Failure = Answer(self.result)
            case Reason():
                result = Failure(self.result)
            case _:
                result = self.result
        return Attempt(
            result,
            seconds,
            code_of(result) if self.code is None else self.code,
            retry_after_seconds=self.retry_after,
            concurrent_requests=self.concurrent,
        )


@dataclass
class Call:
    """One request; ``ended`` is ``None`` while it is in flight."""

    key: FactorKey
    began: float
    ended: float | None = None


NO_ENTITY = Failure(Reason.BAD_REQUEST, "HTTP 404, Twilio error 20404: no such service or entity")
"""What a listing of an entity that doesn't exist becomes."""


class ScriptedClient:
    """Answers with the replies that ``will`` queued for a factor, then with what ``rule`` returns.

    Two requests for a factor in flight, and one after ``forbid`` was called, are faults that fail the test. A
    request survives ``endures`` cancellations; a ``deaf`` client closes without ending its requests.
    """

    def __init__(self) -> None:
        self.loop = virtual_loop()
        self.calls: list[Call] = []
        self.rule: Callable[[WatchedFactor], Reply] = lambda _watched: Reply()
        self.lists: Callable[[WatchedEntity, str | None], FactorPage | Failure] = lambda _entity, _query: (
            FactorPage(())
        )
        self.listings: list[tuple[float, str, str | None]] = []
        self.entities: Callable[[str, str | None], EntityPage | Failure] = lambda _sid, _query: EntityPage(())
        self.entity_pages: list[tuple[float, str, str | None]] = []
        self.exists: Callable[[str], ServiceAnswer | Failure] = lambda _sid: ServiceAnswer(exists=True)
        self.services: list[tuple[float, str]] = []
        self.grants: Callable[[], TokenAnswer | Failure] = lambda: TokenAnswer(f"token-{len(self.tokens)}", 3600.0)
        self.tokens: list[float] = []
        self.forbidden = ""
        self.closed_at: float | None = None
        self.deaf = False
        self.endures = 0
        self._next: defaultdict[FactorKey, deque[Reply]] = defaultdict(deque)
        self._open: dict[FactorKey, asyncio.Future[bool]] = {}

    def will(self, key: FactorKey, *replies: Reply | Status | Reason) -> None:
        """Queue the replies to the next requests for a factor."""
        self._next[key].extend(reply if isinstance(reply, Reply) else Reply(reply) for reply in replies)

    def forbid(self, why: str) -> None:
        """Fail the test at the next request; an empty text allows requests again."""
        self.forbidden = why

    @property
    def open(self) -> int:
        return len(self._open)

    def requested_at(self, key: FactorKey) -> list[float]:
        """Return when requests for a factor began."""
        return [call.began for call in self.calls if call.key == key]

    def most_in_a_second(self) -> int:
        """Return the largest number of requests that began within any one second."""
        begun = [call.began for call in self.calls]
        most = first = 0
        for last, moment in enumerate(begun):
            while begun[first] <= moment - 1 + 1e-6:
                first += 1
            most = max(most, last - first + 1)
        return most

    async def fetch_factor(self, watched: WatchedFactor) -> Attempt:
        key, began = watched.key, self.loop.time()
        if key in self._open:
            self.loop.fault(f"two fetches at once for {watched.name} at {began:g} s")
        if self.forbidden:
            self.loop.fault(f"a request for {watched.name} at {began:g} s: {self.forbidden}")
        reply = self._next[key].popleft() if self._next[key] else self.rule(watched)
        call = Call(key, began)
        self.calls.append(call)
        ended = self._open[key] = self.loop.create_future()
        timer = self.loop.call_later(reply.latency, _settle, ended, True)
        try:
            answered = await self._settled(ended)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)  # as a connection that takes its time to close
            raise
        finally:
            timer.cancel()
            self._open.pop(key, None)
            call.ended = self.loop.time()
        seconds = call.ended - began
        return reply.attempt(seconds) if answered else Attempt(Failure(Reason.CONNECT), seconds)

    async def _settled(self, ended: asyncio.Future[bool]) -> bool:
        while True:
            try:
                return await asyncio.shield(ended)
            except asyncio.CancelledError:
                if self.endures == 0:
                    raise
                self.endures -= 1

    async def list_factors(self, entity: WatchedEntity, page_query: str | None = None) -> Attempt:
        """Answer with what ``lists`` returns; every request is kept in ``listings``."""
        if self.forbidden:
            self.loop.fault(f"a list of {entity.name} at {self.loop.time():g} s: {self.forbidden}")
        self.listings.append((self.loop.time(), entity.name, page_query))
        await asyncio.sleep(LATENCY)
        result = self.lists(entity, page_query)
        if result == NO_ENTITY:
            return Attempt(result, LATENCY, 404, twilio_code=20404)
        return Attempt(result, LATENCY, 200 if isinstance(result, FactorPage) else code_of(result))

    async def list_entities(self, service_sid: str, page_query: str | None = None) -> Attempt:
        """Answer with what ``entities`` returns; every request is kept in ``entity_pages``."""
        if self.forbidden:
            self.loop.fault(f"a list of entities at {self.loop.time():g} s: {self.forbidden}")
        self.entity_pages.append((self.loop.time(), service_sid, page_query))
        await asyncio.sleep(LATENCY)
        result = self.entities(service_sid, page_query)
        return Attempt(result, LATENCY, 200 if isinstance(result, EntityPage) else code_of(result))

    async def fetch_service(self, service_sid: str) -> Attempt:
        """Answer with what ``exists`` returns; the time and SID of every request is kept in ``services``."""
        if self.forbidden:
            self.loop.fault(f"a request for a service at {self.loop.time():g} s: {self.forbidden}")
        self.services.append((self.loop.time(), service_sid))
        await asyncio.sleep(LATENCY)
        result = self.exists(service_sid)
        if isinstance(result, ServiceAnswer):
            return Attempt(result, LATENCY, 200 if result.exists else 404)
        return Attempt(result, LATENCY, code_of(result))

    async def request_token(self) -> Attempt:
        """Answer with what ``grants`` returns; the time of every request is kept in ``tokens``."""
        if self.forbidden:
            self.loop.fault(f"a request for a token at {self.loop.time():g} s: {self.forbidden}")
        self.tokens.append(self.loop.time())
        await asyncio.sleep(LATENCY)
        result = self.grants()
        return Attempt(result, LATENCY, 200 if isinstance(result, TokenAnswer) else code_of(result))

    async def aclose(self) -> None:
        self.closed_at = self.loop.time()
        if not self.deaf:
            for ended in self._open.values():
                _settle(ended, False)


def _settle(future: asyncio.Future[bool], answered: bool) -> None:
    if not future.done():
        future.set_result(answered)


@dataclass
class Ended:
    """A fetch that ended, as the observer got it."""

    at: float
    key: FactorKey
    outcome: Outcome
    change: StatusChange | None

    @property
    def what(self) -> Status | Reason:
        result = self.outcome.result
        return result.status if isinstance(result, Answer) else result.reason


@dataclass
class RecordingObserver(Observer):
    """An observer that keeps all events, with the loop's time."""

    fetches: list[Ended] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)
    retries: list[float] = field(default_factory=list)
    watched_names: list[str] = field(default_factory=list)
    revised_names: list[str] = field(default_factory=list)
    forgotten_names: list[str] = field(default_factory=list)
    withdrawals: list[tuple[float, FactorKey]] = field(default_factory=list)
    intervals: list[tuple[float, FactorKey, float]] = field(default_factory=list)
    listings: list[tuple[float, str, int | Failure]] = field(default_factory=list)
    forgotten_entities: list[str] = field(default_factory=list)
    walks: list[tuple[float, str, int, bool]] = field(default_factory=list)
    failed_walks: list[tuple[float, str, Failure]] = field(default_factory=list)
    service_fetches: list[tuple[float, str, object, bool | None]] = field(default_factory=list)
    refusals: list[tuple[float, Reason]] = field(default_factory=list)
    acceptances: list[float] = field(default_factory=list)
    rate_limits: list[tuple[float, float, int]] = field(default_factory=list)
    budgets: list[tuple[float, float, float, float]] = field(default_factory=list)
    rotations: list[tuple[float, RotationReason]] = field(default_factory=list)
    unrenewed: list[tuple[float, Reason]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = virtual_loop()

    def of(self, key: FactorKey) -> list[Ended]:
        return [ended for ended in self.fetches if ended.key == key]

    def watched(self, record: FactorRecord) -> None:
        self.watched_names.append(record.watched.name)

    def revised(self, record: FactorRecord) -> None:
        self.revised_names.append(record.watched.name)

    def forgotten(self, record: FactorRecord) -> None:
        self.forgotten_names.append(record.watched.name)

    def attempted(self, account: str, operation: Operation, attempt: Attempt) -> None:
        assert (account, operation) != ("", "")
        self.attempts.append(attempt)

    def retried(self, account: str) -> None:
        assert account
        self.retries.append(self._loop.time())

    def started(self, lag_seconds: float) -> None:
        self.lags.append((self._loop.time(), lag_seconds))

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        self.fetches.append(Ended(self._loop.time(), record.watched.key, outcome, change))

    def withdrawn(self, record: FactorRecord) -> None:
        self.withdrawals.append((self._loop.time(), record.watched.key))

    def interval_changed(self, record: FactorRecord) -> None:
        self.intervals.append((self._loop.time(), record.watched.key, record.interval_seconds))

    def listed(self, entity: WatchedEntity, found: int) -> None:
        self.listings.append((self._loop.time(), entity.name, found))

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        self.listings.append((self._loop.time(), entity.name, failure))

    def entity_forgotten(self, entity: WatchedEntity) -> None:
        self.forgotten_entities.append(entity.name)

    def service_listed(self, service: WatchedService, entities: int, truncated: bool, failed: int) -> None:
        assert 0 <= failed <= entities
        self.walks.append((self._loop.time(), service.name, entities, truncated))

    def service_listing_failed(self, service: WatchedService, entity: str, failure: Failure) -> None:
        assert entity.startswith(service.name)
        self.failed_walks.append((self._loop.time(), entity, failure))

    def service_forgotten(self, service: WatchedService) -> None:
        self.forgotten_entities.append(service.name)

    def service_fetched(self, account: str, service_sid: str, attempt: Attempt, before: bool | None) -> None:
        assert account
        self.service_fetches.append((self._loop.time(), service_sid, attempt.result, before))

    def credentials_refused(self, account: str, failure: Failure) -> None:
        assert account
        self.refusals.append((self._loop.time(), failure.reason))

    def credentials_accepted(self, account: str) -> None:
        assert account
        self.acceptances.append(self._loop.time())

    def token_not_renewed(self, account: str, failure: Failure) -> None:
        assert account
        self.unrenewed.append((self._loop.time(), failure.reason))

    def rate_limited(self, account: str, pause_seconds: float, concurrency_limit: int) -> None:
        assert account
        self.rate_limits.append((self._loop.time(), pause_seconds, concurrency_limit))

    def over_budget(self, account: str, stretch: float, demand: float, budget: float) -> None:
        assert account
        self.budgets.append((self._loop.time(), stretch, demand, budget))

    def client_rotated(self, account: str, why: RotationReason) -> None:
        assert account
        self.rotations.append((self._loop.time(), why))


class Jitter(random.Random):
    """Full jitter at a fixed share of its range; the requested ranges are kept."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__(0)
        self.share = share
        self.ranges: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.ranges.append((a, b))
        return a + self.share * (b - a)


class PollingHarness:
    """A poller with the real ledger, schedule and throttle; each account has its own scripted client.

    Nothing happens by itself: ``offer`` makes factors due, ``run`` lets time pass with a dispatch every second.
    Services are in doubt only where there is a policy for them.
    """

    def __init__(
        self,
        watched: Iterable[WatchedFactor],
        *,
        rate: float = 100.0,
        concurrency: int = 4,
        max_attempts: int = 3,
        ledger_policy: LedgerPolicy | None = None,
        reread: Callable[[], bool] = lambda: False,
        one_shot: bool = False,
        timeout: float = math.inf,
        new_client: Callable[[], ScriptedClient] | None = None,
        wall: Callable[[], float] | None = None,
        rng: random.Random | None = None,
        services: ServicePolicy | None = None,
        oauth: bool = False,
        listing_demand: Callable[[str], float] = lambda _account: 0.0,
    ) -> None:
        watched = list(watched)
        self.loop = virtual_loop()
        self.clock = virtual_clock(wall)
        self.observed = RecordingObserver()
        self.ledger = Ledger(ledger_policy or LedgerPolicy())
        self.schedule: Schedule[FactorKey] = Schedule()
        self.removed = RemovedFactors()
        self.jitter = rng or Jitter()
        self.clients = {account: ScriptedClient() for account in dict.fromkeys(w.key.account for w in watched)}
        policy = AccountPolicy(rate, concurrency, max_attempts, timeout, one_shot, oauth)
        observers = self.observed if services is None else Tee()
        self.accounts = {
            name: AccountPoller(
                name,
                policy,
                client=client,
                ledger=self.ledger,
                schedule=self.schedule,
                observer=observers,
                clock=self.clock,
                rng=self.jitter,
                reread_password=reread,
                new_client=new_client,
            )
            for name, client in self.clients.items()
        }
        self.poller = Poller(
            accounts=self.accounts,
            ledger=self.ledger,
            schedule=self.schedule,
            observer=observers,
            clock=self.clock,
            removed=self.removed,
            listing_demand=listing_demand,
        )
        self.services = Services(
            services or ServicePolicy(),
            accounts=self.accounts,
            ledger=self.ledger,
            observer=observers,
            clock=self.clock,
        )
        if isinstance(observers, Tee):
            observers.add(self.services, self.observed)
        self.poller.watch(watched)

    @property
    def account(self) -> AccountPoller:
        return self.accounts["main"]

    @property
    def client(self) -> ScriptedClient:
        return self.clients["main"]

    @property
    def throttle(self) -> Throttle:
        return self.account.throttle

    @property
    def now(self) -> float:
        return self.loop.time()

    def offer(self, *keys: FactorKey) -> None:
        """Make factors due now, as a dispatch does."""
        for key in keys:
            self.schedule._due[key] = None  # as if popped
            self.accounts[key.account].offer(key, self.clock.steady())
        for account in self.accounts.values():
            account.dispatch()

    async def run(self, seconds: float, *, every: float = 1.0, and_each: Callable[[], None] | None = None) -> None:
        """Let time pass with a dispatch every second."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.poller.dispatch()
            self.services.dispatch()
            if and_each is not None:
                and_each()
            await asyncio.sleep(min(every, end - self.now))

    async def until(self, condition: Callable[[], bool], *, within: float = 60.0) -> None:
        """Let time pass without a dispatch until a condition holds."""
        for _ in range(round(within * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"condition not met within {within:g} s")

    def due_after(self, key: FactorKey) -> float:
        """Return the factor's next regular due time, in the loop's seconds."""
        now = self.clock.steady()
        return self.schedule.next_due(key, now, self.ledger[key].interval_seconds) - now + self.now

    def last(self, key: FactorKey) -> Ended:
        return self.observed.of(key)[-1]

    def forget(self, key: FactorKey) -> None:
        """Stop watching a factor."""
        self.ledger.forget(key)
        self.schedule.remove(key)
