"""Variables of the dashboards and the annotations on their graphs."""

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
from grafana.boards.promql import EVERY_FACTOR, WORSE_STATE, exporter_series, rate, selected
from grafana.boards.states import BAD, PLAIN, WARN
from grafana.rules.factors import STATE as RECORDED_STATE

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder

    Variable = Builder[dashboard.VariableModel]

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

_START = exporter_series("process_start_time_seconds")
_LOADED = selected(CONFIG_RELOAD_TIMESTAMP)
_WORSE = ('from!="not_found"', 'to!="verified"')
_STEP = "60s"
_SECONDS_TO_START = 30  # a configuration loaded this soon after the start is the first one, not a reload


def data_source() -> Variable:
    """Return the variable that selects the Prometheus data source."""
    return build.DatasourceVariable("datasource").type("prometheus").label("Data source")


def exporters() -> list[Variable]:
    """Return the variables that select job and instance."""
    return [
        values("job", "Job", BUILD_INFO.name, "job", "Scrape jobs of the exporter."),
        values(
            "instance",
            "Instance",
            f'{BUILD_INFO.name}{{job=~"$job"}}',
            "instance",
            "Exporters; with sharding, one per shard.",
        ),
    ]


def accounts_and_services() -> list[Variable]:
    """Return the variables that select account and service."""
    before = 'job=~"$job", instance=~"$instance"'
    return [
        values(
            "account",
            "Account",
            f"{API_PAUSED.name}{{{before}}}",
            "account",
            "Account names from the configuration.",
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
    """Return the variable that selects one factor or all of them, or exactly one factor."""
    variable = _values(
        "factor",
        "Factor",
        f'{FACTOR_INFO.name}{{job=~"$job", instance=~"$instance", account=~"$account", service_sid=~"$service"}}',
        "factor",
        "Factor names from the watchlist.",
    )
    if one:
        return variable
    everything = dashboard.VariableOption(text="All", value="$__all", selected=True)
    return variable.include_all(True).all_value(EVERY_FACTOR).current(everything)


def recorded() -> Variable:
    """Return the hidden variable with the jobs whose states of factors are recorded by the rules, maybe none.

    It has no custom value for All: without such a job, it must match none.
    """
    return (
        _values(
            "recorded",
            "Recorded jobs",
            f'{RECORDED_STATE}{{job=~"$job"}}',
            "job",
            "Jobs of the selected ones for which the rules record the state of each factor.",
        )
        .multi(True)
        .include_all(True)
        .current(_everything())
        .hide(dashboard.VariableHide.HIDE_VARIABLE)
    )


def row_limit() -> Variable:
    """Return the variable that limits the factors shown individually."""
    numbers = ("20", "50", "100", "200", "500", "1000")
    default = "100"
    return (
        build.CustomVariable("rows")
        .label("Factors shown")
        .description(
            "Maximum number of factors in the timeline and the table; those with the worst status come first."
        )
        .values(",".join(numbers))
        .options(
            [dashboard.VariableOption(text=number, value=number, selected=number == default) for number in numbers]
        )
        .current(dashboard.VariableOption(text=default, value=default, selected=True))
    )


def filters() -> Variable:
    """Return the ad hoc filters on labels that the watchlist gives its factors."""
    return (
        build.AdHocVariable("filters")
        .label("Labels")
        .description(
            "Filters on any factor label, such as team. Panels with totals per service or account don't have these"
            " labels and are empty while a filter is set."
        )
        .datasource(SOURCE)
    )


def values(name: str, label: str, series: str, of: str, description: str) -> Variable:
    """Return a variable that selects any values of a label."""
    variable = _values(name, label, series, of, description)
    return variable.multi(True).include_all(True).all_value(".+").current(_everything())


def _values(name: str, label: str, series: str, of: str, description: str) -> build.QueryVariable:
    query = f"label_values({series}, {of})"
    return (
        build.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def _everything() -> dashboard.VariableOption:
    return dashboard.VariableOption(text=["All"], value=["$__all"], selected=True)


def losses_of_services() -> dict[str, Any]:
    """Return the annotation for changes to a worse status, by service; off, because many factors have many."""
    changes = rate(STATUS_CHANGES, ("account", "service_sid", "from", "to"), *_WORSE)
    return {
        **_event("Losses", WARN, f"{changes} > 0"),
        "enable": False,
        "titleFormat": "{{from}} → {{to}}",
        "textFormat": "account {{account}}, service {{service_sid}}",
        "tagKeys": "account,from,to",
    }


def losses_of_factors() -> dict[str, Any]:
    """Return the annotation for changes of the selected factors to a worse status, as far as two samples differ."""
    return {
        **_event("Losses", WARN, WORSE_STATE),
        "titleFormat": "{{factor}}: status got worse",
        "textFormat": "account {{account}}, service {{service_sid}}",
        "tagKeys": "account,factor",
    }


def events(losses: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all annotations: these losses, restarts, reloads and refused reloads.

    A refused reload is a moment: while it lasts, a span would colour all graphs. Plain dictionaries, because the
    SDK's models lack the text formats and ``useValueForTime`` of annotations.
    """
    applied = selected(CONFIG_RELOAD_SUCCESSFUL)
    return [
        losses,
        {
            **_event("Restarts", PLAIN, f"{_START} * 1000 > $__from < $__to"),
            "titleFormat": "Exporter started",
            "textFormat": "{{job}} {{instance}}",
            "tagKeys": "instance",
            "useValueForTime": "on",
        },
        {
            **_event(
                "Reloads",
                PLAIN,
                f"({_LOADED} > on (job, instance) {_START} + {_SECONDS_TO_START}) * 1000 > $__from < $__to",
            ),
            "titleFormat": "Configuration reloaded",
            "textFormat": "{{job}} {{instance}}",
            "tagKeys": "instance",
            "useValueForTime": "on",
        },
        {
            **_event("Refused reloads", BAD, f"{applied} == 0 unless {applied} offset {_STEP} == 0"),
            "titleFormat": "Configuration reload refused",
            "textFormat": "{{job}} {{instance}} keeps the previous configuration; see its log",
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
        "step": _STEP,
    }
