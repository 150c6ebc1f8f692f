"""The variables at the top of a board and the events on its graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard

from exporter.exposition.catalogue import (
    API_PAUSED,
    BUILD_INFO,
    CONFIG_RELOAD_SUCCESSFUL,
    CONFIG_RELOAD_TIMESTAMP,
    FACTOR_INFO,
    FACTORS,
    STATUS_CHANGES,
)
from grafana.boards.promql import CHANGED_STATE, chosen, increase, of_exporter
from grafana.boards.states import BAD, ODD, PLAIN

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder

    Variable = Builder[dashboard.VariableModel]

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

_START = of_exporter("process_start_time_seconds")
_LOADED = chosen(CONFIG_RELOAD_TIMESTAMP)
_SECONDS_TO_START = 30  # a configuration loaded so soon after the start is the first one, not a reload


def data_source() -> Variable:
    """Return the choice of the Prometheus that is asked."""
    return build.DatasourceVariable("datasource").type("prometheus").label("Data source")


def exporters() -> list[Variable]:
    """Return the choices of job and instance."""
    return [
        values("job", "Job", BUILD_INFO.name, "job", "Scrape jobs of the exporter."),
        values(
            "instance",
            "Instance",
            f'{BUILD_INFO.name}{{job=~"$job"}}',
            "instance",
            "Exporters: one a shard.",
        ),
    ]


def accounts_and_services() -> list[Variable]:
    """Return the choices of account and service."""
    before = 'job=~"$job", instance=~"$instance"'
    return [
        values(
            "account",
            "Account",
            f"{API_PAUSED.name}{{{before}}}",
            "account",
            "Names of the accounts in the configuration.",
        ),
        values(
            "service",
            "Service",
            f'{FACTORS.name}{{{before}, account=~"$account"}}',
            "service_sid",
            "SIDs of the Verify services.",
        ),
    ]


def factors(*, one: bool = False) -> Variable:
    """Return the choice of factors, or of the one factor that the board is about."""
    return values(
        "factor",
        "Factor",
        f'{FACTOR_INFO.name}{{job=~"$job", instance=~"$instance", account=~"$account", service_sid=~"$service"}}',
        "factor",
        "Names of the factors in the watchlist.",
        one=one,
    )


def row_limit() -> Variable:
    """Return how many factors are shown one by one."""
    numbers = ("20", "50", "100", "200", "500", "1000")
    default = "100"
    return (
        build.CustomVariable("rows")
        .label("Factors shown")
        .description("At most so many in the timeline and the table: those with the worst state first.")
        .values(",".join(numbers))
        .options(
            [dashboard.VariableOption(text=number, value=number, selected=number == default) for number in numbers]
        )
        .current(dashboard.VariableOption(text=default, value=default, selected=True))
    )


def filters() -> Variable:
    """Return free filters, by the labels that the watchlist gives its factors."""
    return (
        build.AdHocVariable("filters")
        .label("Labels")
        .description(
            "Any label of the factors, such as team. Panels that count by service or account hold no such label"
            " and are empty while one is chosen."
        )
        .datasource(SOURCE)
    )


def values(name: str, label: str, series: str, of: str, description: str, *, one: bool = False) -> Variable:
    """Return the choice among the values of a label."""
    query = f"label_values({series}, {of})"
    variable = (
        build.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
    if one:
        return variable
    everything = dashboard.VariableOption(text=["All"], value=["$__all"], selected=True)
    return variable.multi(True).include_all(True).all_value(".+").current(everything)


def changes_of_services() -> dict[str, Any]:
    """Return the changes of status as the exporter counts them, by service."""
    changes = increase(STATUS_CHANGES, ("account", "service_sid", "from", "to"))
    return {
        **_event("Status changes", ODD, f"{changes} > 0"),
        "titleFormat": "{{from}} → {{to}}",
        "textFormat": "account {{account}}, service {{service_sid}}",
        "tagKeys": "account,from,to",
    }


def changes_of_factors() -> dict[str, Any]:
    """Return the changes of status of the factors that are chosen, as far as two looks show one."""
    return {
        **_event("Status changes", ODD, CHANGED_STATE),
        "titleFormat": "{{factor}}: its status changed",
        "textFormat": "account {{account}}, service {{service_sid}}",
        "tagKeys": "account,factor",
    }


def events(changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events: these changes of status, restarts, reloads and refused reloads.

    Plain tables: the models know neither the texts of an annotation nor the time that its value may be.
    """
    return [
        changes,
        {
            **_event("Restarts", PLAIN, f"{_START} * 1000 > $__from < $__to"),
            "titleFormat": "Exporter started",
            "textFormat": "{{job}} {{instance}}",
            "tagKeys": "instance",
            "useValueForTime": "on",
        },
        {
            **_event(
                "Reloader",
                PLAIN,
                f"({_LOADED} > on (job, instance) {_START} + {_SECONDS_TO_START}) * 1000 > $__from < $__to",
            ),
            "titleFormat": "Configuration reloaded",
            "textFormat": "{{job}} {{instance}}",
            "tagKeys": "instance",
            "useValueForTime": "on",
        },
        {
            **_event("Refused reloads", BAD, f"{chosen(CONFIG_RELOAD_SUCCESSFUL)} == 0"),
            "titleFormat": "Configuration refused",
            "textFormat": "{{job}} {{instance}} runs on with the one before; its log says why",
            "tagKeys": "instance",
        },
    ]


def _event(name: str, colour: str, expression: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": SOURCE.to_json(),
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expression,
        "step": "60s",
    }
