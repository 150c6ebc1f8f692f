"""The engine: accounts, ledger, schedule, roster and discovery of one configuration, and applying another one."""

from __future__ import annotations

import asyncio
import functools
import random
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.config import ConfigError
from exporter.daemon.background import BackgroundTasks
from exporter.daemon.parts import (
    Confidential,
    DefaultTransports,
    account_policy,
    client_of,
    discovery_policy,
    ledger_policy,
    same_connection,
    same_credentials,
    service_policy,
)
from exporter.daemon.passwords import PasswordWatcher
from exporter.polling.account import AccountPoller
from exporter.polling.clock import Clock
from exporter.polling.discovery import Discovery
from exporter.polling.ledger import Ledger
from exporter.polling.observer import Observer, Tee
from exporter.polling.poller import Poller
from exporter.polling.removed import RemovedFactors
from exporter.polling.roster import Names, Roster
from exporter.polling.schedule import Schedule
from exporter.polling.services import Services
from exporter.polling.slices import READ, at_once, in_lists
from exporter.polling.status_history import StatusHistory
from exporter.polling.token import AccessToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import httpx

    from exporter.config import AccountSettings, Config
    from exporter.polling.roster import Difference
    from exporter.polling.slices import Slices
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.verify.client import VerifyClient
    from exporter.verify.outcome import Failure
    from exporter.watched import FactorKey, WatchedEntity, WatchedFactor, WatchedService

_ONE_SHOT_POLL_SECONDS = 0.02


class FailedListing(NamedTuple):
    """A listing that failed or was incomplete.

    ``entity`` is the name of the entity, or of the service; ``entry`` is the name of the entry in the watchlist,
    which differs for an entity of a service.
    """

    account: str
    service_sid: str
    entity: str
    failure: Failure
    entry: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """What :meth:`Engine.discover_once` found: every watched factor, listed or found, and the failed listings."""

    factors: tuple[WatchedFactor, ...]
    failures: tuple[FailedListing, ...]


class _Watched(NamedTuple):
    """The services, and the entities by (account, service SID, name), that have entries in a configuration."""

    services: set[tuple[str, str]]
    entities: set[tuple[str, str, str]]


