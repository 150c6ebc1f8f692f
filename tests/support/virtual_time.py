"""An event loop with virtual time: it jumps to the next timer when nothing is ready, so no test sleeps."""

from __future__ import annotations

import asyncio
import functools
import selectors
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from exporter.polling.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
T = TypeVar("T")

_ROUNDS = 100
START = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class DeadlockError(AssertionError):
    """Nothing is ready and nothing is planned: the loop would wait forever."""


class _Selector(selectors.DefaultSelector):
    """Never waits: a wait becomes a jump of the loop's time."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which starts at 0; ``faults`` holds errors that nothing else reported."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self._jump))
        self.faults: list[str] = []
        self.set_exception_handler(_note_fault)

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise DeadlockError(f"nothing is ready and nothing is planned at {self._now:g} s")
        self._now += seconds

    def fault(self, text: str) -> None:
        """Fail the test when its coroutine ends."""
        self.faults.append(text)


def _note_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    loop.fault(f"{context['message']}: {context.get('exception')!r}")


def virtual_loop() -> VirtualLoop:
    """Return the running loop, which must be a virtual one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class VirtualClock(Clock):
    """A clock of the running virtual loop; its wall time begins with the year 2026."""

    def __init__(self, wall: Callable[[], float] | None = None) -> None:
        loop = virtual_loop()
        self._asleep = 0.0
        super().__init__(
            wall=lambda: (wall() if wall else START + loop.time()) + self._asleep,
            monotonic=lambda: loop.time() + self._asleep,
            awake=loop.time,
        )

    def suspend(self, seconds: float) -> None:
        """Let the system be suspended: wall and steady time pass, the loop's doesn't."""
        self._asleep += seconds


def virtual_clock(wall: Callable[[], float] | None = None) -> VirtualClock:
    """Return a clock of the running virtual loop."""
    return VirtualClock(wall)


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a new virtual loop; raises what it raises, DeadlockError, or for the loop's faults."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(coroutine)
    finally:
        _cancel_all(loop)
        loop.close()
    if loop.faults:
        raise AssertionError("; ".join(loop.faults))
    return result


def _cancel_all(loop: VirtualLoop) -> None:
    for _ in range(_ROUNDS):  # the end of one may start another
        if not (tasks := asyncio.all_tasks(loop)):
            return
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a coroutine function a plain test that runs in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run
