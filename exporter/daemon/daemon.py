"""The daemon: an engine, the jobs that drive it and the servers that show it, from start to stop."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

from exporter import __revision__, __version__
from exporter.config import ConfigError, ErrorDetail
from exporter.config.last_good import FILES
from exporter.daemon.engine import Engine
from exporter.daemon.jobs import Jobs
from exporter.daemon.parts import client_limits, factor_samples, same_samples
from exporter.daemon.readiness import Readiness
from exporter.daemon.reload import ConfigStatus, Reloader, log_config_errors
from exporter.daemon.url_sources import UrlSources
from exporter.daemon.view import DaemonView, EngineGauges
from exporter.exposition.factors import FactorExposition
from exporter.exposition.telemetry import Telemetry
from exporter.logs.events import EventLog
from exporter.logs.folding import FullLogger
from exporter.logs.output import fields, set_level
from exporter.polling.slices import in_slices
from exporter.state import watchlist
from exporter.state.keeper import StateKeeper, StateLockedError
from exporter.web.health import health_application
from exporter.web.history import History
from exporter.web.routes import make_application
from exporter.web.server.sockets import HEALTH_ADDRESS, ListenError, WebServer

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import httpx

    from exporter.config import AccountSettings, Config
    from exporter.config.settings import WebSettings
    from exporter.config.sharding import Shard
    from exporter.daemon.parts import Confidential
    from exporter.daemon.url_source import Transport
    from exporter.logs.output import LogOutput
    from exporter.polling.clock import Clock
    from exporter.polling.roster import Difference

log = FullLogger(logging.getLogger(__name__))

_LAST_SAVE_SECONDS = 5.0
_TRIM_SECONDS = 60.0

# What only a restart changes: the sockets, the paths of the server, and what the ledger starts from.
_FIXED = (
    "web.listen_address",
    "web.telemetry_path",
    "web.health_listen_address",
    "sharding",
    "state",
)


class Daemon:
    """One exporter: polls what its configuration lists and serves what it knows.

    ``load`` reads the configuration again for a reload, with the running shard as its argument ``shard``, and the
    reader of the last good watchlist as ``last_good`` while that is in use; without it there are no reloads.
    ``trim`` is called every minute to release memory of the process. ``log_output`` is the log whose collapsed
    lines this daemon flushes. ``source_transport`` makes a URL source's transport.
    The other parameters are those of an :class:`Engine`.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[..., Config] | None = None,
        trim: Callable[[], None] | None = None,
        log_output: LogOutput | None = None,
        confidential: Confidential | None = None,
        transport: Callable[[AccountSettings], httpx.AsyncBaseTransport] | None = None,
        source_transport: Transport | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.engine = engine = Engine(config, confidential=confidential, transport=transport, clock=clock, rng=rng)
        self.config_status = ConfigStatus(engine.clock.wall())
        file = config.settings.state.file
        self.state = (
            None
            if file is None
            else StateKeeper(file, engine.ledger, engine.removed, engine.clock, engine.discovery)
        )
        self.sources = UrlSources(
            config,
            change=self._change,
            spawn=engine.background.spawn,
            clock=engine.clock,
            last_good=watchlist.read,
            transport=source_transport,
        )
        self.telemetry = Telemetry(
            EngineGauges(engine, self.config_status, log_output, self.state, self.sources),
            version=__version__,
            revision=__revision__,
            shard=config.shard,
        )
        self.factors = FactorExposition(factor_samples(config))
        self.history = History(engine.clock.wall())
        self._events = EventLog(engine.clock.steady, service_size=engine.service_size, stretch=engine.stretch)
        engine.observers.add(self.telemetry, self.factors, self.history, self._events)
        self._log_output = log_output
        self._trim = trim
        self._trimmed = engine.clock.steady()
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._reloadable = load is not None
        self.reloader = Reloader(
            config,
            load=functools.partial(self._load, load or _no_load, config.shard),
            apply=self._apply,
            status=self.config_status,
            clock=engine.clock,
            sources=self.sources,
        )
        self.watchlist = watchlist.WatchlistKeeper(file, engine.clock)
        self.jobs = Jobs(
            dispatch=engine.poller.dispatch,
            discovery=self._discover,
            watch=self._watch_files,
            housekeeping=self.housekeeping,
            run_lost=self.telemetry.run_lost,
            loop_lagged=self.telemetry.loop_lagged,
            clock=engine.clock,
        )
        self.readiness = Readiness(engine)
        self.view = DaemonView(
            engine,
            registry=self.telemetry.registry,
            factors=self.factors,
            history=self.history,
            readiness=self.readiness,
            config_status=self.config_status,
            sources=self.sources,
            reload=self.reload,
        )
        path = config.settings.web.telemetry_path
        application = make_application(self.view, telemetry_path=path)
        limits = client_limits(config)
        self.server = WebServer(application, config=config.web, telemetry_path=path, limits=limits)
        few = limits.for_connections(max(2, limits.connections // 8))
        self.health_server = WebServer(health_application(self.view), key=HEALTH_ADDRESS, limits=few)
        engine.announce()

    # Start and stop

    async def start(self) -> None:
        """Listen, wait for the state file, then start polling; raises ListenError and StateLockedError.

        A stop that is requested during the wait ends it, and nothing is polled.
        """
        engine = self.engine
        locked = self.state is None or self.state.lock()  # before listening: else the first scrape may be empty
        try:
            await self.listen(engine.config.settings.web)
            if not locked and not await self._wait_for_state_file():
                return
        except (ListenError, StateLockedError):
            if self.state is not None:
                self.state.release()
            raise
        self.readiness.start()
        if self.state is None:
            engine.start()
        else:
            saved = self.state.load()
            engine.start(saved.snapshots, saved.last_listed)
        self.jobs.start()
        self._watchlist_applied(engine.config)
        for address in self.server.bound:
            log.info("listening", extra=fields(address=address))
        for address in self.health_server.bound:
            log.info("listening for health checks", extra=fields(address=address))
        log.info(
            "polling",
            extra=fields(
                version=__version__,
                accounts=len(engine.poller.accounts),
                factors=len(engine.ledger),
                entities=len(engine.config.entities),
                services=len(engine.config.services),
                config_sha256=engine.config.sha256[:12],
            ),
        )

    async def listen(self, settings: WebSettings) -> None:
        """Open the sockets, all or none; raises :class:`ListenError`."""
        await self.server.start(settings.listen_address)
        if settings.health_listen_address is None:
            return
        try:
            await self.health_server.start([settings.health_listen_address])
        except ListenError:
            await self.server.stop()
            raise

    async def _wait_for_state_file(self) -> bool:
        """Wait for the exporter that has the state file; return whether to start, raises StateLockedError."""
        if self.state is None:
            return True
        self.state.log_wait()
        try:
            return await self.state.wait_for_lock(self._stop)
        except StateLockedError:
            await self.server.stop()
            await self.health_server.stop()
            raise

    def request_stop(self) -> None:
        """Make :meth:`run` end; a second request ends the wait for requests in flight."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until a stop is requested, then drain and close; expects :meth:`start` before."""
        await self._stop.wait()
        await self.stop()

    async def stop(self) -> None:
        """Start no new attempt, give those in flight ``shutdown_timeout``, then close everything."""
        engine = self.engine
        timeout = engine.config.settings.polling.shutdown_timeout
        self.readiness.draining = True
        await self.jobs.stop()
        await self.reloader.stop()
        engine.background.cancel()
        log.info("stopping", extra=fields(shutdown_timeout_seconds=timeout))
        drained = asyncio.create_task(engine.poller.drain(timeout))
        stop_now = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait((drained, stop_now), return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            await engine.poller.drain(0)
        stop_now.cancel()
        await asyncio.wait((stop_now,))
        await drained
        if self.state is not None:
            await asyncio.wait((asyncio.create_task(self.state.save()),), timeout=_LAST_SAVE_SECONDS)
        await asyncio.wait((asyncio.create_task(self.watchlist.save()),), timeout=_LAST_SAVE_SECONDS)
        if self.state is not None:
            self.state.release()
        await engine.background.wait()
        await self.server.stop()
        await self.health_server.stop()
        self.flush_log(at_the_end=True)
        log.info("stopped")

    # Jobs

    async def housekeeping(self) -> None:
        """Do what is due every few seconds: clients, budgets, the log's counts, memory and state."""
        self.engine.housekeeping()
        self.flush_log()
        now = self.engine.clock.steady()
        if self._trim is not None and now - self._trimmed >= _TRIM_SECONDS:
            self._trimmed = now
            self._trim()
        if self.state is not None and self.state.due:
            self.engine.background.spawn(self.state.save())  # a save that hangs must not stop the housekeeping
        if self.watchlist.due:
            self.engine.background.spawn(self.watchlist.save())

    def flush_log(self, *, at_the_end: bool = False) -> None:
        """Log the counts of collapsed lines: those of five minutes, or all of them."""
        self._events.flush(at_the_end=at_the_end)
        if self._log_output is not None:
            self._log_output.flush(at_the_end=at_the_end)

    def _discover(self) -> None:
        self.engine.discover()
        self.sources.dispatch()

    async def _watch_files(self) -> None:
        await self.engine.passwords.reread_all()
        if self._reloadable:
            await self.reloader.reload_if_changed()

    # Reload

    def _load(self, load: Callable[..., Config], shard: Shard) -> Config:
        config, options = self.engine.config, dict[str, Any](shard=shard)
        if config.http:
            options["answers"] = config.answers
        if config.fallback is not None and FILES in config.fallback.sources:
            options["last_good"] = watchlist.read  # what is still missing doesn't end the fallback
        return load(**options)

    def request_reload(self) -> None:
        """Start a reload; the log has its result."""
        if not self._reloadable:
            log.warning("reload ignored", extra=fields(detail="the configuration was not read from a file"))
        elif not self.readiness.draining:
            self.engine.background.spawn(self._reload_and_log())

    async def reload(self) -> Difference:
        """Read the configuration again and apply it; raises ConfigError where it is refused.

        The URL sources are loaded soon.
        """
        self.sources.refresh_soon()
        return await self.reloader.reload()

    async def _change(self, make: Callable[[Config], Config]) -> Difference:
        return await self.reloader.change(make)

    async def _reload_and_log(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            return  # logged

    async def _apply(self, config: Config) -> Difference:
        """Apply a configuration to the engine, then to what shows it; raises ConfigError, with nothing changed.

        It is applied in slices, so that neither scrapes nor fetches wait for the end of a long list.
        """
        if self.readiness.draining or not self.readiness.started:  # it began before the stop, or during the start
            what = "stopping" if self.readiness.draining else "starting"
            raise ConfigError([ErrorDetail("configuration", f"was not applied, because the exporter is {what}")])
        old = self.engine.config
        difference = await in_slices(self.engine.applying(config))
        if not same_samples(old, config):
            self.factors.render_as(factor_samples(config), self.engine.ledger)
        self.server.use(config.web)
        fixed = [name for name in _FIXED if _setting(old, name) != _setting(config, name)]
        if fixed:
            log.warning("restart needed for changed keys", extra=fields(keys=", ".join(fixed)))
        if old.settings.log.level != config.settings.log.level:
            set_level(config.settings.log.level)
        if self._log_output is not None:
            self._log_output.set_style(config.settings.log.format)
        self.sources.applied(config)
        self._watchlist_applied(config, old)
        return difference

    def _watchlist_applied(self, config: Config, old: Config | None = None) -> None:
        """Save the watchlist, and log where the last good one begins or ends to stand in for a source."""
        self.watchlist.applied(config)
        self.engine.background.spawn(self.watchlist.save())
        before = () if old is None or old.fallback is None else old.fallback.sources
        now = () if config.fallback is None else config.fallback.sources
        for source in before:
            if source not in now:
                log.info("last good watchlist no longer in use", extra=fields(source=source))
        if (fallback := config.fallback) is None or set(now) <= set(before):
            return
        log.error(
            "running on the last good watchlist",
            extra=fields(
                sources=", ".join(now),
                file=fallback.path,
                age_seconds=round(max(0.0, self.engine.clock.wall() - fallback.saved_seconds)),
                entries=fallback.restored,
                dropped=fallback.dropped,
                superseded=fallback.superseded,
                errors=len(fallback.errors),
                hint="correct the watchlist files or URLs; they are used as soon as they are valid",
            ),
        )
        log_config_errors([str(error) for error in fallback.errors])


def _setting(config: Config, name: str) -> object:
    return functools.reduce(getattr, name.split("."), config.settings)


def _no_load(**_loading: object) -> Config:
    raise ConfigError([ErrorDetail("configuration", "was not read from a file, so it can't be reloaded")])