class _Failures(Observer):
    """Collects the failed listings, and why an account was paused."""

    def __init__(self) -> None:
        self.listings: list[FailedListing] = []
        self.refused: dict[str, Failure] = {}

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """Keep the failure of a listing."""
        self.listings.append(FailedListing(*entity.key[:2], entity.name, failure, entity.name))

    def service_listing_failed(self, service: WatchedService, entity: str, failure: Failure) -> None:
        """Keep the failure of a listing."""
        self.listings.append(FailedListing(*service.key, entity, failure, service.name))

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Keep why an account was paused."""
        self.refused[account] = failure


class Engine:
    """Everything that polls; ``observers`` gets every polling event.

    Must be made with an event loop running. Fetches nothing by itself: a daemon's jobs, or :meth:`fetch_once`,
    drive it. ``transport`` makes an account's transport. A ``one_shot`` engine bounds no fetch by a next one.
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
        self.applied = config
        self.clock = clock or Clock()
        self.confidential = confidential or Confidential(config)
        self.observers = Tee()
        self.background = BackgroundTasks()
        self._transport = transport or DefaultTransports()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._one_shot = one_shot
        self._tokens: dict[str, AccessToken] = {}
        self.confidential.tokens = lambda: [value for token in self._tokens.values() for value in token.recent]
        self.passwords = PasswordWatcher(lambda: self.config.passwords, self._password_changed)
        self.ledger = Ledger(ledger_policy(config), StatusHistory(self.clock.moment()))
        self.names = Names(self.ledger)
        self.removed = RemovedFactors(config.settings.polling.forget_after, self.ledger.history)
        self.schedule: Schedule[FactorKey] = Schedule()
        clients = {name: self.new_client(config, name) for name in config.settings.accounts}
        self.poller = Poller(
            accounts={name: self._account(config, name, client) for name, client in clients.items()},
            ledger=self.ledger,
            schedule=self.schedule,
            observer=self.observers,
            clock=self.clock,
            removed=self.removed,
            other_demand=lambda account: self.services.requests_per_second(account),  # noqa: PLW0108 - made below
            listing_demand=lambda account: self.discovery.listings_per_second(account),  # noqa: PLW0108 - the same
        )
        self.roster = Roster(self.poller, self.ledger)
        self.discovery = Discovery(
            discovery_policy(config),
            accounts=self.poller.accounts,
            roster=self.roster,
            observer=self.observers,
            clock=self.clock,
            holds=config.shard.holds,
        )
        self.confidential.discovered = self.discovery.services.knows_identity
        self.services = Services(
            service_policy(config),
            accounts=self.poller.accounts,
            ledger=self.ledger,
            observer=self.observers,
            clock=self.clock,
        )
        self.observers.add(self.services)

    def new_client(self, config: Config, name: str) -> VerifyClient:
        """Return a client for an account; raises ConfigError where its proxy or certificates can't be used."""
        own = config.passwords[name]  # for the last request of a removed account

        def password() -> str:
            return self.config.passwords.get(name, own).current

        return client_of(config, name, self._transport, password, self._token(name))

    def _token(self, name: str) -> AccessToken:
        return self._tokens.setdefault(name, AccessToken())

    def _account(self, config: Config, name: str, client: VerifyClient) -> AccountPoller:
        return AccountPoller(
            name,
            account_policy(config, name, one_shot=self._one_shot),
            client=client,
            ledger=self.ledger,
            schedule=self.schedule,
            observer=self.observers,
            clock=self.clock,
            rng=self._rng,
            new_client=lambda: self.new_client(self.config, name),
            reread_password=functools.partial(self.passwords.reread, name),
            token=self._token(name),
        )

    def _password_changed(self, name: str) -> None:
        self.poller.accounts[name].credentials_changed()

    # Polling

    def start(
        self,
        snapshots: Mapping[FactorKey, FactorSnapshot] | None = None,
        last_listed: Mapping[tuple[str, str, str], float] = MappingProxyType({}),
    ) -> None:
        """Watch what the configuration lists, starting from what was known of it before.

        ``last_listed`` is when entities were last listed, by (account, service SID, name); wall seconds.
        """
        self.poller.note_dispatch()  # the start may have waited
        self._retain(at_once(self._watched(self.config)))
        if snapshots:
            removed = {key: of for key, of in snapshots.items() if of.removed_seconds is not None}
            self.removed.restore(removed, self.clock.moment())
            snapshots = {key: of for key, of in snapshots.items() if of.removed_seconds is None}
        self.roster.list(self.config.factors, snapshots)
        self.discovery.watch(self.config.entities, self.config.services)
        self.discovery.restore(snapshots or {}, last_listed)
        if snapshots:
            unused = {key: of for key, of in snapshots.items() if self.ledger.get(key) is None}
            self.removed.restore(unused, self.clock.moment())

    def discover(self) -> None:
        """Start the listings and the requests for services that are due; called every second."""
        self.discovery.dispatch()
        self.services.dispatch()

    def housekeeping(self) -> None:
        """Replace stuck and silent clients, and review the budgets; called every few seconds."""
        self.poller.check_clients()
        self.poller.check_budgets()
        self.removed.forget_old(self.clock.steady())
        self.ledger.history.tidy(self.clock.moment())

    def service_size(self, account: str, service_sid: str) -> int:
        """Return the number of watched factors of a service."""
        return sum(self.ledger.counts.get((account, service_sid), {}).values())

    def stretch(self, account: str) -> float:
        """Return the factor by which an account's intervals are stretched."""
        return self.poller.accounts[account].stretch

    # Once, for a command

    async def discover_once(
        self, progress: Callable[[int], None] = lambda _left: None, enough: Callable[[], bool] = lambda: False
    ) -> Discovered:
        """List everything configured once, and return what is watched; fetches nothing. For a ``one_shot`` engine.

        ``progress`` gets the number of listings still to come. Listings of an account whose credentials are refused
        fail for that reason. Where ``enough`` is found, the listings go on until :meth:`fetch_once` begins. The
        caller goes on with that, or stops the engine with :meth:`stop_now`.
        """
        failures = _Failures()
        self.observers.add(failures)
        self.roster.list(self.config.factors)
        self.discovery.watch(self.config.entities, self.config.services)
        self.discovery.list_all()
        accounts = self.poller.accounts
        while left := [of for of in self.discovery.unlisted if of.key.account not in failures.refused]:
            if enough():
                break
            for account in accounts.values():
                account.dispatch()
            progress(len(left))
            await asyncio.sleep(_ONE_SHOT_POLL_SECONDS)
        progress(0)
        ended = tuple(failures.listings)
        held = tuple(
            FailedListing(*of.key[:2], of.name, failures.refused[of.key.account], of.name)
            for of in self.discovery.unlisted
            if of.key.account in failures.refused
        )
        return Discovered(tuple(record.watched for record in self.ledger), ended + held)

    async def fetch_once(self, factors: Iterable[WatchedFactor], progress: Callable[[int], None]) -> None:
        """Fetch each of these factors once; ``progress`` gets the number still to come.

        Not fetched are paused factors, and those whose status is known since they confirmed a refused listing.
        Other factors are no longer watched afterwards. Ends early for an account whose credentials are refused: its
        other factors stay unknown.
        """
        watched = list(factors)
        if self.discovery.unlisted:  # these listings are not needed, so that they end
            self.discovery.watch((), ())
        chosen = {factor.key for factor in watched}
        known = [record.watched.key for record in self.ledger]
        self.poller.forget([key for key in known if key not in chosen], keep=False)
        self.poller.watch([factor for factor in watched if self.ledger.get(factor.key) is None])
        due = self.clock.steady()
        for factor in watched:
            if not factor.paused and self.ledger[factor.key].status is None:
                self.poller.accounts[factor.key.account].offer(factor.key, due)
        accounts = self.poller.accounts.values()
        try:
            while waiting := [a for a in accounts if a.busy and a.credentials_valid is not False]:
                for account in waiting:
                    account.dispatch()
                progress(self.poller.first_fetches_pending)
                await asyncio.sleep(_ONE_SHOT_POLL_SECONDS)
            progress(0)
        finally:
            await self.stop_now()

    async def stop_now(self) -> None:
        """Start no new attempt, and drop those in flight."""
        await self.poller.drain(0)

    # Another configuration

    def applying(self, config: Config) -> Slices[Difference]:
        """Apply a configuration in slices; the first raises ConfigError, with nothing changed, where it can't be.

        What is known of a factor stays with its key. ``config`` is the new one from the first slice on, ``applied``
        after the last one.
        """
        old, accounts = self.config, self.poller.accounts
        clients = self._new_clients(old, config)
        yield from self.confidential.adding(config)
        watched = yield from self._watched(config)
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
        yield from self.poller.applying_policy(ledger_policy(config))
        self.discovery.policy = discovery_policy(config)
        self.services.policy = service_policy(config)
        self.removed.forget_after_seconds = config.settings.polling.forget_after
        difference = yield from self.roster.listing(config.factors)
        difference = difference.plus(self.discovery.watch(config.entities, config.services))
        for name in accounts.keys() - config.settings.accounts.keys():
            self.background.spawn(self.poller.drop_account(name).finish(0))
            del self._tokens[name]
        self._retain(watched)
        self.applied = config
        return difference

    def _new_clients(self, old: Config, config: Config) -> dict[str, VerifyClient]:
        clients: dict[str, VerifyClient] = {}
        try:
            for name in config.settings.accounts:
                if not same_connection(old, config, name):
                    clients[name] = self.new_client(config, name)
        except ConfigError:
            for client in clients.values():
                self.background.spawn(client.aclose())
            raise
        return clients

    def announce(self) -> None:
        """Report what the configuration watches, so that counters are at 0 before :meth:`start`."""
        self._announce(at_once(self._watched(self.config)))

    def _announce(self, watched: _Watched) -> None:
        walked = {service.key for service in self.config.services}
        self.observers.config_applied(self.config.settings.accounts, watched.services, watched.entities, walked)

    @staticmethod
    def _watched(config: Config) -> Slices[_Watched]:
        """Return the services and the entities with entries in a configuration."""
        entities = {(*of.key[:2], of.name) for of in config.entities}
        entities |= {(*of.key, of.name) for of in config.services}
        services = {entity[:2] for entity in entities}
        for some in in_lists(config.factors, READ):
            services.update(watched.key[:2] for watched in some)
            yield len(some) / READ
        return _Watched(services, entities)

    def _retain(self, watched: _Watched) -> None:
        """Drop what is known of services and entities that are no longer watched, and begin the new ones."""
        self.ledger.retain(watched.services, watched.entities)
        self.services.retain(watched.services)
        for entity in sorted(watched.entities):
            self.ledger.know_entity(*entity)
        self._announce(watched)
