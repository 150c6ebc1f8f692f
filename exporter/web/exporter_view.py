"""What the web application sees of the exporter that it shows: one protocol for all of its paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from exporter.config import Config
    from exporter.exposition.factors import FactorExposition
    from exporter.exposition.pieces import Snapshot
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.probe import ProbeResult
    from exporter.polling.roster import Difference, Names
    from exporter.watched import FactorKey
    from exporter.web.history import History
    from exporter.web.views import AccountView, SourceView


class ExporterView(Protocol):
    """One running exporter, as its pages, its API and its probes see it."""

    @property
    def config(self) -> Config:
        """The configuration that is applied."""

    @property
    def config_loaded_seconds(self) -> float:
        """When the configuration was applied, in wall time."""

    @property
    def config_refused(self) -> bool:
        """Whether the last reload was refused or failed."""

    @property
    def ledger(self) -> Ledger:
        """What is known of each factor."""

    @property
    def names(self) -> Names:
        """The factors by their names."""

    @property
    def history(self) -> History:
        """The last fetches of each factor."""

    @property
    def factors(self) -> FactorExposition:
        """The lines of each factor in a scrape."""

    @property
    def clock(self) -> Clock:
        """The clock of the exporter."""

    @property
    def draining(self) -> bool:
        """Whether the exporter is stopping."""

    def healthy(self) -> bool:
        """Return whether the scheduler runs."""

    def ready(self) -> bool:
        """Return whether every factor's first fetch has ended."""

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now."""

    def exposition(self, *, openmetrics: bool) -> Snapshot:
        """Return a scrape of this moment."""

    def factor_exposition(self, key: FactorKey, *, openmetrics: bool) -> bytes | None:
        """Return what a scrape shows of one factor, ``None`` where it isn't watched."""

    def account_views(self) -> list[AccountView]:
        """Return what is shown of each account."""

    def credentials_changed_steady(self, account: str) -> float | None:
        """Return when an account's credentials changed (steady seconds), ``None`` if not since the start."""

    def source_views(self) -> list[SourceView]:
        """Return what is shown of each watchlist URL."""

    def next_fetch_seconds(self, key: FactorKey) -> float | None:
        """Return when a factor is fetched next, in wall time; ``None`` while it is queued, in flight or paused."""

    def pause_seconds(self, account: str) -> float:
        """Return how long an account's pause may last, 0 where it is not paused."""

    async def probe(self, key: FactorKey, within_seconds: float) -> ProbeResult:
        """Fetch a factor now, within this time."""

    async def reload(self) -> Difference:
        """Read the configuration again and apply it; raises ConfigError where it is refused."""

    def redact(self, text: str) -> str:
        """Return a text without secrets and identities."""
