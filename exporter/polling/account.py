"""One account's polling: its fetches from dispatch to the observers, in the order in which the code runs.

Elsewhere: which request is next in :mod:`exporter.polling.queue`, the budget and a 429's pause in
:mod:`exporter.polling.throttle`, the wait before a retry in :mod:`exporter.polling.backoff`, refused credentials in
:mod:`exporter.polling.refusals`, access tokens in :mod:`exporter.polling.token`, stuck requests and client rotation
in :mod:`exporter.polling.clients`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.polling.backoff import attempts_allowed, backoff_seconds
from exporter.polling.clients import CLOSE_SECONDS, STUCK_SECONDS, Clients
from exporter.polling.clock import SUSPEND_SECONDS
from exporter.polling.pause import Pause, PauseReason
from exporter.polling.queue import InFlight, RequestQueue
from exporter.polling.refusals import Refusals
from exporter.polling.request import EntitiesPage, FactorFetch, ListingPage, ServiceFetch
from exporter.polling.schedule import FIRST_FETCH_SECONDS
from exporter.polling.throttle import ListingPace, Throttle, listing_budget
from exporter.polling.token import RETRIED_FAILURES, AccessToken, TokenKeeper
from exporter.verify.outcome import Answer, Attempt, Failure, Outcome, Reason

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from typing import Any, TypeVar

    from exporter.polling.clients import ClientInUse, FactorClient
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.observer import Observer
    from exporter.polling.record import FactorRecord
    from exporter.polling.request import ApiRequest
    from exporter.polling.schedule import Schedule
    from exporter.watched import FactorKey, WatchedEntity

    T = TypeVar("T")

log = logging.getLogger(__name__)

INTERMEDIARY_RESPONSES = 10  # in a row; after them nothing is retried for them


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """The settings that one account's polling goes by.

    ``timeout_seconds`` is the client's limit for one attempt. With ``one_shot`` everything is fetched and listed
    once: a fetch retries beyond the next due time of its factor, and listings may use the whole budget. With
    ``oauth`` requests need an access token.
    """

    requests_per_second: float
    max_concurrency: int
    max_attempts: int = 3
    timeout_seconds: float = math.inf
    one_shot: bool = False
    oauth: bool = False


class AccountPoller:
    """Fetches the due factors of one account.

    It alone retries, and it never has two fetches of one factor at a time. ``reread_password`` reads the password,
    or the client secret, again after a 401 and returns whether it changed. ``token`` is the access token that its
    clients use. ``new_client`` makes a fresh client for a rotation.
    """

    def __init__(
        self,
        name: str,
        policy: AccountPolicy,
        *,
        client: FactorClient,
        ledger: Ledger,
        schedule: Schedule[FactorKey],
        observer: Observer,
        clock: Clock,
        rng: random.Random,
        reread_password: Callable[[], bool] = lambda: False,
        new_client: Callable[[], FactorClient] | None = None,
        token: AccessToken | None = None,
    ) -> None:
        self.name = name
        self.throttle = Throttle(
            requests_per_second=policy.requests_per_second, max_concurrency=policy.max_concurrency
        )
        self.stretch = 1.0
        self.demand_requests_per_second = 0.0  # of the unstretched intervals, at the last check of the budget
        self.fetch_requests_per_second = 0.0  # of that, what is not for listings
        self._listing_pace = ListingPace()
        self.in_flight_keys = InFlight()
        self._policy = policy
        self._ledger = ledger
        self._schedule = schedule
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._reread_password = reread_password
        self._loop = asyncio.get_running_loop()
        self._clients = Clients(
            name,
            client,
            abandon=self._abandon,
            stuck_after_seconds=policy.timeout_seconds + STUCK_SECONDS,
            new_client=new_client,
        )
        self._awaiting_first_fetch: set[FactorKey] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._credentials = 0  # counts their changes
        self._credentials_steady: float | None = None
        self._dropping = False
        self._tokens = TokenKeeper(
            name,
            token or AccessToken(),
            needed=policy.oauth,
            clients=self._clients,
            throttle=self.throttle,
            clock=clock,
            observer=observer,
            spawn=self.spawn,
            reread_secret=self._reread_secret,
        )
        self._by_intermediary = 0  # responses in a row that Twilio did not send
        self._queue = RequestQueue(self.throttle, clock, self._start)
        self._refusals = Refusals(
            name,
            ledger=ledger,
            queue=self._queue,
            clock=clock,
            observer=observer,
            in_flight_keys=self.in_flight_keys,
            fetch=lambda record: self._fetch_on_demand(record, urgent=True),
        )

    # The fetch path, from dispatch to the observers

    def offer(self, key: FactorKey, due: float) -> None:
        """Queue a due factor; one that is queued already keeps its place."""
        self._queue.offer(key, due)

    def dispatch(self) -> None:
        """Start what may start now; runs every second."""
        self._queue.dispatch()
        if self._awaiting_first_fetch and self.pause is not None:
            self._awaiting_first_fetch.difference_update(self._queue)
            if self.throttle.in_flight == 0:  # fetches that wait for a retry are paused as well
                self._awaiting_first_fetch.difference_update(self.in_flight_keys)

    def _start(self, key: FactorKey, lag_seconds: float) -> None:
        """Start the fetch of a due factor; the queue calls this when there is a slot."""
        record = self._ledger.get(key)
        if record is None:
            self._first_fetch_ended(key)
            return
        now = self._clock.steady()
        if key in self.in_flight_keys:  # on demand, or for a record that was replaced meanwhile
            self._schedule.put_back(key, now, record.interval_seconds)
            return
        self._observer.started(lag_seconds)
        self.throttle.begin(now)
        self._begin(FactorFetch(record, record.watched, scheduled_steady=now), has_slot=True)

    def _begin(self, request: ApiRequest, *, has_slot: bool = False) -> None:
        if isinstance(request, FactorFetch):
            self.in_flight_keys.add(request.watched.key)  # now: a probe may choose before the task runs
        request.task = self.spawn(self._fetch(request, has_slot=has_slot))

    async def _fetch(self, request: ApiRequest, *, has_slot: bool) -> None:
        """Fetch a factor, one page of a listing or a service: make the attempts, and apply the outcome."""
        task, on_demand = request.task, not request.of_listing
        request.began_suspended = self._clock.suspended_seconds()
        try:
            if has_slot or await self._queue.slot(
                self._listing_wait(request), request.start_by, urgent=request.urgent, on_demand=on_demand
            ):
                request.attempt = await self._attempts(request)
                self._apply_outcome(request)
        finally:
            if request.task is task:
                self._end(request)

    async def _attempts(self, request: ApiRequest, given_up: Attempt | None = None) -> Attempt | None:
        """Make attempts until one is answered or none may follow; the first one's slot is already taken.

        Returns the last attempt, ``None`` where polling stops or the answer is dropped. ``given_up`` is the first
        attempt where that was abandoned.
        """
        max_attempts = 1 if request.urgent else self._policy.max_attempts
        retried_credentials = retried_token = False
        while True:
            credentials = self._credentials
            attempt, given_up = given_up or await self._attempt(request), None
            if attempt is None or not isinstance(attempt.result, Failure):
                return attempt
            reason = attempt.result.reason
            if request.lacks_token:
                if not self._may_wait_for_token(request, attempt.result, max_attempts):
                    return attempt
                wait = max(0.0, self._tokens.token.next_at - self._clock.steady())
            elif reason is Reason.AUTH and not retried_token and self._token_refused(request):
                retried_token, wait = True, 0.0
            elif reason.refused:
                alone = await self._concerns_alone(request, attempt.result, credentials)
                if self._dropping:
                    return None
                if retried_credentials or credentials == self._credentials:
                    request.alone = alone
                    return attempt
                retried_credentials, wait = True, 0.0  # they changed meanwhile: the new ones were not refused
            elif request.attempts >= attempts_allowed(reason, max_attempts) or (
                attempt.by_intermediary and self._by_intermediary >= INTERMEDIARY_RESPONSES
            ):
                return attempt
            elif reason is Reason.RATE_LIMITED:
                wait = max(0.0, self.throttle.paused_until - self._clock.steady())
            else:
                wait = backoff_seconds(request.attempts, self._rng)
            wait, retry_by = max(wait, self._listing_wait(request)), self._retry_by(request)
            if self._clock.steady() + wait >= retry_by or not await self._queue.slot(
                wait, retry_by, urgent=request.urgent
            ):
                return None if self._queue.stopping else attempt
            request.duration_seconds += wait
            self._observer.retried(self.name)

    def _retry_by(self, request: ApiRequest) -> float:
        """Return when a retry is too late (steady seconds): when the factor is due again."""
        if not isinstance(request, FactorFetch) or request.scheduled_steady is None or self._policy.one_shot:
            return math.inf
        return self._schedule.next_due(
            request.watched.key, request.scheduled_steady, request.record.interval_seconds
        )

    async def _attempt(self, request: ApiRequest) -> Attempt | None:
        """Send one request; ``None`` where polling stops before it, or its answer is dropped."""
        if self._policy.oauth and (attempt := await self._attempt_without_token(request)) is not None:
            return attempt
        if self._queue.stopping:  # since the slot was taken
            self.throttle.end(None)
            return None
        used = self._clients.begin(request, self._clock.steady())
        request.began_suspended = self._clock.suspended_seconds()
        task, answered_seconds = request.task, None
        try:
            attempt = await self._send(request, used.client)
            if attempt.code is not None:
                answered_seconds = attempt.duration_seconds
        finally:
            if request.task is not task:
                raise asyncio.CancelledError  # another task has taken over: what still comes here is dropped
            self._clients.end(used, request)
            self.throttle.end(answered_seconds)
        return attempt if self._update_account(request, used, attempt) else None

    async def _attempt_without_token(self, request: ApiRequest) -> Attempt | None:
        """Wait for an access token; return ``None`` if there is one, or else the attempt that fails without."""
        began, keeper = self._clock.steady(), self._tokens
        if request.urgent and self._refusals.guard.paused:
            keeper.token.forget(began)  # it may have been refused, or lack a permission that was given since
        failure = await keeper.ready()
        request.lacks_token = failure is not None
        request.token_generation = keeper.token.generation
        if failure is None or self._queue.stopping:
            return None
        self.throttle.end(None)
        duration = round(self._clock.steady() - began, 6)
        request.attempts += 1
        request.duration_seconds += duration
        return Attempt(failure, duration)

    def _may_wait_for_token(self, request: ApiRequest, failure: Failure, max_attempts: int) -> bool:
        """Take a failure for lack of an access token; return whether the next request for one is waited for."""
        if failure.reason.refused:
            self._refusals.refuse(failure)
        few = self._tokens.token.failures <= RETRIED_FAILURES
        return few and request.attempts < attempts_allowed(failure.reason, max_attempts)

    def _token_refused(self, request: ApiRequest) -> bool:
        """Take a 401; return whether a request with another access token may do better."""
        return self._policy.oauth and self._tokens.token.refused(request.token_generation, self._clock.steady())

    def _reread_secret(self) -> bool:
        """Read the password or the client secret again; return whether it changed."""
        changed = self._reread_password()
        if changed:
            self.credentials_changed()
        return changed

    async def _send(self, request: ApiRequest, client: FactorClient) -> Attempt:
        """Send one request; one that the watchdog cancelled has timed out, unless it was answered all the same."""
        try:
            match request:
                case FactorFetch():
                    attempt = await client.fetch_factor(request.watched)
                case ListingPage():
                    attempt = await client.list_factors(request.entity, request.query)
                case EntitiesPage():
                    attempt = await client.list_entities(request.service_sid, request.query)
                case ServiceFetch():
                    attempt = await client.fetch_service(request.service_sid)
        except asyncio.CancelledError:
            if not request.given_up:
                raise
            attempt = request.timed_out(self._clock.steady())
        if request.given_up:
            request.task.uncancel()
            if attempt.code is None:
                attempt = request.timed_out(self._clock.steady())
        return attempt

    def _update_account(self, request: ApiRequest, used: ClientInUse, attempt: Attempt) -> bool:
        """Update what is known of client, credentials and throttle by an attempt; return whether it counts."""
        if self._dropping or used.void or self._suspended_since(request):
            self._queue.dispatch()
            return False
        now = self._clock.steady()
        request.attempts += 1
        request.duration_seconds += attempt.duration_seconds
        if not used.replaced:
            self._clients.health.heard(now, answered=attempt.code is not None)
        if attempt.by_intermediary:
            self._by_intermediary += 1
            if attempt.code == 401 and not self._reread_secret():  # the credentials may be wrong all the same
                self._token_refused(request)
        else:
            self._refusals.guard.heard(attempt.code)
            if not isinstance(attempt.result, Failure) or attempt.result.reason.refused:
                self._by_intermediary = 0
        self.throttle.hinted(now, attempt.concurrent_requests)
        reason = attempt.result.reason if isinstance(attempt.result, Failure) else None
        if reason is Reason.RATE_LIMITED:
            pause = attempt.retry_after_seconds
            if pause is None:
                pause = backoff_seconds(request.attempts, self._rng)
            self.throttle.rate_limited(now, started=request.began_steady, pause_seconds=pause)
            self._observer.rate_limited(self.name, pause, self.throttle.limit)
        self._observer.attempted(self.name, request.operation, attempt)
        if reason is None or not reason.refused or isinstance(request, ServiceFetch):
            self._queue.dispatch()  # else the refusal is confirmed before another request may start
        return True

    def _suspended_since(self, request: ApiRequest) -> bool:
        """Return whether the system was suspended since an attempt began: its response is old."""
        return self._clock.suspended_seconds() - request.began_suspended >= SUSPEND_SECONDS

    async def _concerns_alone(self, request: ApiRequest, failure: Failure, credentials: int) -> bool:
        """Return whether a refusal of these credentials is confirmed to concern this factor alone.

        A refusal to fetch a service is not judged: a restricted key may lack the permission for it.
        """
        if failure.reason is Reason.AUTH:
            self._reread_secret()
        if request.urgent or isinstance(request, ServiceFetch) or credentials != self._credentials:
            return False
        record = request.record if isinstance(request, FactorFetch) else None
        return await self._refusals.judge(record, failure)

    def _apply_outcome(self, request: ApiRequest) -> None:
        """Apply a fetch's outcome to the ledger, and pass it to the observers."""
        attempt = request.attempt
        if not isinstance(request, FactorFetch) or attempt is None:
            return
        if not isinstance(attempt.result, Answer | Failure):
            return
        outcome = request.outcome = Outcome(
            result=attempt.result,
            duration_seconds=request.duration_seconds,
            attempts=request.attempts,
            code=attempt.code,
            request_id=attempt.request_id,
            alone=request.alone,
            twilio_code=attempt.twilio_code,
            lacks_token=request.lacks_token,
        )
        record, key = request.record, request.watched.key
        if self._ledger.get(key) is not record or record.watched.identity != request.watched.identity:
            return  # no longer watched, or with another identity
        change = self._ledger.apply(key, outcome, self._clock.moment())
        self._observer.fetched(record, outcome, change)

    def _end(self, request: ApiRequest) -> None:
        if isinstance(request, FactorFetch):
            record, key = request.record, request.watched.key
            self.in_flight_keys.discard(key)
            if self._ledger.get(key) is record:  # else it is no longer watched, or by another record
                self._first_fetch_ended(key)
                self._queue.withdraw(key)  # where it fell due meanwhile
                now, soon = self._clock.steady(), self._suspended_since(request)
                self._schedule.put_back(key, now, record.interval_seconds, soon=soon)
        if request.ended is not None and not request.ended.done():
            request.ended.set_result(None)

    def _abandon(self, used: ClientInUse, request: ApiRequest) -> None:
        """Give back the slot of an attempt that even a cancellation did not end; another task takes over."""
        self._tasks.discard(request.task)
        self.throttle.end(None)
        request.task = self.spawn(self._take_over(request, used))

    async def _take_over(self, request: ApiRequest, used: ClientInUse) -> None:
        task = request.task
        try:
            given_up = request.timed_out(self._clock.steady())
            if self._update_account(request, used, given_up):
                request.attempt = await self._attempts(request, given_up)
                self._apply_outcome(request)
        finally:
            if request.task is task:
                self._end(request)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work that sends requests of this account; a drain waits for it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            values = {"error": type(error).__name__, "hint": "report this error to the project"}
            log.error("unexpected error in a fetch", extra={"fields": values}, exc_info=error)
        self._queue.dispatch()

    # On demand: probes, confirmations and listings

    async def fetch_now(self, key: FactorKey) -> Outcome | None:
        """Fetch a factor on demand, after the end of a fetch in flight; ``None`` where it is not polled."""
        await self.in_flight_keys.end(key)
        record = self._ledger.get(key)
        if record is None or not record.watched.polled or key in self.in_flight_keys:
            return None
        return await self._fetch_on_demand(record)

    def fetch_soon(self, record: FactorRecord, start_by: float) -> None:
        """Start to fetch a factor on demand, unless it is in flight; not later than ``start_by``."""
        key = record.watched.key
        if key not in self.in_flight_keys:
            self._queue.withdraw(key)
            self._begin(FactorFetch(record, record.watched, start_by=start_by))

    async def _fetch_on_demand(self, record: FactorRecord, *, urgent: bool = False) -> Outcome | None:
        self._queue.withdraw(record.watched.key)  # where it was due, this fetch is the one that is due
        request = FactorFetch(record, record.watched, urgent=urgent)
        await self._until_ended(request)
        return request.outcome

    async def request_page(
        self, entity: WatchedEntity, query: str | None = None, *, urgent: bool = False
    ) -> Attempt | None:
        """Request one page of an entity's factors, with retries; ``None`` where polling stops."""
        request = ListingPage(entity, query, urgent=urgent)
        await self._until_ended(request)
        return request.attempt

    async def request_entities(
        self, service_sid: str, query: str | None = None, *, urgent: bool = False
    ) -> Attempt | None:
        """Request one page of a service's entities, with retries; ``None`` where polling stops."""
        request = EntitiesPage(service_sid, query, urgent=urgent)
        await self._until_ended(request)
        return request.attempt

    async def request_service(self, service_sid: str) -> Attempt | None:
        """Request a service, with retries; ``None`` where polling stops, the answer is dropped or a token lacks."""
        request = ServiceFetch(service_sid)
        await self._until_ended(request)
        return None if request.lacks_token else request.attempt

    async def _until_ended(self, request: ApiRequest) -> None:
        request.ended = self._loop.create_future()
        self._begin(request)
        await request.ended

    def probe_with(self, probe_listing: Callable[[], Awaitable[int | None]]) -> None:
        """Probe with this while the account has no factor to fetch; it returns an HTTP status."""
        self._refusals.probe_listing = probe_listing

    async def rest(self, seconds: float) -> bool:
        """Wait between two requests; return ``False``, at once, where polling stops."""
        return await self._queue.rest(seconds)

    def _listing_wait(self, request: ApiRequest) -> float:
        """Return how long a request of a listing waits, so that listings keep to their share of the budget.

        Other requests don't wait.
        """
        if request.urgent or not request.of_listing or self._policy.one_shot:
            return 0.0
        return self._listing_pace.reserve(self._clock.steady(), self.listing_requests_per_second)

    # What is known of the account

    @property
    def budget_requests_per_second(self) -> float:
        """What the account may use; before its latency is measured, only the configured rate counts."""
        throttle = self.throttle
        if throttle.latency_seconds is None:
            return throttle.requests_per_second
        return throttle.budget_requests_per_second

    @property
    def listing_requests_per_second(self) -> float:
        """What listings may use now.

        Fetches that are due, and first fetches, need a part of the budget for the half minute in which they start.
        """
        waiting = max(len(self._awaiting_first_fetch), len(self._queue)) / (FIRST_FETCH_SECONDS / 2)
        return listing_budget(self.budget_requests_per_second, self.fetch_requests_per_second + waiting)

    @property
    def credentials_valid(self) -> bool | None:
        """Whether the credentials are good; ``None`` before the first answer."""
        return self._refusals.guard.valid

    @property
    def refusals_ended(self) -> int:
        """How many pauses for refused credentials have ended."""
        return self._refusals.guard.pauses_ended

    @property
    def credentials(self) -> int:
        """How often the credentials have changed."""
        return self._credentials

    @property
    def credentials_changed_steady(self) -> float | None:
        """When the credentials changed (steady seconds); ``None`` if they are those of the start."""
        return self._credentials_steady

    @property
    def pause(self) -> Pause | None:
        """Why the account sends nothing but probes now, and until when; ``None`` where it is not paused."""
        guard, throttle = self._refusals.guard, self.throttle
        if guard.paused:
            return Pause(PauseReason.CREDENTIALS, probe_at_steady=guard.probe_at)
        if throttle.paused(self._clock.steady()):
            return Pause(PauseReason.RATE_LIMITED, until_steady=throttle.paused_until)
        return None

    @property
    def queue_length(self) -> int:
        """Factors that are due and wait for a slot."""
        return len(self._queue)

    @property
    def first_fetches_pending(self) -> int:
        """Factors whose first fetch has neither ended nor been delayed by a pause."""
        return len(self._awaiting_first_fetch)

    @property
    def rotations(self) -> int:
        """How often the client was rotated."""
        return self._clients.rotations

    @property
    def busy(self) -> bool:
        """Whether a fetch is queued or in flight."""
        return len(self._queue) > 0 or bool(self._pending())

    @property
    def stopping(self) -> bool:
        """Whether no new attempt starts."""
        return self._queue.stopping

    # Changes

    def expect_first_fetches(self, keys: Iterable[FactorKey]) -> None:
        """Count the first fetches of these factors as pending."""
        self._awaiting_first_fetch.update(keys)

    def _first_fetch_ended(self, key: FactorKey) -> None:
        self._awaiting_first_fetch.discard(key)
        if not self._awaiting_first_fetch:
            self._awaiting_first_fetch = set()  # an emptied set keeps its memory

    def forget(self, key: FactorKey) -> None:
        """Stop polling a factor; a fetch in flight continues, and its outcome is dropped."""
        self._queue.withdraw(key)
        self._first_fetch_ended(key)

    def apply_policy(self, policy: AccountPolicy) -> None:
        """Go by new settings; the timeout is that of the next client."""
        self._policy = policy
        self._tokens.need(policy.oauth and not self._queue.stopping)
        self._clients.stuck_after_seconds = policy.timeout_seconds + STUCK_SECONDS
        self.throttle.configure(
            requests_per_second=policy.requests_per_second, max_concurrency=policy.max_concurrency
        )
        self._queue.dispatch()

    def replace_client(self, client: FactorClient, *, void: bool = False) -> None:
        """Use another client; ``void`` drops the answers that still come through the old one, to another API."""
        self._clients.replace(client, void=void)

    def check_client(self) -> None:
        """Cancel requests that outlived their timeout, and rotate a client that is stuck or silent; every 10 s."""
        if self._queue.stopping:
            return
        why = self._clients.check(self._clock.steady(), max_concurrency=self.throttle.max_concurrency)
        if why is not None:
            self._observer.client_rotated(self.name, why)

    def resumed(self) -> None:
        """Go on after a suspend of the system: its connections are dead, and timers did not count it."""
        if self._queue.stopping:
            return
        self._clients.renew()
        self._queue.resumed()
        self._refusals.resumed()

    def credentials_changed(self) -> None:
        """Take changed credentials: a pause for credentials ends as soon as one request is answered."""
        self._credentials += 1
        self._credentials_steady = self._clock.steady()
        self._tokens.token.credentials_changed()
        self._refusals.credentials_changed()

    def stop(self, *, dropping: bool = False) -> None:
        """Start no new attempt; requests in flight go on, and their answers count unless ``dropping``."""
        self._dropping |= dropping
        self._queue.stop()
        self._refusals.stop()
        self._tokens.need(False)

    async def finish(self, timeout_seconds: float) -> None:
        """Give the requests in flight this long, then close their connections and drop their answers."""
        deadline = self._loop.time() + timeout_seconds
        while tasks := self._pending():  # again every second: another task may have taken over a fetch
            left = deadline - self._loop.time()
            await asyncio.wait(tasks, timeout=max(0.0, min(left, CLOSE_SECONDS)))
            if left <= CLOSE_SECONDS:
                break
        self._dropping = True
        await self._clients.aclose()
        if tasks := self._pending():
            _, unfinished = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished, timeout=CLOSE_SECONDS)

    def _pending(self) -> list[asyncio.Task[Any]]:
        return [*self._tasks, *self._refusals.tasks()]
