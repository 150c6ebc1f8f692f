"""What a configuration becomes: accounts that poll, a ledger, and what is shown of it; and how it changes."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from typing import TYPE_CHECKING

from exporter import __revision__, __version__
from exporter.config import ConfigError
from exporter.daemon.parts import (
    Confidential,
    ShippedTransports,
    account_policy,
    client_of,
    discovery_policy,
    factor_samples,
    ledger_policy,
    same_connection,
    same_credentials,
    same_samples,
)
from exporter.daemon.passwords import PasswordWatcher
from exporter.daemon.recorder import Recorder
from exporter.exposition.factors import FactorCollector, FactorExposition
from exporter.exposition.page import exposition, exposition_of
from exporter.exposition.telemetry import AccountGauges, ConfigGauges, Telemetry
from exporter.logs.events import EventLog
from exporter.logs.output import fields, set_level, set_style
from exporter.polling.account import AccountPoller
from exporter.polling.clock import Clock
from exporter.polling.discovery import Discovery
from exporter.polling.ledger import Ledger
from exporter.polling.poller import Poller
from exporter.polling.probe import ProbeResult, probe
from exporter.polling.roster import Names, Roster
from exporter.polling.schedule import Schedule
from exporter.web.history import History
from exporter.web.views import account_views

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    import httpx

    from exporter.config import AccountSettings, Config
    from exporter.exposition.pieces import Snapshot
    from exporter.polling.roster import Difference
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.verify.client import VerifyClient
    from exporter.watched import FactorKey
    from exporter.web.views import AccountView

log = logging.getLogger(__name__)

# What only a restart changes: the sockets, and the paths of the server.
_FIXED = (
    "web.listen_address",
    "web.telemetry_path",
    "web.health_listen_address",
    "sharding",
    "state",
)


class Engine:
    """The rooms of one exporter, as the configuration in force asks for them; what moves them is the daemon's.

    Must be made with an event loop running. ``transport`` makes an account's transport; ``clock`` tells time.
    A ``one_shot`` engine bounds no fetch by a next one.
    """

    def __init__(
        self,
        config: Config,
        *,
        confidential: Confidential | None = None,
        transport: Callable[[AccountSettings], httpx.AsyncBaseTransport] | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        one_shot: bool = False,
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.config_loaded_seconds = self.clock.wall()
        self.config_good = True
        self._confidential = confidential or Confidential(config)
        self._transport = transport or ShippedTransports()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._one_shot = one_shot
        self._background: set[asyncio.Task[None]] = set()
        self.passwords = PasswordWatcher(lambda: self.config.passwords, self._password_changed)
        self.ledger = Ledger(ledger_policy(config))
        self.names = Names(self.ledger)
        self._schedule: Schedule[FactorKey] = Schedule()
        samples = factor_samples(config)
        self.factors = FactorExposition(samples)
        self.collector = FactorCollector(samples, lambda: (self.ledger[key] for key in self.factors))
        self.telemetry = Telemetry(self, version=__version__, revision=__revision__, shard=config.shard)
        events = EventLog(
            self.clock.steady,
            service_size=lambda account, service: sum(self.ledger.counts.get((account, service), {}).values()),
            stretch=lambda account: self.poller.accounts[account].stretch,
        )
        self.history = History(self.clock.wall())
        self.recorder = Recorder(self.telemetry, self.factors, events, self.history)
        clients = {name: self._client(config, name) for name in config.settings.accounts}
        self.poller = Poller(
            accounts={name: self._account(config, name, client) for name, client in clients.items()},
            ledger=self.ledger,
            schedule=self._schedule,
            observer=self.recorder,
            clock=self.clock,
            other_demand=self._listings_per_second,
        )
        self.roster = Roster(self.poller, self.ledger)
        self.discovery = Discovery(
            discovery_policy(config),
            accounts=self.poller.accounts,
            roster=self.roster,
            observer=self.recorder,
            clock=self.clock,
        )

    def _client(self, config: Config, name: str) -> VerifyClient:
        own = config.passwords[name]  # what a removed account's last request goes with

        def password() -> str:
            return self.config.passwords.get(name, own).current

        return client_of(config, name, self._transport, password)

    def _account(self, config: Config, name: str, client: VerifyClient) -> AccountPoller:
        self.telemetry.know_account(name)
        return AccountPoller(
            name,
            account_policy(config, name, one_shot=self._one_shot),
            client=client,
            ledger=self.ledger,
            schedule=self._schedule,
            observer=self.recorder,
            clock=self.clock,
            rng=self._rng,
            new_client=lambda: self._client(self.config, name),
            reread_password=functools.partial(self.passwords.reread, name),
        )

    def begin(self, snapshots: Mapping[FactorKey, FactorSnapshot] | None = None) -> None:
        """Watch what the configuration lists, with what was known of it before."""
        self._retain()
        self.roster.list(self.config.factors, snapshots)
        self.discovery.watch(self.config.entities)
        if snapshots:
            self.discovery.restore(snapshots)

    def _listings_per_second(self, account: str) -> float:
        return self.discovery.listings_per_second(account)

    def housekeeping(self) -> None:
        """Do what is due now and then: clients that jam, budgets, and the log's counts of what was folded."""
        self.poller.check_clients()
        self.poller.check_budgets()
        self.recorder.flush()

    def _password_changed(self, name: str) -> None:
        self.poller.accounts[name].credentials_changed()

    # Change

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
            accounts[name].apply_policy(account_policy(config, name, one_shot=self._one_shot))
            if name in clients:
                another_api = old.settings.accounts[name].base_url != account.base_url
                accounts[name].replace_client(clients[name], void=another_api)
            if not same_credentials(old, config, name):
                accounts[name].credentials_changed()
        self.poller.apply_policy(ledger_policy(config))
        self.discovery.policy = discovery_policy(config)
        difference = self.roster.list(config.factors).plus(self.discovery.watch(config.entities))
        for name in accounts.keys() - config.settings.accounts.keys():
            self.spawn(self.poller.drop_account(name).finish(0))
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
                self.spawn(client.aclose())
            raise
        return clients

    def _retain(self) -> None:
        """Let the series vanish of what is no longer watched, and begin those of new services and entities."""
        entities = {(*of.key[:2], of.name) for of in self.config.entities}
        services = {(watched.key.account, watched.key.service_sid) for watched in self.config.factors}
        services |= {entity[:2] for entity in entities}
        self.ledger.retain(services, entities)
        self.telemetry.retain(self.config.settings.accounts, services)
        for account, service_sid, name in sorted(entities):
            self.ledger.know_entity(account, service_sid, name)
            self.telemetry.know_entities(account, service_sid)

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

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside all else; it is ended with the daemon."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # What is shown

    def exposition(self, *, openmetrics: bool) -> Snapshot:
        """Return a scrape of this moment, whatever became of the scheduler."""
        self.withdraw_stale()
        return exposition(self.factors, self.telemetry.registry, openmetrics=openmetrics)

    def factor_exposition(self, key: FactorKey, *, openmetrics: bool) -> bytes | None:
        """Return what a scrape shows of one factor now, ``None`` where it isn't watched."""
        self.withdraw_stale()
        record = self.ledger.get(key)
        return None if record is None else exposition_of(self.factors.samples, record, openmetrics=openmetrics)

    async def probe(self, key: FactorKey, within_seconds: float) -> ProbeResult:
        """Fetch a factor now, or wait for the fetch that is under way; tell what became of it."""
        account = self.poller.accounts[key.account]
        return await probe(
            key, account=account, ledger=self.ledger, clock=self.clock, within_seconds=within_seconds
        )

    def pause_seconds(self, name: str) -> float:
        """Return how long an account's pause may last: until it ends, or until its credentials are tried again."""
        account = self.poller.accounts.get(name)
        pause = account.pause if account is not None else None
        return 0.0 if pause is None else pause.seconds_left(self.clock.steady())

    def redact(self, text: str) -> str:
        """Return a text without the secrets and the identities of the configuration."""
        return self._confidential.redactor(text)

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now; what is shown calls this, as a tick may be late."""
        self.poller.withdraw_stale()

    def status_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID) and status."""
        return self.ledger.counts

    def entity_counts(self) -> Mapping[tuple[str, str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID, entity) and status."""
        return self.ledger.entity_counts

    def entities(self) -> int:
        """Return the number of watched entities."""
        return len(self.discovery)

    def accounts(self) -> Mapping[str, AccountGauges]:
        """Return the gauges of each account."""
        return {
            name: AccountGauges(
                in_flight=account.throttle.in_flight,
                concurrency_limit=account.throttle.limit,
                paused=account.pause is not None,
                demand_requests_per_second=account.demand_requests_per_second,
                budget_requests_per_second=account.throttle.budget_requests_per_second,
                credentials_valid=account.credentials_valid,
            )
            for name, account in self.poller.accounts.items()
        }

    def account_views(self) -> list[AccountView]:
        """Return what is shown of each account."""
        return account_views(self.poller.accounts, self.ledger.counts, self.clock.moment())

    def next_fetch_seconds(self, key: FactorKey) -> float | None:
        """Return when a factor is looked at next, in wall time; ``None`` while it has its turn, or is paused."""
        due = self._schedule.waiting(key)
        return None if due is None else round(due + self.clock.wall() - self.clock.steady(), 3)

    def config_gauges(self) -> ConfigGauges:
        """Return what is known of the configuration in force."""
        return ConfigGauges(
            successful=self.config_good,
            loaded_seconds=self.config_loaded_seconds,
            sha256=self.config.sha256,
        )

    def last_tick_seconds(self) -> float:
        """Return the wall time of the last dispatch tick."""
        return self.poller.last_dispatch.wall

    def queue_length(self) -> int:
        """Return the number of factors that are due and wait for a slot."""
        return self.poller.queue_length


def _setting(config: Config, name: str) -> object:
    return functools.reduce(getattr, name.split("."), config.settings)
