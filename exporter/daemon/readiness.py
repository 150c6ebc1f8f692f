"""Whether the exporter is alive, ready and stopping: what Kubernetes probes and the pages go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.daemon.engine import Engine

HEARTBEAT_SECONDS = 15.0


class Readiness:
    """The answers to health checks, from the start of an engine to its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started: float | None = None
        self._was_ready = False
        self.draining = False

    def start(self) -> None:
        """Note that polling starts."""
        self._started = self._engine.clock.awake()

    @property
    def started(self) -> bool:
        """Whether polling has started; before, the exporter waits for its state file."""
        return self._started is not None

    def healthy(self) -> bool:
        """Return whether the scheduler runs, or waits to be started; neither the API nor a suspend matters."""
        if self._started is None:
            return True
        engine = self._engine
        return engine.clock.awake() - engine.poller.last_dispatch_awake <= HEARTBEAT_SECONDS

    def ready(self) -> bool:
        """Return whether every first fetch and listing ended or was paused, or an interval passed since the start.

        Never while the last good watchlist is used, and not before every URL source was loaded once. What a reload
        adds does not make a ready exporter unready.
        """
        if self.draining or self._started is None or self._engine.applied.fallback is not None:
            return False
        if not self._was_ready:
            engine = self._engine
            waited = engine.clock.awake() - self._started
            fetched = engine.poller.first_fetches_pending == 0 and engine.discovery.first_listings_pending == 0
            waited_enough = waited >= engine.config.settings.polling.interval
            self._was_ready = (fetched or waited_enough) and not engine.applied.unloaded
        return self._was_ready
