"""The Factor dashboard: the status of one factor, its changes, and its fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import (
    FACTOR_CREATED,
    FACTOR_FETCH_DURATION,
    FACTOR_FETCH_FAILURES,
    FACTOR_INFO,
    FACTOR_INTERVAL,
    FACTOR_LAST_APPROVED,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_STATUS_SINCE,
    FACTOR_UP,
    FACTOR_UPDATED,
    FETCH_FAILURES,
    STATUS_CHANGES,
)
from grafana.boards import colours
from grafana.boards.board import FACTOR, Board, Line, Section
from grafana.boards.panels import Column, Query, counted, graph, one_value, rows, sid, timeline
from grafana.boards.promql import (
    FACTOR_MATCHERS,
    KNOWN_STATE,
    ONE_FACTOR,
    STATE,
    alerts,
    per_factor,
    selected,
)
from grafana.boards.states import BAD, GREY, LAST_FETCH, PLAIN, STATES, WARN, Word
from grafana.boards.variables import (
    accounts_and_services,
    data_source,
    exporters,
    factors,
    losses_of_factors,
)

if TYPE_CHECKING:
    from exporter.exposition.catalogue import Family

_FIRING = alerts(*FACTOR_MATCHERS, 'alertstate="firing"')
_PENDING = alerts(*FACTOR_MATCHERS, 'alertstate="pending"')
_ALERT_STATES = (Word(1, "pending", WARN), Word(2, "firing", BAD))
_NOT_SEEN = (Word(-1, "not seen", GREY),)
_NONE_SEEN = f"0 * {per_factor(FACTOR_INTERVAL)} - 1"  # of a watched factor
_PAUSED = f"0 * {per_factor(FACTOR_INFO)}"  # a paused factor has no other series
_WHOSE = "{{account}} {{service_sid}}"  # shown only if there are several values
_AMBIGUOUS = "Two values mean that two services or accounts use this name; select one above."


def _time(family: Family) -> str:
    """Return a time of the factor in milliseconds, or -1 if it is watched and has none."""
    return f"1000 * {per_factor(family)} or {_NONE_SEEN}"


NOW = Section(
    "What is its status now?",
    (
        Line(
            4,
            (
                one_value(
                    "Status",
                    f"The current status. {_AMBIGUOUS} Unknown without a question mark: the factor is not watched, "
                    "or Prometheus has no samples.",
                    f"{STATE} or {_PAUSED}",
                    meanings=(*STATES, Word(0, "paused", WARN)),
                    legend=_WHOSE,
                ),
                one_value(
                    "Status since",
                    "Time of the first answer with the current status, at most one interval after the change. "
                    "Not seen: the status is older than the exporter's knowledge of it.",
                    _time(FACTOR_STATUS_SINCE),
                    unit="dateTimeFromNow",
                    meanings=_NOT_SEEN,
                    legend=_WHOSE,
                ),
                one_value(
                    "Last fetch",
                    "Whether the last fetch got a definite answer. A failed fetch keeps the status until it is "
                    "stale.",
                    f"{per_factor(FACTOR_UP)} or {_NONE_SEEN}",
                    meanings=(*LAST_FETCH, *_NOT_SEEN),
                    legend=_WHOSE,
                ),
                one_value(
                    "Last answer",
                    "Time since the last definite answer, which is the age of the status.",
                    _time(FACTOR_LAST_SUCCESS),
                    unit="dateTimeFromNow",
                    meanings=_NOT_SEEN,
                    legend=_WHOSE,
                ),
                one_value(
                    "Last verified",
                    "Time of the last answer with status verified. Kept through failures and 404, and with a state "
                    "file through restarts. Not seen: the exporter got no such answer since then.",
                    _time(FACTOR_LAST_VERIFIED),
                    unit="dateTimeFromNow",
                    meanings=_NOT_SEEN,
                    legend=_WHOSE,
                ),
                one_value(
                    "Last approved",
                    "When a passkey last approved a challenge. The API has no such time for push and TOTP factors.",
                    _time(FACTOR_LAST_APPROVED),
                    unit="dateTimeFromNow",
                    meanings=_NOT_SEEN,
                    legend=_WHOSE,
                ),
                one_value(
                    "Changes",
                    "Number of changes between known statuses in the time range. Two changes within one graph step "
                    "may be missed.",
                    f"changes(({KNOWN_STATE})[$__range:$__interval])",
                    unit="short",
                    meanings=(Word(0, "none seen", PLAIN),),
                    decimals=0,
                    legend=_WHOSE,
                ),
                one_value(
                    "Interval",
                    "The interval in effect: shorter while recently unverified, longer while missing or over "
                    "budget.",
                    f"{per_factor(FACTOR_INTERVAL)} or {_PAUSED}",
                    unit="s",
                    meanings=(Word(0, "paused", WARN),),
                    legend=_WHOSE,
                ),
            ),
        ),
    ),
)

STATES_OVER_TIME = Section(
    "How did its status change?",
    (
        Line(
            5,
            (
                timeline(
                    "Status over time",
                    "Unknown: never answered, or the last answer is too old. Gap: no samples.",
                    Query(STATE, "{{factor}} ({{account}})"),
                    STATES,
                    none="Not watched, or no samples",
                ),
            ),
        ),
        Line(
            7,
            (
                timeline(
                    "Alerts",
                    "Pending and firing alerts of this factor. Alerts about its service or account are not "
                    "included.",
                    Query(
                        f"2 * max by (alertname) ({_FIRING}) or max by (alertname) ({_PENDING})", "{{alertname}}"
                    ),
                    _ALERT_STATES,
                    none="No alerts are known in this time range",
                ),
                graph(
                    "Status changes in its service",
                    "Status changes of all factors of the service, to see whether others changed too. Not filtered "
                    "by factor.",
                    "short",
                    *counted(STATUS_CHANGES, ("from", "to"), "{{from}} → {{to}}"),
                    bars=True,
                    colours=colours.STATUS_CHANGES,
                ),
            ),
        ),
    ),
)

FETCHES = Section(
    "Do its fetches succeed?",
    (
        Line(
            8,
            (
                graph(
                    "Fetch duration",
                    "Duration of the last fetch, from the start of the first attempt to the end, including retries "
                    "and backoff.",
                    "s",
                    Query(per_factor(FACTOR_FETCH_DURATION), "{{factor}}"),
                ),
                graph(
                    "Failed fetches",
                    "Fetches of this factor that ended without a definite answer. A 404 is a definite answer.",
                    "short",
                    *counted(FACTOR_FETCH_FAILURES, ONE_FACTOR, "{{factor}}"),
                    bars=True,
                    shades=WARN,
                ),
                graph(
                    "Age of the last answer",
                    "Age of the last definite answer, and the interval in effect. An age far above the interval "
                    "means that fetches fail and the status will become stale.",
                    "s",
                    Query(f"time() - {per_factor(FACTOR_LAST_SUCCESS)}", "age"),
                    Query(per_factor(FACTOR_INTERVAL), "interval"),
                    colours={"age": WARN, "interval": PLAIN},
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Failures in its service by reason",
                    "Failed fetches of all factors of the service. Not filtered by factor; the exporter's page of "
                    "the factor shows the reasons.",
                    "short",
                    *counted(FETCH_FAILURES, ("reason",), "{{reason}}"),
                    bars=True,
                    colours=colours.REASONS,
                ),
            ),
        ),
        Line(
            5,
            (
                rows(
                    "Details",
                    "SIDs, type, dates, and the labels from the watchlist.",
                    [
                        selected(FACTOR_INFO),
                        f"1000 * {per_factor(FACTOR_CREATED)}",
                        f"1000 * {per_factor(FACTOR_UPDATED)}",
                    ],
                    {
                        "factor_type": Column("Type", width=90),
                        "Value #B": Column("Created", unit="dateTimeAsIso", width=155),
                        "Value #C": Column("Changed", unit="dateTimeAsIso", width=155),
                        "factor_sid": sid("Factor SID"),
                        "entity_sid": sid("Entity SID"),
                        "service_sid": sid("Service"),
                        "account": Column("Account", width=100),
                        "job": Column("Job", width=175),
                    },
                    # The identity is personal data: hidden even if the exporter is configured to expose it.
                    hidden=("Value #A", "identity", "factor", "instance"),
                    sort=("Account", False),
                    none="Not watched, or no samples",
                ),
            ),
        ),
    ),
)

FACTOR_BOARD = Board(
    FACTOR,
    "Twilio Verify / Factor",
    "The status of one factor, its changes, and its fetches.",
    (data_source(), *exporters(), *accounts_and_services(), factors(one=True)),
    (NOW, STATES_OVER_TIME, FETCHES),
    losses_of_factors(),
    exact=True,
)
