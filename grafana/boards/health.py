"""The two panels that the others depend on: whether the exporters are up and their schedulers run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import LAST_TICK
from grafana.boards.panels import one_value
from grafana.boards.promql import exporter_series, selected
from grafana.boards.states import BAD, GOOD, REACHED, WARN

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.stat import Panel


def exporters_up() -> Panel:
    """Return the panel that shows whether Prometheus can scrape every selected exporter."""
    return one_value(
        "Exporter",
        "DOWN if Prometheus fails to scrape any of the selected exporters.",
        f"min({exporter_series('up')})",
        meanings=REACHED,
    )


def last_tick() -> Panel:
    """Return the panel with the time since the last dispatch."""
    return one_value(
        "Last dispatch",
        "Time since the scheduler last ran, for the exporter where this is longest. A few seconds plus the scrape"
        " interval are normal. If the scheduler does not run, no factor is polled.",
        f"max(time() - {selected(LAST_TICK)})",
        unit="s",
        steps=((90, WARN), (300, BAD)),
        base=GOOD,
        decimals=0,
    )
