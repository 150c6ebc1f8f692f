"""Warm restarts: state is saved every minute and on exit, and restored on start-up."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from exporter.config.files import shown_path
from exporter.logs.output import fields
from exporter.polling.snapshot import snapshot_of
from exporter.state import file as statefile
from exporter.state.file import StateFileError
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import FactorKey

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
_SLICE_FACTORS = 500


class StateKeeper:
    """Saves what the ledger knows to a file, and restores it on start-up.

    ``gone_since`` returns since when (wall seconds) a factor is missing from its entity. An unusable file is
    logged and renamed; a foreign one is left alone, and no state is saved.
    """

    def __init__(
        self, path: Path, ledger: Ledger, clock: Clock, gone_since: Callable[[FactorKey], float | None]
    ) -> None:
        self._path = path
        self._ledger = ledger
        self._clock = clock
        self._gone_since = gone_since
        self._saved = clock.steady()
        self._problem = ""
        self._foreign = False
        self._writing = threading.Lock()
        self._last_save = 0
        self._last_written = 0

    def load(self) -> Mapping[FactorKey, FactorSnapshot]:
        """Return what was known when the file was saved; nothing if it is missing or unusable."""
        statefile.remove_abandoned(self._path)
        now = self._clock.wall()
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            self._problem = f"{shown_path(self._path.parent)} is not a writable directory"
            log.error("state not saved", extra=fields(problem=self._problem))
        try:
            saved = statefile.read(self._path, now)
        except StateFileError as error:
            self._foreign = error.foreign
            log.warning("state not restored", extra=fields(problem=str(error)))
            if error.foreign:
                log.warning("state saving disabled", extra=fields(problem=str(error)))
            else:
                self._keep_refused()
            return {}
        if saved is None:
            log.info("no saved state", extra=fields(file=self._path))
            return {}
        log.info(
            "state restored",
            extra=fields(
                factors=len(saved.snapshots),
                age_seconds=round(max(0.0, now - saved.saved_seconds)),
                skipped=saved.skipped,
            ),
        )
        return saved.snapshots

    def _keep_refused(self) -> None:
        refused = self._path.with_name(f"{self._path.name}.refused")
        try:
            self._path.rename(refused)
        except OSError:
            return  # the first save will report it
        log.warning("unusable state file kept", extra=fields(file=refused))

    async def save_if_due(self) -> None:
        """Save if a minute has passed since the last save; called regularly."""
        if self._clock.steady() - self._saved >= SAVE_SECONDS:
            await self.save()

    async def save(self) -> None:
        """Save what is known now; a failure is logged once and has no other effect."""
        if self._foreign:
            return
        self._saved = self._clock.steady()
        self._last_save = number = self._last_save + 1
        snapshots = await self._snapshots()
        saved_seconds, started = self._clock.wall(), time.perf_counter()
        try:
            size = await in_daemon_thread(
                lambda: self._write(number, saved_seconds, snapshots), name="state-writer"
            )
        except StateFileError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("state not saved", extra=fields(problem=self._problem))
            return
        if self._problem:
            self._problem = ""
            log.info("state saved again")
        seconds = round(time.perf_counter() - started, 3)
        log.debug("state saved", extra=fields(factors=len(snapshots), bytes=size, seconds=seconds))

    def _write(self, number: int, saved_seconds: float, snapshots: list[tuple[FactorKey, FactorSnapshot]]) -> int:
        """Write the file, in a thread; an abandoned write never replaces a later one."""
        with self._writing:
            if number < self._last_written:
                return 0
            self._last_written = number
            return statefile.write(self._path, saved_seconds, snapshots)

    async def _snapshots(self) -> list[tuple[FactorKey, FactorSnapshot]]:
        """Return a snapshot of each factor; in slices, so that 100,000 of them don't block the event loop."""
        snapshots: list[tuple[FactorKey, FactorSnapshot]] = []
        for number, record in enumerate(list(self._ledger)):
            key = record.watched.key
            snapshot = snapshot_of(record, self._clock.moment(), gone_since_seconds=self._gone_since(key))
            if snapshot is not None:
                snapshots.append((key, snapshot))
            if number % _SLICE_FACTORS == _SLICE_FACTORS - 1:
                await asyncio.sleep(0)
        return snapshots
