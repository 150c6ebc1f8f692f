"""What a refusal (401, 403) means: it concerns one factor, or it pauses the account until a probe succeeds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.polling.queue import round_robin
from exporter.verify.outcome import Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterator

    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.observer import Observer
    from exporter.polling.queue import RequestQueue
    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey

PROBE_SECONDS = 30.0
PROBE_CAP_SECONDS = 600.0


class CredentialGuard:
    """The state of one account's credentials.

    ``valid`` is ``None`` before the first answer. A confirmed refusal pauses the account; probes follow after
    30 s, with twice the wait each time up to 10 min, until one is answered. ``pauses_ended`` counts the pauses that
    such a probe has ended. Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.valid: bool | None = None
        self.paused = False
        self.probe_at = 0.0
        self.pauses_ended = 0
        self._wait_seconds = PROBE_SECONDS

    def heard(self, code: int | None) -> None:
        """Take the HTTP status of an answer: one that is no refusal shows good credentials, except in a pause."""
        if code is not None and code not in (401, 403) and not self.paused:
            self.valid = True

    def pause(self, now: float) -> None:
        """Take a confirmed refusal."""
        self.paused, self.valid = True, False
        self._wait_seconds = PROBE_SECONDS
        self.probe_at = now + self._wait_seconds

    def probe_failed(self, now: float) -> None:
        """Take a probe that failed: wait twice as long."""
        self._wait_seconds = min(2 * self._wait_seconds, PROBE_CAP_SECONDS)
        self.probe_at = now + self._wait_seconds

    def changed(self, now: float) -> None:
        """Take new credentials: probe at once, and restart from the shortest wait if they are refused too."""
        self._wait_seconds = PROBE_SECONDS / 2
        self.probe_at = now

    def resume(self) -> None:
        """Take a probe that succeeded."""
        self.paused, self.valid = False, True
        self.pauses_ended += 1


ANSWERED = frozenset((200, 404))


class Refusals:
    """Confirms a refusal by a fetch of another factor, pauses the account, and probes until the pause ends.

    ``fetch`` makes one urgent fetch of a factor and returns its outcome, ``None`` where polling stops.
    ``probe_listing`` is the probe of an account without factors; it returns the HTTP status, if Twilio sent one.
    """

    def __init__(
        self,
        account: str,
        *,
        ledger: Ledger,
        queue: RequestQueue,
        clock: Clock,
        observer: Observer,
        in_flight_keys: Container[FactorKey],
        fetch: Callable[[FactorRecord], Awaitable[Outcome | None]],
    ) -> None:
        self.guard = CredentialGuard()
        self.probe_listing: Callable[[], Awaitable[int | None]] = _no_listing
        self._account = account
        self._ledger = ledger
        self._queue = queue
        self._clock = clock
        self._observer = observer
        self._in_flight_keys = in_flight_keys
        self._fetch = fetch
        self._loop = asyncio.get_running_loop()
        self._confirmation: asyncio.Task[bool] | None = None
        self._refused: set[FactorKey] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None
        self._probes = 0

    async def judge(self, record: FactorRecord | None, failure: Failure) -> bool:
        """Return whether a refusal concerns this factor (or no factor) alone; where it does not, pause the account.

        Refusals that arrive together share one confirmation; the account is paused until it has its result.
        """
        if self.guard.paused or self._queue.stopping:
            return False
        if record is not None:
            self._refused.add(record.watched.key)
        if self._confirmation is None:
            self._queue.pause()
            self._confirmation = self._loop.create_task(self._confirm(record, failure))
        self._queue.dispatch()
        return await asyncio.shield(self._confirmation)

    def refuse(self, failure: Failure) -> None:
        """Take a refusal that concerns the whole account for certain: pause it without a confirmation."""
        if not self._queue.stopping:
            self._pause(failure)

    async def _confirm(self, refused: FactorRecord | None, failure: Failure) -> bool:
        try:
            other = self._other_factor(refused)
            if other is None:  # those in flight may be fetched again afterwards
                await self._queue.idle()
                other = self._other_factor(refused)
            if other is None:
                if self._refused.issuperset(self._polled()):
                    self._pause(failure)
                return False
            outcome = await self._fetch(other)
            if outcome is None:
                return False
            if isinstance(outcome.result, Failure) and outcome.result.reason.refused:
                self._pause(failure)
            return outcome.code in ANSWERED and not outcome.by_intermediary
        finally:
            self._confirmation = None
            self._refused.clear()
            if not self.guard.paused:
                self._queue.resume()

    def _other_factor(self, refused: FactorRecord | None) -> FactorRecord | None:
        """Return the factor that confirms a refusal best: answered last time, or ever, and of another service."""
        service_sid = None if refused is None else refused.watched.key.service_sid
        best, best_rank = None, (False, False, False)
        for key in self._polled():
            if key in self._in_flight_keys:
                continue
            record = self._ledger[key]
            rank = (
                record.up is True,
                record.answered_seconds is not None,
                key.service_sid != service_sid,
            )
            if best is None or rank > best_rank:
                best, best_rank = record, rank
            if all(best_rank):
                break
        return best

    def _polled(self) -> Iterator[FactorKey]:
        """Yield the account's factors that are polled."""
        for record in self._ledger:
            key = record.watched.key
            if key.account == self._account and record.watched.polled:
                yield key

    def _pause(self, failure: Failure) -> None:
        if self.guard.paused:
            return
        self.guard.pause(self._clock.steady())
        self._queue.pause()
        self._observer.credentials_refused(self._account, failure)
        self._plan_probe()

    def credentials_changed(self) -> None:
        """Take changed credentials: in a pause, probe at once."""
        if self.guard.paused:
            self.guard.changed(self._clock.steady())
            self._plan_probe()

    def resumed(self) -> None:
        """Plan the next probe again after a suspend of the system, which its timer did not count."""
        if self.guard.paused and self._probe is None:
            self._plan_probe()

    def _plan_probe(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._queue.stopping:
            return
        wait = max(0.0, self.guard.probe_at - self._clock.steady())
        self._timer = self._loop.call_later(wait, self._start_probe)

    def _start_probe(self) -> None:
        if self._probe is None and self.guard.paused:
            self._probe = self._loop.create_task(self._probe_once())

    async def _probe_once(self) -> None:
        code = None
        try:
            keys = list(self._polled())
            key = round_robin(keys, self._probes, self._in_flight_keys)
            self._probes += 1
            if key is not None:
                outcome = await self._fetch(self._ledger[key])
                code = None if outcome is None or outcome.by_intermediary else outcome.code
            elif not keys:
                code = await self.probe_listing()
        finally:  # whatever became of this probe, another one follows
            self._probe = None
            if not self._queue.stopping:
                self._probed(code)

    def _probed(self, code: int | None) -> None:
        if code in ANSWERED:
            self.guard.resume()
            self._observer.credentials_accepted(self._account)
            self._queue.resume()
        else:
            self.guard.probe_failed(self._clock.steady())
            self._plan_probe()

    def stop(self) -> None:
        """Plan no more probes."""
        if self._timer is not None:
            self._timer.cancel()

    def tasks(self) -> list[asyncio.Task[bool] | asyncio.Task[None]]:
        """Return the confirmation and the probe in flight."""
        return [task for task in (self._confirmation, self._probe) if task is not None]


async def _no_listing() -> int | None:
    """Probe nothing."""
    return None
