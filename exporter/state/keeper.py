"""Warm restarts: knowledge is saved now and then and at the end, and taken up at the start."""

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
    """Saves what the ledger knows to a file, and reads it at the start.

    ``gone_since`` tells since when (wall seconds) a factor is missing from its entity. A file that can't be used
    is told of and put aside; one that is somebody else's is left alone, and nothing is saved.
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
        self._begun = 0
        self._written = 0

    def load(self) -> Mapping[FactorKey, FactorSnapshot]:
        """Return what was known when the file was saved; nothing where it can't be used."""
        statefile.sweep(self._path)
        now = self._clock.wall()
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            self._problem = f"{shown_path(self._path.parent)} is no directory that can be written to"
            log.error("state will not be saved: %s", self._problem)
        try:
            remembered = statefile.read(self._path, now)
        except StateFileError as error:
            self._foreign = error.foreign
            log.warning("state not taken up, so this is a fresh start: %s", error)
            if error.foreign:
                log.warning("and no state is saved, so that nothing of others is lost")
            else:
                self._put_aside()
            return {}
        if remembered is None:
            log.info("no state to take up: the file is written for the first time", extra=fields(file=self._path))
            return {}
        log.info(
            "state taken up",
            extra=fields(
                factors=len(remembered.snapshots),
                age_seconds=round(max(0.0, now - remembered.saved_seconds)),
                left_out=remembered.skipped,
            ),
        )
        return remembered.snapshots

    def _put_aside(self) -> None:
        aside = self._path.with_name(f"{self._path.name}.refused")
        try:
            self._path.rename(aside)
        except OSError:
            return  # the first save tells
        log.warning("the refused state file is kept", extra=fields(file=aside))

    async def save_if_due(self) -> None:
        """Save where a minute has passed since the last time; called now and then."""
        if self._clock.steady() - self._saved >= SAVE_SECONDS:
            await self.save()

    async def save(self) -> None:
        """Save what is known now; a failure is told once, and changes nothing else."""
        if self._foreign:
            return
        self._saved = self._clock.steady()
        self._begun = number = self._begun + 1
        snapshots = await self._remember()
        saved_seconds, began = self._clock.wall(), time.perf_counter()
        try:
            size = await in_daemon_thread(
                lambda: self._write(number, saved_seconds, snapshots), name="state-writer"
            )
        except StateFileError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("state not saved: %s", error)
            return
        if self._problem:
            self._problem = ""
            log.info("state is saved again")
        seconds = round(time.perf_counter() - began, 3)
        log.debug("state saved", extra=fields(factors=len(snapshots), bytes=size, seconds=seconds))

    def _write(self, number: int, saved_seconds: float, snapshots: list[tuple[FactorKey, FactorSnapshot]]) -> int:
        """Write in a thread; one that nobody waits for any more doesn't undo what a later one wrote."""
        with self._writing:
            if number < self._written:
                return 0
            self._written = number
            return statefile.write(self._path, saved_seconds, snapshots)

    async def _remember(self) -> list[tuple[FactorKey, FactorSnapshot]]:
        """Return what is known of each factor; in slices, as there may be a hundred thousand."""
        snapshots: list[tuple[FactorKey, FactorSnapshot]] = []
        for number, record in enumerate(list(self._ledger)):
            key = record.watched.key
            snapshot = snapshot_of(record, self._clock.moment(), gone_since_seconds=self._gone_since(key))
            if snapshot is not None:
                snapshots.append((key, snapshot))
            if number % _SLICE_FACTORS == _SLICE_FACTORS - 1:
                await asyncio.sleep(0)
        return snapshots
