"""What others see of a running exporter: the gauges of a scrape, and the web application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.page import exposition, exposition_of
from exporter.exposition.telemetry import AccountGauges, ConfigGauges, SourceGauges, StateGauges
from exporter.polling.probe import ProbeResult, probe
from exporter.web.views import SourceView, account_views

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import CollectorRegistry

    from exporter.config import Config
    from exporter.daemon.engine import Engine
    from exporter.daemon.readiness import Readiness
    from exporter.daemon.reload import ConfigStatus
    from exporter.daemon.url_sources import UrlSources
    from exporter.exposition.factors import FactorExposition
    from exporter.exposition.pieces import Snapshot
    from exporter.logs.output import LogOutput
    from exporter.polling.roster import Difference
    from exporter.state.keeper import StateKeeper
    from exporter.watched import FactorKey
    from exporter.web.history import History
    from exporter.web.views import AccountView


class EngineGauges:
    """The source of the gauges (:class:`~exporter.exposition.telemetry.GaugeSource`)."""

    def __init__(
        self,
        engine: Engine,
        config_status: ConfigStatus,
        log_output: LogOutput | None,
        state: StateKeeper | None,
        sources: UrlSources,
    ) -> None:
        self._engine = engine
        self._sources = sources
        self._state = state
        self._config_status = config_status
        self._log_output = log_output

    def status_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID) and status."""
        return self._engine.ledger.counts

    def type_counts(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], int]]:
        """Return the number of factors by (account, service SID), and by counted type and status."""
        return self._engine.ledger.type_counts

    def push_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of push factors by (account, service SID) and notification platform."""
        return self._engine.ledger.push_counts

    def entity_counts(self) -> Mapping[tuple[str, str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID, entity) and status."""
        return self._engine.ledger.entity_counts

    def last_listed(self) -> Mapping[tuple[str, str, str], float]:
        """Return when the last complete listings ended (Unix time), by (account, service SID, entity)."""
        return self._engine.discovery.last_listed()

    def service_entities(self) -> Mapping[tuple[str, str, str], tuple[int | None, bool]]:
        """Return the number of entities, and whether there are more, by (account, service SID, service's name)."""
        return self._engine.discovery.services.entity_counts()

    def discovery_interval_seconds(self) -> float:
        """Return the configured interval between two listings of an entity."""
        return self._engine.discovery.policy.interval_seconds

    def service_existence(self) -> Mapping[tuple[str, str], bool]:
        """Return whether services exist, by (account, service SID), where that is known."""
        return self._engine.services.existence()

    def entities(self) -> int:
        """Return the number of watched entities."""
        return len(self._engine.discovery)

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
            for name, account in self._engine.poller.accounts.items()
        }

    def config_gauges(self) -> ConfigGauges:
        """Return what is known of the configuration."""
        web = self._engine.applied.web
        return ConfigGauges(
            successful=self._config_status.successful,
            loaded_seconds=self._config_status.loaded_seconds,
            sha256=self._engine.applied.sha256,
            tls=web.tls is not None,
            authentication=bool(web.users) or web.requires_client_certificate,
            listed_factors=len(self._engine.applied.factors),
            total_factors=self._engine.applied.total_factors,
            fallback=self._engine.applied.fallback is not None,
        )

    def sources(self) -> Mapping[str, SourceGauges]:
        """Return the state of each watchlist URL, by name."""
        return {name: SourceGauges(of.up, of.last_success_seconds) for name, of in self._sources.statuses.items()}

    def last_tick_seconds(self) -> float:
        """Return the wall time of the last dispatch."""
        return self._engine.poller.last_dispatch.wall

    def queue_length(self) -> int:
        """Return the number of factors that are due and wait for a slot."""
        return self._engine.poller.queue_length

    def log_lines_dropped(self) -> int:
        """Return the number of log lines that were lost because nobody reads them."""
        return 0 if self._log_output is None else self._log_output.lines_dropped

    def state_gauges(self) -> StateGauges | None:
        """Return how saving the state goes, ``None`` without a state file."""
        state = self._state
        return None if state is None else StateGauges(state.last_save_seconds, state.save_failures)


