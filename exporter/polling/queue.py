"""Which request is next: hands out an account's slots in order, as its throttle allows."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from exporter.polling.clock import Clock
    from exporter.polling.throttle import Throttle
    from exporter.watched import FactorKey


class InFlight:
    """The factors whose fetch has started, or waits for its slot on demand; the end of a fetch can be awaited."""

    def __init__(self) -> None:
        self._ends: dict[FactorKey, asyncio.Future[None] | None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._ends

    def __iter__(self) -> Iterator[FactorKey]:
        return iter(self._ends)

    def add(self, key: FactorKey) -> None:
        """Take note that a fetch starts."""
        self._ends.setdefault(key, None)

    def discard(self, key: FactorKey) -> None:
        """Take note that a fetch has ended, and wake those who wait for it."""
        end = self._ends.pop(key, None)
        if end is not None and not end.done():
            end.set_result(None)

    async def end(self, key: FactorKey, timeout_seconds: float | None = None) -> None:
        """Wait for the end of a factor's fetch, at most this long; a cancelled wait does not affect the fetch."""
        if key not in self._ends:
            return
        end = self._ends[key]
        if end is None:
            end = self._ends[key] = asyncio.get_running_loop().create_future()
        await asyncio.wait((end,), timeout=timeout_seconds)


_BURST = 16  # a millisecond or two of work; their answers come together, too


@dataclass(slots=True, eq=False)
class _Waiter:
    """A fetch that waits for a slot; ``granted`` says whether it got one. Times are steady seconds.

    It is queued from ``begins`` on, and refused at ``deadline``.
    """

    granted: asyncio.Future[bool]
    queue: deque[_Waiter]
    begins: float
    deadline: float
    queued: bool = False


class RequestQueue:
    """The order of an account's requests: urgent ones, then retries, then due factors, each in order of arrival.

    On-demand fetches and due factors alternate, so that neither delays the other for long. A burst is sent in
    pieces, with other work of the event loop in between. While paused, only urgent requests are sent: the one that
    confirms a refusal, and the probes of a pause. ``start`` gets a due factor for which there is a slot, and the
    seconds that it is late; time spent in a pause does not count.
    """

    def __init__(self, throttle: Throttle, clock: Clock, start: Callable[[FactorKey, float], None]) -> None:
        self._throttle = throttle
        self._clock = clock
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._due: OrderedDict[FactorKey, float] = OrderedDict()
        self._retries: deque[_Waiter] = deque()
        self._urgent: deque[_Waiter] = deque()
        self._on_demand: deque[_Waiter] = deque()
        self._on_demand_was_last = False
        self._waiters: set[_Waiter] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._burst = 0
        self._yielding = False
        self._paused = False
        self._resumed_at = -math.inf
        self._idle = asyncio.Event()
        self.stopping = False

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[FactorKey]:
        return iter(self._due)

    def offer(self, key: FactorKey, due: float) -> None:
        """Queue a due factor; one that is queued already keeps its place."""
        self._due.setdefault(key, due)

    def withdraw(self, key: FactorKey) -> bool:
        """Take a factor out of the queue; return whether it was there."""
        return self._due.pop(key, None) is not None

    def pause(self) -> None:
        """Send only urgent requests from now on."""
        self._paused = True

    def resume(self) -> None:
        """End a pause."""
        if self._paused:
            self._paused = False
            self._resumed_at = self._clock.steady()
        self.dispatch()

    def resumed(self) -> None:
        """Go on after a suspend of the system, which is no lag of what is queued and which no timer counted."""
        now = self._resumed_at = self._clock.steady()
        for waiter in self._waiters:
            if waiter.deadline <= now:
                _refuse(waiter)
            elif waiter.begins <= now:
                self._enqueue(waiter)

    def dispatch(self) -> None:
        """Hand out the slots that are free now."""
        if self._throttle.in_flight == 0:
            self._idle.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while not self.stopping and (self._urgent or (not self._paused and self._waiting())):
            if self._burst == _BURST:
                if not self._yielding:
                    self._yielding = True
                    self._loop.call_soon(self._continue)
                return
            now = self._clock.steady()
            delay = self._throttle.delay(now)
            if delay is None:  # the end of a request dispatches again
                return
            if delay > 0:
                self._timer = self._loop.call_later(delay, self.dispatch)
                return
            waiters = self._urgent or self._retries
            if not waiters and self._on_demand and not (self._due and self._on_demand_was_last):
                waiters = self._on_demand
            if not waiters:
                self._burst += 1
                self._start_due(now)
                self._on_demand_was_last = False
                continue
            waiter = waiters.popleft()
            if not waiter.granted.done():
                self._burst += 1
                self._on_demand_was_last = waiters is self._on_demand
                self._throttle.begin(now)
                waiter.granted.set_result(True)

    def _continue(self) -> None:
        self._burst, self._yielding = 0, False
        self.dispatch()

    def _waiting(self) -> bool:
        return bool(self._retries or self._on_demand or self._due)

    def _start_due(self, now: float) -> None:
        key, due = self._due.popitem(last=False)
        since = max(due, self._resumed_at, min(self._throttle.paused_until, now))
        self._start(key, max(0.0, now - since))

    async def slot(
        self, wait_seconds: float, deadline: float, *, urgent: bool = False, on_demand: bool = False
    ) -> bool:
        """Wait at least ``wait_seconds``, then for a slot; the request that starts with it is counted.

        Returns ``False``, with no slot taken, when ``deadline`` (steady seconds) passes first or polling stops.
        """
        if self.stopping:
            return False
        queue = self._urgent if urgent else self._on_demand if on_demand else self._retries
        now = self._clock.steady()
        waiter = _Waiter(self._loop.create_future(), queue, now + wait_seconds, deadline)
        timers = [self._loop.call_later(wait_seconds, self._enqueue, waiter)]
        if deadline < math.inf:
            timers.append(self._loop.call_later(max(0.0, deadline - now), _refuse, waiter))
        self._waiters.add(waiter)
        try:
            return await waiter.granted
        finally:
            self._waiters.discard(waiter)
            for timer in timers:
                timer.cancel()

    async def rest(self, seconds: float) -> bool:
        """Wait without a slot; return ``False``, at once, where polling stops."""
        if self.stopping:
            return False
        until = self._clock.steady() + seconds
        waiter = _Waiter(self._loop.create_future(), deque(), math.inf, until)
        timer = self._loop.call_later(seconds, _refuse, waiter)
        self._waiters.add(waiter)
        try:
            await waiter.granted
        finally:
            self._waiters.discard(waiter)
            timer.cancel()
        return not self.stopping

    async def idle(self) -> None:
        """Wait until no request is in flight, or polling stops."""
        if self._throttle.in_flight > 0 and not self.stopping:
            self._idle.clear()
            await self._idle.wait()

    def _enqueue(self, waiter: _Waiter) -> None:
        if not waiter.queued:
            waiter.queued = True
            waiter.queue.append(waiter)
        self.dispatch()

    def stop(self) -> None:
        """Hand out no more slots; every fetch that waits for one is refused it."""
        self.stopping = True
        self._idle.set()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            _refuse(waiter)


def _refuse(waiter: _Waiter) -> None:
    if not waiter.granted.done():
        waiter.granted.set_result(False)


def round_robin(keys: list[FactorKey], number: int, busy: Container[FactorKey]) -> FactorKey | None:
    """Return the ``number``-th of the keys, counting round and round; busy ones are skipped."""
    for step in range(len(keys)):
        key = keys[(number + step) % len(keys)]
        if key not in busy:
            return key
    return None
