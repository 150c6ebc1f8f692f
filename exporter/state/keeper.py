"""Warm restarts: state is saved every minute and on exit, and restored on start-up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from itertools import chain
from typing import TYPE_CHECKING

from exporter.config.files import shown_path
from exporter.logs.output import fields
from exporter.polling.slices import in_slices, taken_apart
from exporter.polling.snapshot import snapshot_of
from exporter.state import file as statefile
from exporter.state.file import SavedState, StateFileError
from exporter.state.lock import LockUnavailableError, StateLock
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from exporter.polling.clock import Clock
    from exporter.polling.discovery import Discovery
    from exporter.polling.ledger import Ledger
    from exporter.polling.removed import RemovedFactors
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.polling.status_history import SavedHistory
    from exporter.state.file import ListedName
    from exporter.watched import FactorKey

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
LOCK_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.2
_SLICE_FACTORS = 500


class StateLockedError(Exception):
    """Another exporter has the state file; the message names the file and, if known, the other process."""


class StateKeeper:
    """Saves what is known of watched and removed factors to a file, and restores it on start-up.

    ``discovery`` knows which factors are missing from their entities, and when entities were listed. Nothing is
    saved before :meth:`load`. What isn't restored is logged and kept beside the file.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        removed: RemovedFactors,
        clock: Clock,
        discovery: Discovery,
    ) -> None:
        self._path = path
        self._ledger = ledger
        self._removed = removed
        self._clock = clock
        self._discovery = discovery
        self._lock = StateLock(path)
        self._unlockable = False
        self._loaded = False
        self._not_kept = False  # a file that isn't restored, and must not be overwritten
        self._saved = clock.steady()
        self._saving = 0
        self._problem = ""
        self._writing = threading.Lock()
        self._last_save = 0
        self._last_written = 0
        self._last_save_seconds: float | None = None
        self._failures = 0

    @property
    def last_save_seconds(self) -> float | None:
        """When the state was last saved, in wall seconds; ``None`` where that isn't known."""
        return self._last_save_seconds

    @property
    def save_failures(self) -> int:
        """How many saves failed."""
        return self._failures

    # The lock

    def lock(self) -> bool:
        """Take the lock without waiting; return whether polling may start. Where locking isn't possible, it may."""
        try:
            return self._unlockable or self._lock.acquire()
        except LockUnavailableError as error:
            self._unlockable = True
            problem = f"{shown_path(self._lock.path)}: {error}"
            hint = "make sure that no other exporter uses this state file"
            log.warning("state file not locked", extra=fields(problem=problem, hint=hint))
            return True

    async def wait_for_lock(self, stop: asyncio.Event) -> bool:
        """Wait up to a minute for the lock; return whether it was taken, false where ``stop`` is set meanwhile.

        Raises StateLockedError.
        """
        began = self._clock.awake()
        while not stop.is_set():
            if self.lock():
                return True
            if self._clock.awake() - began >= LOCK_SECONDS:
                raise StateLockedError(
                    f"{shown_path(self._path)}: in use by another exporter{self._holder()} for more than "
                    f"{LOCK_SECONDS:.0f} s; stop that one, or name another file in state.file"
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOCK_POLL_SECONDS)
        return False

    def log_wait(self) -> None:
        """Log that the start waits for the lock."""
        problem = f"in use by another exporter{self._holder()}"
        log.warning("waiting for the state file", extra=fields(file=self._path, problem=problem))

    def _holder(self) -> str:
        return f" ({self._lock.holder})" if self._lock.holder else ""

    def release(self) -> None:
        """Let another exporter use the file; nothing is saved from now on."""
        self._loaded = False
        self._lock.release()

    # Restore and save

    def load(self) -> SavedState:
        """Return what was known when the file was saved; nothing if it is missing, empty or unusable."""
        self._loaded = True
        self._saved = self._clock.steady()
        statefile.remove_abandoned(self._path)
        now = self._clock.wall()
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            self._problem = f"{shown_path(self._path.parent)} is not a writable directory"
            log.error("state not saved", extra=fields(problem=self._problem))
        try:
            saved = statefile.read(self._path, now)
        except StateFileError as error:
            log.warning("state not restored", extra=fields(problem=str(error)))
            self._keep_refused(now)
            return SavedState({}, now)
        if saved is None:
            log.info("no saved state", extra=fields(file=self._path))
            return SavedState({}, now)
        self._last_save_seconds = saved.saved_seconds
        if saved.history is not None:
            self._ledger.history.restore(saved.history, saved.saved_seconds, self._clock.moment())
        log.info(
            "state restored",
            extra=fields(
                factors=len(saved.snapshots),
                removed=sum(of.removed_seconds is not None for of in saved.snapshots.values()),
                age_seconds=round(max(0.0, now - saved.saved_seconds)),
                skipped=saved.skipped,
            ),
        )
        if saved.skipped:
            self._keep_refused(now)
        return saved

    def _keep_refused(self, now_wall: float) -> None:
        self._not_kept = True
        try:
            refused = statefile.keep_refused(self._path, now_wall)
        except StateFileError:
            return  # every save tries it again, and reports it
        self._not_kept = False
        if refused is not None:
            log.warning("unusable state kept", extra=fields(file=refused))

    @property
    def due(self) -> bool:
        """Whether to save now: a minute has passed since the last save began, and none is in progress."""
        return self._loaded and not self._saving and self._clock.steady() - self._saved >= SAVE_SECONDS

    async def save(self) -> None:
        """Save what is known now; a failure is counted, logged once, and has no other effect."""
        if not self._loaded:
            return
        self._saved = self._clock.steady()
        self._last_save = number = self._last_save + 1
        self._saving += 1
        try:
            await self._save(number)
        finally:
            self._saving -= 1

    async def _save(self, number: int) -> None:
        removed, moment = self._removed.saved(), self._clock.moment()  # at the same moment as the ledger's records
        listed, history = self._discovery.last_listed(), self._ledger.history.saved(moment)
        snapshots = await self._snapshots()
        saved_seconds, started = self._clock.wall(), time.perf_counter()
        try:
            size = await in_daemon_thread(
                lambda: self._write(
                    number, saved_seconds, chain(snapshots, removed.snapshots(moment)), listed, history
                ),
                name="state-writer",
            )
        except StateFileError as error:
            self._failures += 1
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("state not saved", extra=fields(problem=self._problem))
            return
        self._last_save_seconds = saved_seconds
        if self._problem:
            self._problem = ""
            log.info("state saved again")
        seconds, factors = round(time.perf_counter() - started, 3), len(snapshots)
        log.debug("state saved", extra=fields(factors=factors, removed=len(removed), bytes=size, seconds=seconds))
        await in_slices(taken_apart(snapshots))

    def _write(
        self,
        number: int,
        saved_seconds: float,
        snapshots: Iterable[tuple[FactorKey, FactorSnapshot]],
        last_listed: Mapping[ListedName, float],
        history: SavedHistory,
    ) -> int:
        """Write the file, in a thread; an abandoned write never replaces a later one."""
        with self._writing:
            if number < self._last_written:
                return 0
            self._last_written = number
            if self._not_kept:
                statefile.keep_refused(self._path, saved_seconds)
                self._not_kept = False
            return statefile.write(self._path, saved_seconds, snapshots, last_listed, history)

    async def _snapshots(self) -> list[tuple[FactorKey, FactorSnapshot]]:
        """Return a snapshot of each factor; in slices, so that 100,000 of them don't block the event loop."""
        snapshots: list[tuple[FactorKey, FactorSnapshot]] = []
        for number, record in enumerate(list(self._ledger)):
            key = record.watched.key
            snapshot = snapshot_of(record, self._clock.moment(), gone_since_seconds=self._discovery.gone_since(key))
            if snapshot is not None:
                snapshots.append((key, snapshot))
            if number % _SLICE_FACTORS == _SLICE_FACTORS - 1:
                await asyncio.sleep(0)
        return snapshots
