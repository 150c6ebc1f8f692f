"""One account's share of the polling: fetches its due factors within its throttle."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from exporter.polling.backoff import attempts_allowed, backoff_seconds
from exporter.polling.clients import (
    CLOSE_SECONDS,
    STUCK_SECONDS,
    ApiCall,
    ClientHealth,
    Clients,
    RotationReason,
    Series,
)
from exporter.polling.pause import Pause, PauseReason
from exporter.polling.queue import InFlight, RequestQueue
from exporter.polling.refusals import Refusals
from exporter.verify.outcome import Attempt, Failure, Operation, Outcome, Reason

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from typing import Any

    from exporter.polling.clients import FactorClient
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.observer import Observer
    from exporter.polling.record import FactorRecord
    from exporter.polling.schedule import Schedule
    from exporter.polling.throttle import Throttle
    from exporter.watched import FactorKey

log = logging.getLogger(__name__)


class AccountPoller:
    """Fetches the due factors of one account.

    The only owner of retries; never two fetches at once for a factor. ``reread_password`` reads the password
    again and tells whether it changed; it is asked at each 401. ``timeout_seconds`` is the client's bound of one
    attempt, ``new_client`` makes a fresh client where the one in use is jammed. A ``patient`` one lets retries go
    on past the next due time, for factors that are fetched once.
    """

    def __init__(
        self,
        name: str,
        *,
        client: FactorClient,
        throttle: Throttle,
        ledger: Ledger,
        schedule: Schedule[FactorKey],
        observer: Observer,
        clock: Clock,
        rng: random.Random,
        max_attempts: int = 3,
        timeout_seconds: float = math.inf,
        reread_password: Callable[[], bool] = lambda: False,
        new_client: Callable[[], FactorClient] | None = None,
        patient: bool = False,
    ) -> None:
        self.name = name
        self.throttle = throttle
        self.stretch = 1.0
        self.demand_requests_per_second = 0.0  # of the unstretched intervals, as of the last look at the budget
        self.rotations = 0
        self._clients = Clients(client, timeout_seconds + STUCK_SECONDS)
        self._new_client = new_client
        self._client_health = ClientHealth()
        self._renewable = True
        self._ledger = ledger
        self._schedule = schedule
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._max_attempts = max_attempts
        self._reread_password = reread_password
        self._patient = patient
        self.in_flight_keys = InFlight()
        self._awaiting_first_fetch: set[FactorKey] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._credentials = 0  # counts their changes
        self._dropping = False
        self._turns = RequestQueue(throttle, clock, self._start)
        self._refusals = Refusals(
            name,
            ledger=ledger,
            turns=self._turns,
            clock=clock,
            observer=observer,
            in_flight_keys=self.in_flight_keys,
            look=lambda record: self._out_of_turn(record, urgent=True),
        )

    @property
    def credentials_valid(self) -> bool | None:
        """Whether the credentials are good; ``None`` before the first answer."""
        return self._refusals.guard.valid

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
        return len(self._turns)

    def _seen(self, key: FactorKey) -> None:
        self._awaiting_first_fetch.discard(key)
        if not self._awaiting_first_fetch:
            self._awaiting_first_fetch = set()  # an emptied one keeps the room of all that it held

    @property
    def first_fetches_pending(self) -> int:
        """Factors whose first fetch has neither ended nor been delayed by a pause."""
        return len(self._awaiting_first_fetch)

    @property
    def busy(self) -> bool:
        """Whether a look waits or is under way."""
        return len(self._turns) > 0 or bool(self._pending())

    @property
    def stopping(self) -> bool:
        """Whether no new attempt starts any more."""
        return self._turns.stopping

    def expect_first_fetches(self, keys: Iterable[FactorKey]) -> None:
        """Count the first fetches of these factors as pending."""
        self._awaiting_first_fetch.update(keys)

    def offer(self, key: FactorKey, due: float) -> None:
        """Put a due factor in the queue; one that is still there keeps its place."""
        self._turns.offer(key, due)

    def dispatch(self) -> None:
        """Start what may start now; called at each tick."""
        self._turns.pump()
        if self._awaiting_first_fetch and self.pause is not None:
            self._awaiting_first_fetch.difference_update(self._turns)
            if self.throttle.in_flight == 0:  # looks that wait for another attempt are held as well
                self._awaiting_first_fetch.difference_update(self.in_flight_keys)

    def forget(self, key: FactorKey) -> None:
        """Stop looking at a factor; what is under way for it goes on and is dropped."""
        self._turns.withdraw(key)
        self._seen(key)

    def configure(
        self,
        *,
        requests_per_second: float,
        max_concurrency: int,
        max_attempts: int,
        timeout_seconds: float = math.inf,
    ) -> None:
        """Take another budget, number of attempts, and bound of those that the next client makes."""
        self._clients.stuck_after_seconds = timeout_seconds + STUCK_SECONDS
        self.throttle.configure(requests_per_second=requests_per_second, max_concurrency=max_concurrency)
        self._max_attempts = max_attempts
        self._turns.pump()

    def use(self, client: FactorClient, *, void: bool = False) -> None:
        """Use another client; ``void`` drops what the one before still brings, as it asked another API."""
        self._clients.replace(client, void=void)
        self._client_health.renewed()

    def check_client(self) -> None:
        """Give up requests that outlived their bound, and replace a client that is jammed; called each 10 s."""
        if self._turns.stopping:
            return
        stuck = self._clients.give_up_stuck()
        now = self._clock.steady()
        why = self._client_health.due(now, stuck=stuck, max_concurrency=self.throttle.max_concurrency)
        if why is None or self._new_client is None:
            return
        self._client_health.rotated(now)
        try:
            client = self._new_client()
        except Exception as error:  # noqa: BLE001 - the old one may yet recover
            if self._renewable:
                log.error("the client of account %s can't be replaced, the old one stays: %s", self.name, error)
            self._renewable = False
            return
        self._renewable = True
        self._clients.replace(client, at_once=why is RotationReason.STUCK)
        self.rotations += 1
        self._observer.client_rotated(self.name, why)

    def credentials_changed(self) -> None:
        """Take changed credentials: a pause for credentials ends as soon as one call is answered."""
        self._credentials += 1
        self._refusals.credentials_changed()

    def _start(self, key: FactorKey, lag_seconds: float) -> None:
        record = self._ledger.get(key)
        if record is None:
            self._seen(key)
            return
        if key in self.in_flight_keys:  # asked for at this moment, out of turn or from before it was watched anew
            self._schedule.put_back(key, self._clock.steady(), record.interval_seconds)
            return
        now = self._clock.steady()
        deadline = math.inf if self._patient else self._schedule.next_due(key, now, record.interval_seconds)
        self._observer.started(lag_seconds)
        self.throttle.begin(now)
        self.in_flight_keys.add(key)  # at once: a probe or a confirmation may choose before the task begins
        self.begin(self._regular_look(record, deadline))

    def _look_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a look ended with %s: please report this", type(error).__name__, exc_info=error)
        self._turns.pump()

    async def _regular_look(self, record: FactorRecord, deadline: float) -> None:
        try:
            await self._look(record, deadline=deadline)
        finally:
            self._look_over(record)

    async def _out_of_turn(
        self, record: FactorRecord, deadline: float = math.inf, *, urgent: bool = False
    ) -> Outcome | None:
        """Ask for a factor out of turn; one that is due, or was about to be, has had its turn with this."""
        key = record.watched.key
        self.in_flight_keys.add(key)  # before the wait for a slot: nobody else may choose it
        self._turns.withdraw(key)
        try:
            if not await self._turns.turn(0.0, deadline, urgent=urgent, guest=True):
                return None
            return await self._look(record, urgent=urgent)
        finally:
            self._look_over(record)

    def _look_over(self, record: FactorRecord) -> None:
        key = record.watched.key
        self.in_flight_keys.discard(key)
        if self._ledger.get(key) is record:  # else it is no longer watched, or watched anew: not this look's affair
            self._seen(key)
            self._turns.withdraw(key)  # where it fell due meanwhile
            self._schedule.put_back(key, self._clock.steady(), record.interval_seconds)

    async def _look(
        self, record: FactorRecord, *, deadline: float = math.inf, urgent: bool = False
    ) -> Outcome | None:
        """Fetch a factor and tell the ledger; ``None`` where the exporter stops first."""
        asked = record.watched
        key = asked.key
        call = ApiCall(Operation.FETCH, lambda client: client.fetch_factor(asked), record)
        series = await self._ask(call, deadline, urgent=urgent)
        outcome = None if series is None else series.outcome()
        if outcome is None or self._ledger.get(key) is not record or record.watched.identity != asked.identity:
            return outcome  # stopping, no longer watched, or asked for as another's: the answer is dropped
        change = self._ledger.apply(key, outcome, self._clock.moment())
        self._observer.fetched(record, outcome, change)
        return outcome

    async def ask(self, call: ApiCall, *, urgent: bool = False) -> Series | None:
        """Ask for something in turn, as retries do; ``None`` where the exporter stops or drops the answer."""
        if not await self._turns.turn(0.0, math.inf, urgent=urgent):
            return None
        return await self._ask(call, math.inf, urgent=urgent)

    async def fetch_now(self, key: FactorKey) -> Outcome | None:
        """Fetch a factor out of its turn; ``None`` where that is not to be, or it is being fetched."""
        record = self._ledger.get(key)
        if record is None or record.watched.paused or key in self.in_flight_keys:
            return None
        return await self._out_of_turn(record)

    def fetch_soon(self, record: FactorRecord, deadline: float) -> None:
        """Begin to fetch a factor out of its turn, unless it is being fetched; no later than ``deadline``."""
        if record.watched.key not in self.in_flight_keys:
            self.in_flight_keys.add(record.watched.key)
            self.begin(self._out_of_turn(record, deadline))

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Run work that asks of this account; a drain waits for it as for looks."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._look_ended)

    def probe_with(self, probe_listing: Callable[[], Awaitable[int | None]]) -> None:
        """Probe with this while the account has no factor to ask for; it returns an HTTP status."""
        self._refusals.probe_listing = probe_listing

    async def _ask(self, call: ApiCall, deadline: float, *, urgent: bool) -> Series | None:
        """Make attempts until one is answered or none may follow; the first one's slot is already taken.

        An attempt that could not begin before ``deadline`` (steady seconds) isn't made.
        """
        duration, attempts, renewed = 0.0, 0, False
        max_attempts = 1 if urgent else self._max_attempts
        while True:
            credentials = self._credentials
            attempt = await self._attempt(call, attempts)
            if attempt is None:
                return None
            attempts += 1
            duration += attempt.duration_seconds
            if not isinstance(attempt.result, Failure):
                return Series(attempt, duration, attempts)
            reason = attempt.result.reason
            if reason.refused:
                alone = await self._concerns_alone(call.about, attempt.result, credentials, urgent=urgent)
                if self._dropping:
                    return None
                if renewed or credentials == self._credentials:
                    return Series(attempt, duration, attempts, alone=alone)
                renewed, wait = True, 0.0  # the credentials changed since: they were not refused
            elif attempts >= attempts_allowed(reason, max_attempts):
                return Series(attempt, duration, attempts)
            else:
                wait = self._wait_before_retry(reason, attempts)
            if self._clock.steady() + wait >= deadline or not await self._turns.turn(wait, deadline, urgent=urgent):
                return None if self._turns.stopping else Series(attempt, duration, attempts)
            duration += wait
            self._observer.retried(self.name)

    async def _concerns_alone(
        self, record: FactorRecord | None, failure: Failure, credentials: int, *, urgent: bool
    ) -> bool:
        """Return whether a refusal of these credentials is confirmed to concern this factor alone."""
        if failure.reason is Reason.AUTH and self._reread_password():
            self.credentials_changed()
        if urgent or credentials != self._credentials:
            return False
        return await self._refusals.judge(record, failure)

    async def _attempt(self, call: ApiCall, before: int) -> Attempt | None:
        """Make one request; ``None`` where the exporter stops before it or drops its answer."""
        started = self._clock.steady()
        answered: float | None = None
        try:
            if self._turns.stopping:  # since the slot was given
                return None
            async with self._clients.borrow() as lease:
                attempt = await lease.result(call.send(lease.client))
            if attempt.code is not None:
                answered = attempt.duration_seconds
        finally:
            now = self._clock.steady()
            self.throttle.end(answered)
        if self._dropping or lease.void:
            self._turns.pump()
            return None
        if not lease.replaced:
            self._client_health.heard(now, answered=attempt.code is not None)
        self._refusals.guard.heard(attempt.code)
        self.throttle.hinted(now, attempt.concurrent_requests)
        reason = attempt.result.reason if isinstance(attempt.result, Failure) else None
        if reason is Reason.RATE_LIMITED:
            pause = attempt.retry_after_seconds
            if pause is None:
                pause = backoff_seconds(before + 1, self._rng)
            self.throttle.rate_limited(now, started=started, pause_seconds=pause)
            self._observer.rate_limited(self.name, pause, self.throttle.limit)
        self._observer.attempted(self.name, call.operation, attempt)
        if reason is None or not reason.refused:  # a refusal is judged before anyone else may start
            self._turns.pump()
        return attempt

    def _wait_before_retry(self, reason: Reason, attempts: int) -> float:
        if reason is Reason.RATE_LIMITED:
            return max(0.0, self.throttle.paused_until - self._clock.steady())
        return backoff_seconds(attempts, self._rng)

    def stop(self, *, dropping: bool = False) -> None:
        """Start no new attempt; requests under way go on, and their answers count unless ``dropping``."""
        self._dropping |= dropping
        self._turns.stop()
        self._refusals.stop()

    async def finish(self, timeout_seconds: float) -> None:
        """Give the requests under way this long, then close their connections and drop their answers."""
        tasks = self._pending()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_seconds)
        self._dropping = True
        await self._clients.aclose()
        if tasks := self._pending():
            _, stuck = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck, timeout=CLOSE_SECONDS)

    def _pending(self) -> list[asyncio.Task[Any]]:
        return [*self._tasks, *self._refusals.tasks()]
