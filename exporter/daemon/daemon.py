"""The life of an exporter: it starts, ticks, reloads, drains and stops what the engine is made of."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.config import ConfigError, ErrorDetail
from exporter.daemon.engine import Engine
from exporter.daemon.jobs import Jobs
from exporter.daemon.reload import Reloader
from exporter.logs.output import fields
from exporter.state.keeper import StateKeeper
from exporter.web.health import health_application
from exporter.web.routes import make_application
from exporter.web.server.sockets import HEALTH_ADDRESS, ListenError, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from exporter.config import Config
    from exporter.config.settings import WebSettings
    from exporter.polling.roster import Difference
    from exporter.watched import WatchedFactor

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
_SWEEP_SECONDS = 0.02
_LAST_SAVE_SECONDS = 5.0
_TRIM_SECONDS = 60.0


class Daemon(Engine):
    """One exporter: polls what its configuration lists and serves what it knows, from its start to its end.

    Takes what an :class:`Engine` takes, and ``load``, which reads the configuration anew for a reload; without it
    there is none. ``trim`` is called each minute, for what concerns the whole process.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config] | None = None,
        trim: Callable[[], None] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(config, **parts)
        self._trim = trim
        self._trimmed = self.clock.steady()
        self.draining = False
        self._started: float | None = None
        self._was_ready = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloadable = load is not None
        self._reloads = Reloader(self, load or _no_load)
        file = config.settings.state.file
        self._state = (
            None if file is None else StateKeeper(file, self.ledger, self.clock, self.discovery.gone_since)
        )
        self.jobs = Jobs(
            dispatch=self.poller.dispatch,
            discovery=self.discovery.dispatch,
            watch=self._watch_files,
            housekeeping=self._housekeeping,
            run_lost=self.telemetry.run_lost,
            loop_lagged=self.telemetry.loop_lagged,
            clock=self.clock,
        )
        path = config.settings.web.telemetry_path
        application = make_application(self, telemetry_path=path)
        self.server = WebServer(application, config=config.web, telemetry_path=path)
        self.health = WebServer(health_application(self), key=HEALTH_ADDRESS)

    # Life

    async def start(self) -> None:
        """Listen, then begin to poll; raises :class:`ListenError`."""
        await self._listen(self.config.settings.web)
        self._started = self.clock.steady()
        self.begin(self._state.load() if self._state else None)
        self.jobs.start()
        for address in self.server.addresses:
            log.info("listening", extra=fields(address=address))
        for address in self.health.addresses:
            log.info("listening for health checks", extra=fields(address=address))
        log.info(
            "polling",
            extra=fields(
                version=__version__,
                accounts=len(self.poller.accounts),
                factors=len(self.ledger),
                entities=len(self.discovery),
                config_sha256=self.config.sha256[:12],
            ),
        )

    async def _listen(self, settings: WebSettings) -> None:
        await self.server.start(settings.listen_address)
        if settings.health_listen_address is None:
            return
        try:
            await self.health.start([settings.health_listen_address])
        except ListenError:
            await self.server.stop()
            raise

    def adopt(self, config: Config) -> Difference:
        """Put a configuration in force, its web config with it."""
        difference = super().adopt(config)
        self.server.use(config.web)
        return difference

    def request_stop(self) -> None:
        """Ask :meth:`run` to end; asked twice, requests under way get no more time."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def request_reload(self) -> None:
        """Begin to read the configuration anew; what comes of it is in the log."""
        if not self._reloadable:
            log.warning("not reloaded: this exporter's configuration is in no file")
        elif not self.draining:
            self.spawn(self._reload_quietly())

    async def reload(self) -> Difference:
        """Read the configuration anew and put it in force; raises ConfigError where it is refused."""
        return await self._reloads.reload()

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            return  # told

    async def run(self) -> None:
        """Serve until asked to stop, then drain and close; expects :meth:`start` before."""
        await self._stop.wait()
        await self.stop()

    async def stop(self) -> None:
        """Start no new attempt, give those under way ``shutdown_timeout``, then close everything."""
        self.draining = True
        await self.jobs.stop()
        for task in self._background:
            task.cancel()
        log.info("stopping", extra=fields(shutdown_timeout_seconds=self.config.settings.polling.shutdown_timeout))
        drained = asyncio.create_task(self.poller.drain(self.config.settings.polling.shutdown_timeout))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            await self.poller.drain(0)
        hurried.cancel()
        await asyncio.wait((hurried,))
        await drained
        if self._state is not None:
            await asyncio.wait((asyncio.create_task(self._state.save()),), timeout=_LAST_SAVE_SECONDS)
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.server.stop()
        await self.health.stop()
        self.recorder.flush(at_the_end=True)
        log.info("stopped")

    async def sweep(self, factors: Iterable[WatchedFactor], progress: Callable[[int], None]) -> None:
        """Fetch each of these factors once, paused ones apart; ``progress`` is told how many are still to come.

        Ends early for an account whose credentials are refused: its other factors stay unknown.
        """
        watched = list(factors)
        self.poller.watch(watched)
        due = self.clock.steady()
        for factor in watched:
            if not factor.paused:
                self.poller.accounts[factor.key.account].offer(factor.key, due)
        accounts = self.poller.accounts.values()
        try:
            while waiting := [a for a in accounts if a.busy and a.credentials_valid is not False]:
                for account in waiting:
                    account.dispatch()
                progress(self.poller.first_fetches_pending)
                await asyncio.sleep(_SWEEP_SECONDS)
            progress(0)
        finally:
            await self.poller.drain(0)

    async def _housekeeping(self) -> None:
        self.housekeeping()
        now = self.clock.steady()
        if self._trim is not None and now - self._trimmed >= _TRIM_SECONDS:
            self._trimmed = now
            self._trim()
        if self._state is not None:
            await self._state.save_if_due()

    # Files

    async def _watch_files(self) -> None:
        await self.passwords.look()
        if self._reloadable:
            await self._reloads.look()

    # Health

    def healthy(self) -> bool:
        """Return whether the scheduler ticks: never tied to the API's health."""
        return self.clock.steady() - self.poller.last_dispatch.steady <= HEARTBEAT_SECONDS

    def ready(self) -> bool:
        """Return whether each first look has ended or been held, or an interval has passed since the start."""
        if self.draining or self._started is None:
            return False
        if not self._was_ready:  # what a reload adds doesn't make it start again
            waited = self.clock.steady() - self._started
            looked = self.poller.first_fetches_pending == 0 and self.discovery.first_listings_pending == 0
            self._was_ready = looked or waited >= self.config.settings.polling.interval
        return self._was_ready


def _no_load() -> Config:
    raise ConfigError([ErrorDetail("configuration", "is in no file, so it can't be read anew")])
