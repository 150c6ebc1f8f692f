"""What a refusal (401, 403) means: one factor's trouble or the whole account's, and when that ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.polling.queue import next_in_turn
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
    30 s, doubling to 10 min, until one is answered. Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.valid: bool | None = None
        self.paused = False
        self.probe_at = 0.0
        self._wait_seconds = PROBE_SECONDS

    def heard(self, code: int | None) -> None:
        """Take the HTTP status of any answer: one that is no refusal shows good credentials, but in a pause."""
        if code is not None and code not in (401, 403) and not self.paused:
            self.valid = True

    def pause(self, now: float) -> None:
        """Take a confirmed refusal."""
        self.paused, self.valid = True, False
        self._wait_seconds = PROBE_SECONDS
        self.probe_at = now + self._wait_seconds

    def probe_failed(self, now: float) -> None:
        """Take a probe that was not answered: wait twice as long."""
        self._wait_seconds = min(2 * self._wait_seconds, PROBE_CAP_SECONDS)
        self.probe_at = now + self._wait_seconds

    def changed(self, now: float) -> None:
        """Take new credentials: probe at once, and from the shortest wait again if they are refused too."""
        self._wait_seconds = PROBE_SECONDS / 2
        self.probe_at = now

    def resume(self) -> None:
        """Take a probe that was answered."""
        self.paused, self.valid = False, True


ANSWERED = frozenset((200, 404))


class Refusals:
    """Confirms a refusal by one call for another factor, pauses the account, and probes until it is over.

    ``look`` makes one urgent fetch of a factor and returns its outcome, ``None`` when the exporter stops.
    ``probe_listing`` is the probe of an account without factors; it returns an HTTP status, if there is one.
    """

    def __init__(
        self,
        account: str,
        *,
        ledger: Ledger,
        turns: RequestQueue,
        clock: Clock,
        observer: Observer,
        in_flight_keys: Container[FactorKey],
        look: Callable[[FactorRecord], Awaitable[Outcome | None]],
    ) -> None:
        self.guard = CredentialGuard()
        self.probe_listing: Callable[[], Awaitable[int | None]] = _nothing
        self._account = account
        self._ledger = ledger
        self._turns = turns
        self._clock = clock
        self._observer = observer
        self._under_way = in_flight_keys
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._verdict: asyncio.Task[bool] | None = None
        self._suspects: set[FactorKey] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None
        self._probes = 0

    async def judge(self, record: FactorRecord | None, failure: Failure) -> bool:
        """Return whether a refusal concerns this factor (or no factor) alone; pauses the account where it does not.

        Refusals that arrive together share one verdict: the account holds its requests until it is known.
        """
        if self.guard.paused or self._turns.stopping:
            return False
        if record is not None:
            self._suspects.add(record.watched.key)
        if self._verdict is None:
            self._turns.hold()
            self._verdict = self._loop.create_task(self._confirm(record, failure))
        self._turns.pump()
        return await asyncio.shield(self._verdict)

    async def _confirm(self, suspect: FactorRecord | None, failure: Failure) -> bool:
        try:
            other = self._witness(suspect)
            if other is None:  # whoever is asked at this moment may be free to be asked again after it
                await self._turns.quiet()
                other = self._witness(suspect)
            if other is None:
                if self._suspects.issuperset(self._polled()):
                    self._pause(failure)
                return False
            outcome = await self._look(other)
            if outcome is None:
                return False
            if isinstance(outcome.result, Failure) and outcome.result.reason.refused:
                self._pause(failure)
            return outcome.code in ANSWERED
        finally:
            self._verdict = None
            self._suspects.clear()
            if not self.guard.paused:
                self._turns.release()

    def _witness(self, suspect: FactorRecord | None) -> FactorRecord | None:
        """Return the factor to ask for instead: answered lately, or at least once, and of another service."""
        service_sid = None if suspect is None else suspect.watched.key.service_sid
        best, best_rank = None, (False, False, False)
        for key in self._polled():
            if key in self._under_way:
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
        """Yield the account's factors that are fetched at all."""
        for record in self._ledger:
            key = record.watched.key
            if key.account == self._account and not record.watched.paused:
                yield key

    def _pause(self, failure: Failure) -> None:
        self.guard.pause(self._clock.steady())
        self._turns.hold()
        self._observer.credentials_refused(self._account, failure)
        self._plan_probe()

    def credentials_changed(self) -> None:
        """Take a changed password file: in a pause, probe at once."""
        if self.guard.paused:
            self.guard.changed(self._clock.steady())
            self._plan_probe()

    def _plan_probe(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._turns.stopping:
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
            key = next_in_turn(keys, self._probes, self._under_way)
            self._probes += 1
            if key is not None:
                outcome = await self._look(self._ledger[key])
                code = None if outcome is None else outcome.code
            elif not keys:
                code = await self.probe_listing()
        finally:  # whatever became of this probe, the account is not left without a next one
            self._probe = None
            if not self._turns.stopping:
                self._probed(code)

    def _probed(self, code: int | None) -> None:
        if code in ANSWERED:
            self.guard.resume()
            self._observer.credentials_accepted(self._account)
            self._turns.release()
        else:
            self.guard.probe_failed(self._clock.steady())
            self._plan_probe()

    def stop(self) -> None:
        """Plan no more probes."""
        if self._timer is not None:
            self._timer.cancel()

    def tasks(self) -> list[asyncio.Task[bool] | asyncio.Task[None]]:
        """Return what is under way."""
        return [task for task in (self._verdict, self._probe) if task is not None]


async def _nothing() -> int | None:
    """Ask for nothing."""
    return None
