"""The two values without which no other counts: do the exporters answer, and do they tick?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import LAST_TICK
from grafana.boards.panels import one_value
from grafana.boards.promql import chosen, of_exporter
from grafana.boards.states import BAD, GOOD, ODD, REACHED

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.stat import Panel


def exporters_up() -> Panel:
    """Return whether Prometheus reaches every exporter."""
    return one_value(
        "Exporter",
        "DOWN while Prometheus reaches none, or not all, of the exporters chosen above.",
        f"min({of_exporter('up')})",
        meanings=REACHED,
    )


def last_tick() -> Panel:
    """Return how long ago the scheduler ticked."""
    return one_value(
        "Last tick",
        "Age of the scheduler's last tick, of the exporter where it is oldest. Some seconds and the time"
        " between two scrapes are usual; an exporter that answers but does not tick learns nothing.",
        f"max(time() - {chosen(LAST_TICK)})",
        unit="s",
        steps=((90, ODD), (300, BAD)),
        base=GOOD,
        decimals=0,
    )
