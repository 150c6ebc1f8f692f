"""Overview: am I paged, and for which factors?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import (
    ENTITY_FACTORS,
    FACTOR_EXISTS,
    FACTOR_INFO,
    FACTOR_INTERVAL,
    FACTOR_LABELS,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_UPDATED,
    FACTOR_VERIFIED,
    FACTORS,
    STATUS_CHANGES,
)
from exporter.polling.record import STATUSES
from exporter.verify.outcome import Status
from grafana.boards.board import FACTOR, OVERVIEW, Board, Line, Section
from grafana.boards.health import exporters_up, last_tick
from grafana.boards.panels import MOST_POINTS, Column, Link, Query, graph, one_value, rows, timeline
from grafana.boards.promql import (
    FACTOR_KEY,
    STATE,
    alerts,
    chosen,
    increase,
    per_factor,
)
from grafana.boards.states import (
    ALERT_STATES,
    BAD,
    GOOD,
    NONE,
    ODD,
    SEVERITIES,
    STATES,
    STATUS_COLOURS,
    Word,
    coloured,
    words,
)
from grafana.boards.variables import (
    accounts_and_services,
    data_source,
    exporters,
    factors,
    filters,
    row_limit,
)

if TYPE_CHECKING:
    from exporter.exposition.catalogue import Family

_VERIFIED, _EXISTS = per_factor(FACTOR_VERIFIED), per_factor(FACTOR_EXISTS)
_WATCHED = per_factor(FACTOR_INTERVAL)

# 0 only where something is known: no answer at all is "no data", never "none".
_UNVERIFIED = f"count({_VERIFIED} == 0) or 0 * count({_VERIFIED}) or 0 * count({_EXISTS} == 0)"
_MISSING = f"count({_EXISTS} == 0) or 0 * count({_EXISTS})"
_UNKNOWN = f"count({_WATCHED} unless {_EXISTS}) or 0 * count({_WATCHED})"
_VERIFIED_SHARE = f"(sum({_VERIFIED}) or 0 * count({_EXISTS})) / count({_WATCHED})"

_FIRING = alerts('alertstate="firing"', 'severity="critical"')
_FIRING_CALMLY = alerts('alertstate="firing"', 'severity!="critical"')
_WORST_NOW = f"topk($rows, {STATE})"
_SAME_FACTOR = f"and on ({FACTOR_KEY})"

_VARIABLES = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"


def _to_factor(label: str) -> Link:
    """Return the link to the board of one factor; ``label`` is where a value's labels are found."""
    chosen_ones = "&".join(
        f"var-{variable}=${{{label}.{name}:percentencode}}"
        for variable, name in zip(("account", "service", "factor"), FACTOR_LABELS, strict=True)
    )
    return Link("This factor", f"/d/{FACTOR}?{chosen_ones}&{_VARIABLES}")


def _in_range(function: str, family: Family) -> str:
    """Return a function of a factor's samples in the time that is shown, worked out once and not at each point."""
    return f"max by ({FACTOR_KEY}) ({function}({chosen(family)}[$__range] @ end()))"


# The worst state of each factor in the time that is shown; unknown where it was watched and no answer stood.
_SEEN, _KNOWN = _in_range("count_over_time", FACTOR_INTERVAL), _in_range("count_over_time", FACTOR_EXISTS)
_WORST_IN_RANGE = (
    f"topk($rows, (4 + ({_in_range('min_over_time', FACTOR_EXISTS)} == 0))"
    f" or (3 + ({_in_range('min_over_time', FACTOR_VERIFIED)} == 0))"
    f" or (2 + 0 * ({_KNOWN} < {_SEEN})) or (2 + 0 * ({_SEEN} unless {_KNOWN})) or (1 + 0 * {_SEEN}))"
)


def _of_worst(expression: str) -> str:
    """Return an expression for the factors that the table shows."""
    return f"{expression} {_SAME_FACTOR} {_WORST_NOW}"


def _with_status(status: str) -> str:
    return f'status="{status}"'


_CELL_LINK = (_to_factor("__data.fields"),)
_FACTOR_COLUMNS = {
    "factor": Column("Factor", links=_CELL_LINK),
    "account": Column("Account"),
    "service_sid": Column("Service"),
}

