"""Which password is checked next: bcrypt takes its time, and a flood of guesses must not keep others out.

Apart from basicauth.py because the order of checks knows neither headers nor the cache of results.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.web.server.limits import Limits

    Who = tuple[str, str]

MOST_REMEMBERED = 1024


class Lane(Enum):
    """Checks that wait together."""

    KNOWN = auto()  # of a user, whose hash has an ordinary cost
    UNKNOWN = auto()  # of no user, against a hash of no password
    COSTLY = auto()  # of a user, whose hash takes seconds


@dataclass(frozen=True, slots=True)
class _Check:
    """A password that waits; ``who`` is the user's name and the address of the client."""

    rank: int
    who: Who
    run: Callable[[], bool]
    answer: asyncio.Future[bool | None]


class Checks:
    """Runs checks in two threads: one alternates between known and unknown users, the other has the costly ones.

    Within a lane, the next one is that of the user and address with the fewest failures and waiting checks. When a
    lane is full, the last one in this order gives way.
    """

    def __init__(self, limits: Limits) -> None:
        self._places = {
            Lane.KNOWN: limits.passwords,
            Lane.UNKNOWN: limits.guesses,
            Lane.COSTLY: limits.costly_passwords,
        }
        self._waiting: dict[Lane, list[_Check]] = {lane: [] for lane in Lane}
        self._threads = (deque((Lane.KNOWN, Lane.UNKNOWN)), deque((Lane.COSTLY,)))
        self._at_work: dict[int, asyncio.Task[None]] = {}
        self._unsettled: Counter[Who] = Counter()
        self._failures: OrderedDict[Who, int] = OrderedDict()

    def add(self, lane: Lane, who: Who, run: Callable[[], bool]) -> asyncio.Future[bool | None]:
        """Queue a check; the answer is None if there is no place, now or later."""
        loop = asyncio.get_running_loop()
        check = _Check(self._failures.get(who, 0) + self._unsettled[who], who, run, loop.create_future())
        self._unsettled[who] += 1
        waiting = self._waiting[lane]
        bisect.insort(waiting, check, key=lambda one: one.rank)  # behind those of the same rank
        if len(waiting) > self._places[lane]:
            self._settle(waiting.pop(), None)
        for number, lanes in enumerate(self._threads):
            if lane in lanes and number not in self._at_work:
                self._at_work[number] = loop.create_task(self._work(number))
        return check.answer

    async def _work(self, number: int) -> None:
        lanes = self._threads[number]
        try:
            while lane := next((lane for lane in lanes if self._waiting[lane]), None):
                lanes.remove(lane)
                lanes.append(lane)
                check = self._waiting[lane].pop(0)
                try:
                    answer = await in_daemon_thread(check.run, name="bcrypt")
                except Exception as error:  # noqa: BLE001 - the request that waits for the answer raises it
                    check.answer.set_exception(error)
                    self._settle(check, None)
                else:
                    self._settle(check, answer)
        finally:
            del self._at_work[number]

    def _settle(self, check: _Check, answer: bool | None) -> None:
        self._unsettled[check.who] -= 1
        if not self._unsettled[check.who]:
            del self._unsettled[check.who]
        if answer:
            self._failures.pop(check.who, None)
        elif answer is not None:
            self._failures[check.who] = self._failures.pop(check.who, 0) + 1
            if len(self._failures) > MOST_REMEMBERED:
                self._failures.popitem(last=False)
        if not check.answer.done():
            check.answer.set_result(answer)
