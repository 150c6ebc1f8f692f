"""The composition root: builds the rooms from a configuration, starts, reloads and drains them."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from typing import TYPE_CHECKING

from exporter import __revision__, __version__
from exporter.config import ConfigError, Fault
from exporter.events import EventLog
from exporter.exposition.factors import FactorCollector, FactorExposition
from exporter.exposition.page import exposition
from exporter.exposition.telemetry import AccountGauges, ConfigGauges, Telemetry
from exporter.logs import fields, set_level, set_style
from exporter.passwords import PasswordWatch
from exporter.polling.account import AccountPoller
from exporter.polling.clock import Clock
from exporter.polling.ledger import Ledger
from exporter.polling.poller import Poller
from exporter.polling.roster import Roster
from exporter.polling.schedule import Schedule
from exporter.recording import Recorder
from exporter.reloading import Reloads
from exporter.timekeeping import Timekeeper
from exporter.verify.throttle import Throttle
from exporter.web.routes import make_application
from exporter.web.server import WebServer
from exporter.wiring import (
    Confidential,
    client_of,
    factor_samples,
    ledger_policy,
    same_connection,
    same_credentials,
    same_samples,
    shipped_transport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import Any

    import httpx

    from exporter.config import AccountSettings, Config
    from exporter.polling.roster import Difference
    from exporter.verify.client import VerifyClient
    from exporter.watched import WatchedFactor

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
_SWEEP_SECONDS = 0.02
# What only a restart changes: the sockets, and the paths of the server.
_FIXED = ("web.listen_address", "web.telemetry_path", "web.health_listen_address", "web.config_file", "sharding")


class Daemon:
    """One exporter: polls what its configuration lists and serves what it knows.

    Must be made with an event loop running. ``load`` reads the configuration anew, for a reload; without it there
    is none. ``transport`` makes an account's transport; ``clock`` tells time. ``one_shot`` is for :meth:`sweep`:
    no fetch is bounded by a next one.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config] | None = None,
        confidential: Confidential | None = None,
        transport: Callable[[AccountSettings], httpx.AsyncBaseTransport] = shipped_transport,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        one_shot: bool = False,
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.draining = False
        self._confidential = confidential or Confidential(config)
        self._transport = transport
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._one_shot = one_shot
        self._started: float | None = None
        self._was_ready = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._aside: set[asyncio.Task[None]] = set()
        self.passwords = PasswordWatch(lambda: self.config.passwords, self._password_changed)
        self.reloads = Reloads(config, load=load or _no_load, adopt=self.adopt, clock=self.clock)
        self._reloadable = load is not None
        self.ledger = Ledger(ledger_policy(config))
        self._schedule = Schedule()
        samples = factor_samples(config)
        self.factors = FactorExposition(samples)
        self.collector = FactorCollector(samples, lambda: (self.ledger[key] for key in self.factors))
        self.telemetry = Telemetry(self, version=__version__, revision=__revision__)
        self.recorder = Recorder(self.telemetry, self.factors, EventLog(self.clock.steady))
        clients = {name: self._client(config, name) for name in config.settings.accounts}
        self.poller = Poller(
            accounts={name: self._account(config, name, client) for name, client in clients.items()},
            ledger=self.ledger,
            schedule=self._schedule,
            observer=self.recorder,
            clock=self.clock,
        )
        self.roster = Roster(self.poller, self.ledger)
        self.timekeeper = Timekeeper(
            dispatch=self.poller.tick,
            discovery=lambda: None,
            watch=self._look_at_files,
            housekeeping=self._keep_house,
            run_lost=self.telemetry.run_lost,
            loop_lagged=self.telemetry.loop_lagged,
            clock=self.clock,
        )
        self.server = WebServer(make_application(self, telemetry_path=config.settings.web.telemetry_path))

    def _client(self, config: Config, name: str) -> VerifyClient:
        return client_of(config, name, self._transport, lambda: self.config.passwords[name].current)

    def _account(self, config: Config, name: str, client: VerifyClient) -> AccountPoller:
        account = config.settings.accounts[name]
        self.telemetry.know_account(name)
        return AccountPoller(
            name,
            client=client,
            throttle=Throttle(
                requests_per_second=account.requests_per_second, max_concurrency=account.max_concurrency
            ),
            ledger=self.ledger,
            schedule=self._schedule,
            observer=self.recorder,
            clock=self.clock,
            rng=self._rng,
            max_attempts=config.settings.polling.max_attempts,
            reread_password=functools.partial(self.passwords.reread, name),
            patient=self._one_shot,
        )

    # Life

    async def start(self) -> None:
        """Listen, then begin to poll; raises :class:`exporter.web.server.ListenError` where it can't listen."""
        await self.server.start(self.config.settings.web.listen_address)
        self._started = self.clock.steady()
        self.roster.list(self.config.factors)
        self.timekeeper.start()
        for address in self.server.addresses:
            log.info("listening", extra=fields(address=address))
        log.info(
            "polling",
            extra=fields(
                version=__version__,
                accounts=len(self.poller.accounts),
                factors=len(self.ledger),
                config_sha256=self.config.sha256[:12],
            ),
        )

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
            self._set_aside(self._reload_quietly())

    def lifecycle_enabled(self) -> bool:
        """Return whether the configuration may be reloaded, and the log's level set, over HTTP."""
        return self.config.settings.web.enable_lifecycle

    async def reload(self) -> Difference:
        """Read the configuration anew and put it in force; raises ConfigError where it is refused."""
        return await self.reloads.reload()

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            return  # told

    def _set_aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside all else; it is ended with the daemon."""
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def run(self) -> None:
        """Serve until asked to stop, then drain and close; expects :meth:`start` before."""
        await self._stop.wait()
        await self.stop()

    async def stop(self) -> None:
        """Start no new attempt, give those under way ``shutdown_timeout``, then close everything."""
        self.draining = True
        await self.timekeeper.stop()
        for task in self._aside:
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
        await asyncio.gather(*self._aside, return_exceptions=True)
        await self.server.stop()
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
                    account.pump()
                progress(self.poller.first_looks_pending)
                await asyncio.sleep(_SWEEP_SECONDS)
            progress(0)
        finally:
            await self.poller.drain(0)

    def _keep_house(self) -> None:
        self.poller.keep_budgets()
        self.recorder.flush()

    # Files

    async def _look_at_files(self) -> None:
        await self.passwords.look()
        if self._reloadable:
            await self.reloads.look()

    def _password_changed(self, name: str) -> None:
        self.poller.accounts[name].credentials_changed()

    # Reload

    def adopt(self, config: Config) -> Difference:
        """Put a configuration in force, at one moment; raises ConfigError, with nothing changed, where it can't.

        What is known of a factor stays with its key. What only a restart changes is told.
        """
        old, accounts = self.config, self.poller.accounts
        clients = self._new_clients(old, config)
        self._confidential.add(config)
        self.config = config
        for name, account in config.settings.accounts.items():
            if name not in accounts:
                accounts[name] = self._account(config, name, clients[name])
                continue
            accounts[name].configure(
                requests_per_second=account.requests_per_second,
                max_concurrency=account.max_concurrency,
                max_attempts=config.settings.polling.max_attempts,
            )
            if name in clients:
                accounts[name].use(clients[name], void=old.settings.accounts[name].base_url != account.base_url)
            if not same_credentials(old, config, name):
                accounts[name].credentials_changed()
        self.poller.adopt(ledger_policy(config))
        difference = self.roster.list(config.factors)
        for name in accounts.keys() - config.settings.accounts.keys():
            account_gone = accounts.pop(name)
            account_gone.stop()
            self._set_aside(account_gone.finish(0))
        self._retain()
        if not same_samples(old, config):
            self._show_anew()
        fixed = [name for name in _FIXED if _setting(old, name) != _setting(config, name)]
        if fixed:
            log.warning("restart the exporter for these to take effect", extra=fields(keys=", ".join(fixed)))
        self._set_log(old, config)
        return difference

    def _new_clients(self, old: Config, config: Config) -> dict[str, VerifyClient]:
        clients: dict[str, VerifyClient] = {}
        try:
            for name in config.settings.accounts:
                if not same_connection(old, config, name):
                    clients[name] = self._client(config, name)
        except ConfigError:
            for client in clients.values():
                self._set_aside(client.aclose())
            raise
        return clients

    def _retain(self) -> None:
        """Let the series of accounts and services vanish that are no longer watched."""
        services = {(watched.key.account, watched.key.service_sid) for watched in self.config.factors}
        self.ledger.retain(services, ())
        self.telemetry.retain(self.config.settings.accounts, services)

    def _show_anew(self) -> None:
        """Render all factors in another form."""
        samples = factor_samples(self.config)
        factors = FactorExposition(samples)
        for record in self.ledger:
            factors.update(record)
        self.factors = factors
        self.collector = FactorCollector(samples, lambda: (self.ledger[key] for key in self.factors))
        self.recorder.show_in(factors)

    def _set_log(self, old: Config, config: Config) -> None:
        if old.settings.log.level != config.settings.log.level:
            set_level(config.settings.log.level)
        if old.settings.log.format != config.settings.log.format:
            set_style(config.settings.log.format)

    # What is shown

    def exposition(self, *, openmetrics: bool) -> list[bytes]:
        """Return the pieces of a scrape: this moment, whatever became of the scheduler."""
        self.withdraw_stale()
        return exposition(self.factors, self.telemetry.registry, openmetrics=openmetrics)

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now; what is shown calls this, as a tick may be late."""
        self.poller.withdraw_stale()

    def healthy(self) -> bool:
        """Return whether the scheduler ticks: never tied to the API's health."""
        return self.clock.steady() - self.poller.last_tick.steady <= HEARTBEAT_SECONDS

    def ready(self) -> bool:
        """Return whether each first look has ended or been held, or an interval has passed since the start."""
        if self.draining or self._started is None:
            return False
        if not self._was_ready:  # what a reload adds doesn't make it start again
            waited = self.clock.steady() - self._started
            looked = self.poller.first_looks_pending == 0
            self._was_ready = looked or waited >= self.config.settings.polling.interval
        return self._was_ready

    def status_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID) and status."""
        return self.ledger.counts

    def accounts(self) -> Mapping[str, AccountGauges]:
        """Return the gauges of each account."""
        return {
            name: AccountGauges(
                in_flight=account.throttle.in_flight,
                concurrency_limit=account.throttle.limit,
                paused=account.paused(),
                demand_requests_per_second=account.demand_requests_per_second,
                budget_requests_per_second=account.throttle.budget_requests_per_second,
                credentials_valid=account.credentials_valid,
            )
            for name, account in self.poller.accounts.items()
        }

    def config_gauges(self) -> ConfigGauges:
        """Return what is known of the configuration in force."""
        return ConfigGauges(
            successful=self.reloads.successful,
            loaded_seconds=self.reloads.loaded_seconds,
            sha256=self.config.sha256,
        )

    def last_tick_seconds(self) -> float:
        """Return the wall time of the last dispatch tick."""
        return self.poller.last_tick.wall

    def queue_length(self) -> int:
        """Return the number of factors that are due and wait for a slot."""
        return self.poller.queue_length


def _no_load() -> Config:
    raise ConfigError([Fault("configuration", "is in no file, so it can't be read anew")])


def _setting(config: Config, name: str) -> object:
    return functools.reduce(getattr, name.split("."), config.settings)
