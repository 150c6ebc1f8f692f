"""A source of gauges with fixed values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.exposition.telemetry import AccountGauges, ConfigGauges, SourceGauges, StateGauges

if TYPE_CHECKING:
    from collections.abc import Mapping


def account_gauges(*, credentials_valid: bool | None = None) -> AccountGauges:
    return AccountGauges(
        in_flight=2,
        concurrency_limit=3,
        paused=True,
        demand_requests_per_second=0.5,
        budget_requests_per_second=10.0,
        credentials_valid=credentials_valid,
    )


@dataclass
class FixedGauges:
    """Returns the values that a test sets; ``reads`` counts scrapes."""

    counts: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    gauges: dict[str, AccountGauges] = field(default_factory=dict)
    types: dict[tuple[str, str], dict[tuple[str, str], int]] = field(default_factory=dict)
    push: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    entity_factors: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)
    state: StateGauges | None = field(default_factory=lambda: StateGauges(1_800_000_100.0, 2))
    services: dict[tuple[str, str], bool] = field(default_factory=dict)
    listed: dict[tuple[str, str, str], float] = field(default_factory=dict)
    walked: dict[tuple[str, str, str], tuple[int | None, bool]] = field(default_factory=dict)
    urls: dict[str, SourceGauges] = field(
        default_factory=lambda: {"identity-service": SourceGauges(True, 1_800_000_050.0)}
    )
    reads: int = 0

    def status_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        self.reads += 1
        return self.counts

    def type_counts(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], int]]:
        return self.types

    def push_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        return self.push

    def entity_counts(self) -> Mapping[tuple[str, str, str], Mapping[str, int]]:
        return self.entity_factors

    def last_listed(self) -> Mapping[tuple[str, str, str], float]:
        return self.listed

    def service_entities(self) -> Mapping[tuple[str, str, str], tuple[int | None, bool]]:
        return self.walked

    def discovery_interval_seconds(self) -> float:
        return 900.0

    def service_existence(self) -> Mapping[tuple[str, str], bool]:
        return self.services

    def entities(self) -> int:
        return len(self.entity_factors)

    def accounts(self) -> Mapping[str, AccountGauges]:
        return self.gauges

    def config_gauges(self) -> ConfigGauges:
        return ConfigGauges(
            successful=True,
            loaded_seconds=1_800_000_000.5,
            sha256="ab" * 32,
            tls=True,
            authentication=False,
            listed_factors=7,
            total_factors=9,
            fallback=False,
        )

    def sources(self) -> Mapping[str, SourceGauges]:
        return self.urls

    def last_tick_seconds(self) -> float:
        return 1_800_000_123.0

    def queue_length(self) -> int:
        return 7

    def log_lines_dropped(self) -> int:
        return 5

    def state_gauges(self) -> StateGauges | None:
        return self.state
