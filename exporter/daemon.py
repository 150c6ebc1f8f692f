"""The composition root: builds the rooms from a configuration, starts them, and drains them at the end."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import logging
import random
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from exporter import __revision__, __version__
from exporter.config.faults import ConfigError, Fault
from exporter.config.kinds import IdentityLabel
from exporter.events import EventLog
from exporter.exposition.factors import (
    FactorCollector,
    FactorExposition,
    FactorSamples,
    no_identity,
    shown_families,
)
from exporter.exposition.page import exposition
from exporter.exposition.telemetry import AccountGauges, ConfigGauges, Telemetry
from exporter.logs import Redactor, fields
from exporter.polling.account import AccountPoller
from exporter.polling.clock import Clock
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.poller import Poller
from exporter.polling.schedule import Schedule
from exporter.recording import Recorder
from exporter.timekeeping import Timekeeper
from exporter.verify.client import VerifyClient
from exporter.verify.throttle import Throttle
from exporter.verify.transport import BoundedTransport, library_transport
from exporter.web.routes import make_application
from exporter.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import httpx

    from exporter.config.loader import Config
    from exporter.config.settings import AccountSettings
    from exporter.watched import WatchedFactor

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
_SWEEP_SECONDS = 0.02


def shipped_transport(account: AccountSettings) -> httpx.AsyncBaseTransport:
    """Return the transport of an account as it is shipped."""
    return library_transport(
        base_url=account.base_url,
        max_connections=account.max_concurrency,
        ca_file=account.ca_file,
        proxy_url=account.proxy_url.get_secret_value() if account.proxy_url else "",
    )


def client_of(
    config: Config,
    name: str,
    transport: Callable[[AccountSettings], httpx.AsyncBaseTransport] = shipped_transport,
) -> VerifyClient:
    """Return the client of one account; raises ConfigError where its proxy or its certificates can't be used.

    Must be called with an event loop running.
    """
    account = config.settings.accounts[name]
    source = config.passwords[name]
    try:
        inner = transport(account)
    except (ValueError, OSError) as error:
        raise ConfigError([Fault(f"accounts.{name}", str(error))]) from error
    return VerifyClient(
        base_url=account.base_url,
        username=account.username or account.account_sid,
        password=lambda: source.current,
        transport=BoundedTransport(inner, timeout_seconds=config.settings.polling.timeout),
    )


def identity_label(config: Config) -> Callable[[WatchedFactor], str]:
    """Return what the label ``identity`` shows of a factor, as the configuration chooses."""
    match config.settings.metrics.identity:
        case IdentityLabel.PLAIN:
            return lambda watched: watched.identity
        case IdentityLabel.HMAC:
            key = config.identity_key or b""
            return lambda watched: hmac.new(key, watched.identity.encode(), hashlib.sha256).hexdigest()
    return no_identity


def redactor_of(config: Config) -> Redactor:
    """Return what takes this configuration's secrets and identities out of the log."""
    identities = frozenset(watched.identity for watched in config.factors)
    proxies: list[str] = []
    for account in config.settings.accounts.values():
        if account.proxy_url:
            url = account.proxy_url.get_secret_value()
            proxies += [url, unquote(urlsplit(url).password or "")]

    def secrets() -> list[str]:
        return [*(source.current for source in config.passwords.values()), *proxies]

    return Redactor(secrets, lambda: identities)