class DaemonView:
    """A daemon as the web application sees it (:class:`~exporter.web.exporter_view.ExporterView`)."""

    def __init__(
        self,
        engine: Engine,
        *,
        registry: CollectorRegistry,
        factors: FactorExposition,
        history: History,
        readiness: Readiness,
        config_status: ConfigStatus,
        sources: UrlSources,
        reload: Callable[[], Awaitable[Difference]],
    ) -> None:
        self._engine = engine
        self._sources = sources
        self._registry = registry
        self._readiness = readiness
        self._config_status = config_status
        self._reload = reload
        self.ledger = engine.ledger
        self.names = engine.names
        self.clock = engine.clock
        self.factors = factors
        self.history = history

    @property
    def config(self) -> Config:
        """The configuration that is applied."""
        return self._engine.applied

    @property
    def config_loaded_seconds(self) -> float:
        """When the configuration was applied, in wall time."""
        return self._config_status.loaded_seconds

    @property
    def config_refused(self) -> bool:
        """Whether the last reload was refused or failed."""
        return not self._config_status.successful

    @property
    def draining(self) -> bool:
        """Whether the exporter is stopping."""
        return self._readiness.draining

    def healthy(self) -> bool:
        """Return whether the scheduler runs."""
        return self._readiness.healthy()

    def ready(self) -> bool:
        """Return whether every factor's first fetch has ended."""
        return self._readiness.ready()

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now: the next dispatch may be late."""
        self._engine.poller.withdraw_stale()

    def exposition(self, *, openmetrics: bool) -> Snapshot:
        """Return a scrape of this moment, whatever the scheduler does."""
        self.withdraw_stale()
        return exposition(self.factors, self._registry, openmetrics=openmetrics)

    def factor_exposition(self, key: FactorKey, *, openmetrics: bool) -> bytes | None:
        """Return what a scrape shows of one factor, ``None`` where it isn't watched."""
        self.withdraw_stale()
        record = self.ledger.get(key)
        return None if record is None else exposition_of(self.factors.samples, record, openmetrics=openmetrics)

    def account_views(self) -> list[AccountView]:
        """Return what is shown of each account."""
        engine = self._engine
        existence = engine.services.existence()
        return account_views(engine.poller.accounts, self.ledger.counts, self.clock.moment(), existence)

    def credentials_changed_steady(self, account: str) -> float | None:
        """Return when an account's credentials changed (steady seconds), ``None`` if not since the start."""
        return self._engine.poller.accounts[account].credentials_changed_steady

    def source_views(self) -> list[SourceView]:
        """Return what is shown of each watchlist URL."""
        config = self._engine.applied
        return [
            SourceView(name, of.up, of.problems, of.last_success_seconds, config.source_entries.get(name))
            for name, of in self._sources.statuses.items()
        ]

    def next_fetch_seconds(self, key: FactorKey) -> float | None:
        """Return when a factor is fetched next, in wall time; ``None`` while it is queued, in flight or paused."""
        due = self._engine.schedule.waiting(key)
        return None if due is None else round(due + self.clock.wall() - self.clock.steady(), 3)

    def pause_seconds(self, account: str) -> float:
        """Return how long an account's pause may last: until its end, or until the next probe of credentials."""
        poller = self._engine.poller.accounts.get(account)
        pause = poller.pause if poller is not None else None
        return 0.0 if pause is None else pause.seconds_left(self.clock.steady())

    async def probe(self, key: FactorKey, within_seconds: float) -> ProbeResult:
        """Fetch a factor now, or wait for the fetch in flight."""
        account = self._engine.poller.accounts[key.account]
        return await probe(
            key, account=account, ledger=self.ledger, clock=self.clock, within_seconds=within_seconds
        )

    async def reload(self) -> Difference:
        """Read the configuration again and apply it; raises ConfigError where it is refused."""
        return await self._reload()

    def redact(self, text: str) -> str:
        """Return a text without secrets and identities."""
        return self._engine.confidential.redactor(text)