PAGED = Section(
    "Am I paged?",
    (
        Line(
            4,
            (
                one_value(
                    "Critical alerts",
                    "Alerts of this exporter that fire and page someone, whatever is chosen above but the job."
                    " None as well where Prometheus has not loaded the alert rules.",
                    f"count({_FIRING}) or vector(0)",
                    meanings=NONE,
                    steps=((1, BAD),),
                    base=GOOD,
                ),
                one_value(
                    "Other alerts",
                    "Alerts of this exporter that fire and can wait for the morning.",
                    f"count({_FIRING_CALMLY}) or vector(0)",
                    meanings=NONE,
                    steps=((1, ODD),),
                    base=GOOD,
                ),
                one_value(
                    "Unverified",
                    "Factors that the API last called unverified. No data: nothing is known of any factor.",
                    _UNVERIFIED,
                    meanings=NONE,
                    steps=((1, ODD),),
                    base=GOOD,
                ),
                one_value(
                    "Missing",
                    "Factors that the API last answered 404 for: deleted, or the watchlist names a wrong one.",
                    _MISSING,
                    meanings=NONE,
                    steps=((1, BAD),),
                    base=GOOD,
                ),
                one_value(
                    "Stale or unknown",
                    "Factors without a definite answer: never answered, or the last answer is too old to be shown.",
                    _UNKNOWN,
                    meanings=NONE,
                    steps=((1, ODD),),
                    base=GOOD,
                ),
                one_value(
                    "Verified",
                    "Share of the watched factors that are verified. Factors that are stale or missing are not.",
                    _VERIFIED_SHARE,
                    unit="percentunit",
                    decimals=1,
                ),
                exporters_up(),
                last_tick(),
            ),
        ),
        Line(
            8,
            (
                rows(
                    "Alerts",
                    "Alerts of this exporter that fire or are about to (pending), with the labels they are routed"
                    " by.",
                    [alerts()],
                    {
                        "alertstate": Column("State", mappings=coloured(ALERT_STATES), width=90),
                        "severity": Column("Severity", mappings=coloured(SEVERITIES), width=90),
                        "alertname": Column("Alert"),
                        **_FACTOR_COLUMNS,
                    },
                    hidden=("Value",),
                    sort=("State", False),
                    none="No alert fires or is pending",
                ),
                graph(
                    "Factors by status",
                    "How many factors are in each status. Counted by service: the choice of a factor does not"
                    " change it, and it is empty while a label is chosen.",
                    "short",
                    Query(f"sum by (status) ({chosen(FACTORS)})", "{{status}}"),
                    colours=STATUS_COLOURS,
                ),
            ),
        ),
    ),
)

WHICH = Section(
    "Which factors, and since when?",
    (
        Line(
            12,
            (
                timeline(
                    "States",
                    "The status of each factor as the exporter knew it. With more factors than chosen above,"
                    " those with the worst state in this time are shown. A gap: Prometheus got no samples.",
                    Query(f"({STATE}) {_SAME_FACTOR} {_WORST_IN_RANGE}", "{{factor}} ({{account}})"),
                    STATES,
                    links=(_to_factor("__field.labels"),),
                    none="No factor is watched, or Prometheus has no samples",
                ),
            ),
        ),
        Line(
            12,
            (
                rows(
                    "Factors",
                    "What is known of each factor now, the worst state first; click on a factor for its own board."
                    " Last answer is the last definite one, last changed is the API's date_updated.",
                    [
                        _WORST_NOW,
                        _of_worst(f"time() - {per_factor(FACTOR_LAST_SUCCESS)}"),
                        _of_worst(f"1000 * {per_factor(FACTOR_LAST_VERIFIED)}"),
                        _of_worst(f"1000 * {per_factor(FACTOR_UPDATED)}"),
                        _of_worst(_WATCHED),
                        _of_worst(f"max by ({FACTOR_KEY}, factor_type) ({chosen(FACTOR_INFO)})"),
                    ],
                    {
                        "factor": Column("Factor", links=_CELL_LINK),
                        "Value #A": Column("State", mappings=words(STATES), width=130),
                        "Value #B": Column("Last answer, ago", unit="s"),
                        "Value #C": Column("Last verified", unit="dateTimeFromNow"),
                        "Value #D": Column("Last changed", unit="dateTimeFromNow"),
                        "Value #E": Column("Asked every", unit="s"),
                        "factor_type": Column("Type", width=100),
                        "account": Column("Account"),
                        "service_sid": Column("Service"),
                        "job": Column("Job"),
                    },
                    hidden=("Value #F",),
                    sort=("State", True),
                    none="No factor is watched, or Prometheus has no samples",
                ),
            ),
        ),
    ),
)

WHAT_CHANGED = Section(
    "What changed?",
    (
        Line(
            8,
            (
                graph(
                    "Status changes",
                    "Changes of a factor's status, between known ones. Many from verified to not_found at once: the"
                    " service or the account may be wrong, not the factors.",
                    "short",
                    Query(f"{increase(STATUS_CHANGES, ('from', 'to'))} > 0", "{{from}} → {{to}}"),
                    bars=True,
                ),
                graph(
                    "Age of the oldest answer",
                    "How old the oldest definite answer is, and the longest interval at which a factor is asked"
                    " for. An age far above the interval: answers fail to come.",
                    "s",
                    Query(f"max(time() - {per_factor(FACTOR_LAST_SUCCESS)})", "oldest answer"),
                    Query(f"max({_WATCHED})", "longest interval"),
                ).max_data_points(MOST_POINTS),
                rows(
                    "Entities",
                    "Factors of each watched entity by status; one with none verified can't pass a check. Empty"
                    " where the watchlist names no entities, and while a label is chosen.",
                    [
                        f"sum by (account, service_sid, entity) ({chosen(ENTITY_FACTORS, _with_status(status))})"
                        for status in STATUSES
                    ],
                    {
                        "entity": Column("Entity"),
                        **{
                            f"Value #{letter}": Column(
                                status.replace("_", " ").capitalize(),
                                mappings=words((Word(0, "0: none", BAD),)) if status == Status.VERIFIED else None,
                            )
                            for letter, status in zip("ABCD", STATUSES, strict=True)
                        },
                        "account": Column("Account"),
                        "service_sid": Column("Service"),
                    },
                    sort=("Verified", False),
                    none="No entity is watched",
                ),
            ),
        ),
    ),
)

OVERVIEW_BOARD = Board(
    OVERVIEW,
    "Twilio Verify / Overview",
    "Am I paged, for which factors, and what changed? Statuses are polled: each is as old as its last answer.",
    (data_source(), *exporters(), *accounts_and_services(), factors(), row_limit(), filters()),
    (PAGED, WHICH, WHAT_CHANGED),
)