class Daemon:
    """One exporter: polls what its configuration lists and serves what it knows.

    Must be made with an event loop running. ``transport`` makes an account's transport; ``clock`` tells time.
    ``one_shot`` is for :meth:`sweep`: no fetch is bounded by a next one.
    """

    def __init__(
        self,
        config: Config,
        *,
        transport: Callable[[AccountSettings], httpx.AsyncBaseTransport] = shipped_transport,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        one_shot: bool = False,
    ) -> None:
        settings = config.settings
        self.config = config
        self.clock = clock or Clock()
        self.draining = False
        self._loaded = self.clock.moment()
        self._started: float | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._problems: dict[str, str | None] = {}
        polling = settings.polling
        self.ledger = Ledger(
            LedgerPolicy(
                unverified_interval_seconds=polling.unverified_interval,
                unverified_window_seconds=polling.unverified_window,
                not_found_interval_seconds=polling.not_found_interval,
                stale_after=polling.stale_after,
            )
        )
        samples = FactorSamples(shown_families(settings.metrics.factor_families), identity_label(config))
        self.factors = FactorExposition(samples)
        self.collector = FactorCollector(samples, lambda: (self.ledger[key] for key in self.factors))
        self.telemetry = Telemetry(self, version=__version__, revision=__revision__)
        self.recorder = Recorder(self.telemetry, self.factors, EventLog(self.clock.steady))
        schedule = Schedule()
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        pollers: dict[str, AccountPoller] = {}
        for name, account in settings.accounts.items():
            self.telemetry.know_account(name)
            pollers[name] = AccountPoller(
                name,
                client=client_of(config, name, transport),
                throttle=Throttle(
                    requests_per_second=account.requests_per_second, max_concurrency=account.max_concurrency
                ),
                ledger=self.ledger,
                schedule=schedule,
                observer=self.recorder,
                clock=self.clock,
                rng=rng,
                max_attempts=polling.max_attempts,
                reread_password=functools.partial(self._reread, name),
                patient=one_shot,
            )
        self.poller = Poller(
            accounts=pollers, ledger=self.ledger, schedule=schedule, observer=self.recorder, clock=self.clock
        )
        self.timekeeper = Timekeeper(
            dispatch=self.poller.tick,
            watch=self.reread_passwords,
            housekeeping=self._keep_house,
            run_lost=self.telemetry.run_lost,
            loop_lagged=self.telemetry.loop_lagged,
            clock=self.clock,
        )
        self.server = WebServer(make_application(self, telemetry_path=settings.web.telemetry_path))

    # Life

    async def start(self) -> None:
        """Listen, then begin to poll; raises :class:`exporter.web.server.ListenError` where it can't listen."""
        await self.server.start(self.config.settings.web.listen_address)
        self._started = self.clock.steady()
        self.poller.watch(self.config.factors)
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
        """Say that this version reads its configuration at start only; a SIGHUP must not end the exporter."""
        log.warning("not reloaded: this version reads its configuration at start only, so restart it instead")

    async def run(self) -> None:
        """Serve until asked to stop, then drain and close; expects :meth:`start` before."""
        await self._stop.wait()
        await self.stop()

    async def stop(self) -> None:
        """Start no new attempt, give those under way ``shutdown_timeout``, then close everything."""
        self.draining = True
        self.timekeeper.stop()
        log.info("stopping", extra=fields(shutdown_timeout_seconds=self.config.settings.polling.shutdown_timeout))
        drained = asyncio.create_task(self.poller.drain(self.config.settings.polling.shutdown_timeout))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            await self.poller.drain(0)
        hurried.cancel()
        await asyncio.wait((hurried,))
        await drained
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

    # Passwords

    def reread_passwords(self) -> None:
        """Read every password file again; a changed one ends its account's pause."""
        for name in self.config.passwords:
            if self._reread(name):
                self.poller.accounts[name].credentials_changed()

    def _reread(self, name: str) -> bool:
        source = self.config.passwords[name]
        changed = source.reread()
        if changed:
            log.info("password file changed: the new password is used from now on", extra=fields(account=name))
        if source.problem != self._problems.get(name):
            self._problems[name] = source.problem
            if source.problem:
                log.error(
                    "password file can't be read again: the password read before stays in use",
                    extra=fields(account=name, file=source.path, problem=source.problem),
                )
        return changed

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
        waited = self.clock.steady() - self._started
        return self.poller.first_looks_pending == 0 or waited >= self.config.settings.polling.interval

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
        return ConfigGauges(successful=True, loaded_seconds=self._loaded.wall, sha256=self.config.sha256)

    def last_tick_seconds(self) -> float:
        """Return the wall time of the last dispatch tick."""
        return self.poller.last_tick.wall

    def queue_length(self) -> int:
        """Return the number of factors that are due and wait for a slot."""
        return self.poller.queue_length
