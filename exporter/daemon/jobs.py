"""The scheduler's few jobs: APScheduler decides when they run, and every lost run is counted."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_RUNNING
from apscheduler.triggers.interval import IntervalTrigger

from exporter.exposition.catalogue import LostRun, SchedulerTask
from exporter.logs.output import fields
from exporter.polling.clock import SuspendWatch
from exporter.polling.poller import DISPATCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from exporter.polling.clock import Clock

    Task = Callable[[], Awaitable[None] | None]

log = logging.getLogger(__name__)

WATCH_SECONDS = 5
HOUSEKEEPING_SECONDS = 10
_STEP_SECONDS = 2.0
_LOST = {
    EVENT_JOB_MISSED: LostRun.MISSED,
    EVENT_JOB_MAX_INSTANCES: LostRun.REFUSED,
    EVENT_JOB_ERROR: LostRun.FAILED,
}


class Jobs:
    """Runs ``dispatch`` and ``discovery`` every second, ``watch`` every 5 s and ``housekeeping`` every 10 s.

    Late runs are made up once; while a run is in progress, the next ones are refused. APScheduler plans by the
    wall clock: when that steps, the jobs are planned again, so that a step back doesn't silence the exporter.
    ``loop_lagged`` is called every second with how late the event loop was, in seconds.
    """

    def __init__(
        self,
        *,
        dispatch: Task,
        discovery: Task,
        watch: Task,
        housekeeping: Task,
        run_lost: Callable[[SchedulerTask, LostRun], None],
        loop_lagged: Callable[[float], None],
        clock: Clock,
    ) -> None:
        self._run_lost = run_lost
        self._loop_lagged = loop_lagged
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            event_loop=self._loop,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._lost, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR)
        tasks = (
            (SchedulerTask.DISPATCH, dispatch, DISPATCH_SECONDS),
            (SchedulerTask.DISCOVERY, discovery, DISPATCH_SECONDS),
            (SchedulerTask.WATCH, watch, WATCH_SECONDS),
            (SchedulerTask.HOUSEKEEPING, housekeeping, HOUSEKEEPING_SECONDS),
        )
        for name, task, seconds in tasks:
            self._scheduler.add_job(
                self._run_of(task), IntervalTrigger(seconds=seconds, timezone=UTC), id=name.value, name=name.value
            )
        self._running: dict[asyncio.Task[Any], asyncio.Future[None]] = {}
        self._beat: asyncio.TimerHandle | None = None
        self._expected = 0.0
        self._difference = 0.0
        self._suspends = SuspendWatch(clock)

    def start(self) -> None:
        """Run each job now, and then at its interval."""
        self._difference = self._clock.wall() - self._clock.steady()
        self._scheduler.start()
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))
        self._plan_beat()

    async def stop(self) -> None:
        """Start no more runs, and cancel those in progress."""
        if self._beat is not None:
            self._beat.cancel()
        if self._scheduler.state != STATE_RUNNING:
            return
        self._scheduler.pause()  # at once: shutdown comes later, and would cancel a run started before
        await asyncio.sleep(0)  # lets the submitted runs start
        for run in self._running.values():
            run.cancel()
        if self._running:
            await asyncio.wait(list(self._running))
        self._scheduler.shutdown(wait=False)

    def _run_of(self, task: Task) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return the task as a coroutine function: APScheduler would run a plain one in a thread."""

        async def run() -> None:
            awaitable = task()
            outer = asyncio.current_task()
            if awaitable is None or outer is None:
                return
            inner = self._running[outer] = asyncio.ensure_future(awaitable)
            try:
                await asyncio.wait((inner,))
            finally:
                del self._running[outer]
            if not inner.cancelled():  # by stop(): not a failure of the run
                inner.result()

        return run

    def _plan_beat(self) -> None:
        self._expected = self._loop.time() + DISPATCH_SECONDS
        self._beat = self._loop.call_at(self._expected, self._measure)

    def _measure(self) -> None:
        late = max(0.0, self._loop.time() - self._expected)
        self._plan_beat()  # first, so that a failure below doesn't end the measuring
        self._loop_lagged(late)
        if seconds := self._suspends.suspended_seconds():
            log.info("system resumed after a suspend", extra=fields(suspended_seconds=round(seconds)))
        difference = self._clock.wall() - self._clock.steady()
        if abs(difference - self._difference) > _STEP_SECONDS:
            log.warning("wall clock stepped", extra=fields(seconds=difference - self._difference))
            self._difference = difference
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))

    def _lost(self, event: Any) -> None:
        reason = _LOST[event.code]
        self._run_lost(SchedulerTask(event.job_id), reason)
        log.warning("scheduler run lost", extra=fields(task=event.job_id, reason=reason))
