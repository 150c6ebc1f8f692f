"""Whose request is next: hands out an account's slots as its throttle allows."""

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
    """A set of factors that lets anybody wait for the end of a look."""

    def __init__(self) -> None:
        self._ends: dict[FactorKey, asyncio.Future[None] | None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._ends

    def __iter__(self) -> Iterator[FactorKey]:
        return iter(self._ends)

    def add(self, key: FactorKey) -> None:
        """Take note that a factor's look begins."""
        self._ends.setdefault(key, None)

    def discard(self, key: FactorKey) -> None:
        """Take note that a factor's look is over, and tell those who wait for it."""
        end = self._ends.pop(key, None)
        if end is not None and not end.done():
            end.set_result(None)

    async def end(self, key: FactorKey, timeout_seconds: float) -> None:
        """Wait for the end of a factor's look, at most this long; whoever stops waiting ends nothing."""
        if key not in self._ends:
            return
        end = self._ends[key]
        if end is None:
            end = self._ends[key] = asyncio.get_running_loop().create_future()
        await asyncio.wait((end,), timeout=timeout_seconds)


_STARTS_AT_ONCE = 16  # a millisecond or two of work; the answers to these come together, too


@dataclass(slots=True, eq=False)
class _Waiter:
    """A fetch that waits for a slot; the future tells it whether to go on."""

    granted: asyncio.Future[bool]
    line: deque[_Waiter]


class RequestQueue:
    """The order of an account's requests: urgent calls, then retries, then due factors, each in order of arrival.

    Guests, which ask for a look out of turn, and due factors take turns: neither keeps the other waiting.
    A burst leaves some at a time, each time after what else has to be done: it would hold up the event loop.
    While ``held`` only urgent calls go: one that asks whether a refusal concerns the whole account, and the
    probes of a pause. ``start`` is called with a due factor whose slot is counted, and how late it is in seconds;
    time spent in a pause is not lateness.
    """

    def __init__(self, throttle: Throttle, clock: Clock, start: Callable[[FactorKey, float], None]) -> None:
        self._throttle = throttle
        self._clock = clock
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._due: OrderedDict[FactorKey, float] = OrderedDict()
        self._retries: deque[_Waiter] = deque()
        self._urgent: deque[_Waiter] = deque()
        self._guests: deque[_Waiter] = deque()
        self._guest_went = False
        self._waiters: set[_Waiter] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._started = 0
        self._resting = False
        self._held = False
        self._released_at = -math.inf
        self._idle = asyncio.Event()
        self.stopping = False

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[FactorKey]:
        return iter(self._due)

    def offer(self, key: FactorKey, due: float) -> None:
        """Put a due factor in the queue; one that is still there keeps its place."""
        self._due.setdefault(key, due)

    def withdraw(self, key: FactorKey) -> bool:
        """Take a factor out of the queue; return whether it was there."""
        return self._due.pop(key, None) is not None

    def hold(self) -> None:
        """Let only urgent calls go from now on."""
        self._held = True

    def release(self) -> None:
        """End a hold."""
        if self._held:
            self._held = False
            self._released_at = self._clock.steady()
        self.pump()

    def pump(self) -> None:
        """Start what may start now."""
        if self._throttle.in_flight == 0:
            self._idle.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while not self.stopping and (self._urgent or (not self._held and self._anybody())):
            if self._started == _STARTS_AT_ONCE:
                if not self._resting:
                    self._resting = True
                    self._loop.call_soon(self._go_on)
                return
            now = self._clock.steady()
            delay = self._throttle.delay(now)
            if delay is None:  # the end of a request pumps again
                return
            if delay > 0:
                self._timer = self._loop.call_later(delay, self.pump)
                return
            waiters = self._urgent or self._retries
            if not waiters and self._guests and not (self._due and self._guest_went):
                waiters = self._guests
            if not waiters:
                self._started += 1
                self._start_due(now)
                self._guest_went = False
                continue
            waiter = waiters.popleft()
            if not waiter.granted.done():
                self._started += 1
                self._guest_went = waiters is self._guests
                self._throttle.begin(now)
                waiter.granted.set_result(True)

    def _go_on(self) -> None:
        self._started, self._resting = 0, False
        self.pump()

    def _anybody(self) -> bool:
        return bool(self._retries or self._guests or self._due)

    def _start_due(self, now: float) -> None:
        key, due = self._due.popitem(last=False)
        since = max(due, self._released_at, min(self._throttle.paused_until, now))
        self._start(key, max(0.0, now - since))

    async def turn(
        self, wait_seconds: float, deadline: float, *, urgent: bool = False, guest: bool = False
    ) -> bool:
        """Wait at least ``wait_seconds``, then for a slot, and count the request that starts with it.

        Returns ``False``, with no slot taken, when ``deadline`` (steady seconds) passes first or all stops.
        """
        if self.stopping:
            return False
        line = self._urgent if urgent else self._guests if guest else self._retries
        waiter = _Waiter(self._loop.create_future(), line)
        timers = [self._loop.call_later(wait_seconds, self._line_up, waiter)]
        if deadline < math.inf:
            timers.append(self._loop.call_later(max(0.0, deadline - self._clock.steady()), _refuse, waiter))
        self._waiters.add(waiter)
        try:
            return await waiter.granted
        finally:
            self._waiters.discard(waiter)
            for timer in timers:
                timer.cancel()

    async def quiet(self) -> None:
        """Wait until no request is under way, or all stops."""
        if self._throttle.in_flight > 0 and not self.stopping:
            self._idle.clear()
            await self._idle.wait()

    def _line_up(self, waiter: _Waiter) -> None:
        waiter.line.append(waiter)
        self.pump()

    def stop(self) -> None:
        """Start nothing more; every fetch that waits for a slot is told so."""
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


def next_in_turn(keys: list[FactorKey], turn: int, busy: Container[FactorKey]) -> FactorKey | None:
    """Return the ``turn``-th of the keys, round and round, passing over those that are busy."""
    for step in range(len(keys)):
        key = keys[(turn + step) % len(keys)]
        if key not in busy:
            return key
    return None
