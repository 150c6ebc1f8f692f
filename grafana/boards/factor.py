"""Factor: what was one factor's state, when did it change, and do its fetches go well?"""

from __future__ import annotations

from exporter.exposition.catalogue import (
    FACTOR_CREATED,
    FACTOR_FETCH_DURATION,
    FACTOR_FETCH_FAILURES,
    FACTOR_INFO,
    FACTOR_INTERVAL,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_UP,
    FACTOR_UPDATED,
    FETCH_FAILURES,
    STATUS_CHANGES,
)
from grafana.boards.board import FACTOR, Board, Line, Section
from grafana.boards.panels import Column, Query, graph, one_value, rows, timeline
from grafana.boards.promql import FACTOR_KEY, KNOWN_STATE, STATE, alerts, chosen, increase, per_factor
from grafana.boards.states import BAD, LAST_FETCH, ODD, STATES, Word
from grafana.boards.variables import (
    accounts_and_services,
    changes_of_factors,
    data_source,
    exporters,
    factors,
    filters,
)

_OF_FACTOR = ('account=~"$account"', 'service_sid=~"$service"', 'factor=~"$factor"')
_FIRING = alerts(*_OF_FACTOR, 'alertstate="firing"')
_PENDING = alerts(*_OF_FACTOR, 'alertstate="pending"')
_ALERT_STATES = (Word(1, "pending", ODD), Word(2, "firing", BAD))
_NAMED_TWICE = "Two values: the name is used in two services or accounts; choose one above."

NOW = Section(
    "How is it now?",
    (
        Line(
            4,
            (
                one_value(
                    "State",
                    f"The status that the exporter knows. {_NAMED_TWICE}",
                    STATE,
                    meanings=STATES,
                    none="not watched, or no samples",
                ),
                one_value(
                    "Last fetch",
                    "Whether the last fetch got a definite answer. One that failed leaves the state as it was,"
                    " until it is stale.",
                    per_factor(FACTOR_UP),
                    meanings=LAST_FETCH,
                    none="none yet",
                ),
                one_value(
                    "Last answer",
                    "When the last definite answer came: how old the state is.",
                    f"1000 * {per_factor(FACTOR_LAST_SUCCESS)}",
                    unit="dateTimeFromNow",
                    none="none yet",
                ),
                one_value(
                    "Last verified",
                    "When an answer last said verified. It stays through failures, 404 and, with a state file,"
                    " restarts.",
                    f"1000 * {per_factor(FACTOR_LAST_VERIFIED)}",
                    unit="dateTimeFromNow",
                    none="never seen so",
                ),
                one_value(
                    "Changes",
                    "How often the state changed in the time above, between known ones; of two changes within one"
                    " point of a graph, none may be seen.",
                    f"changes(({KNOWN_STATE})[$__range:$__interval])",
                    unit="short",
                    decimals=0,
                ),
                one_value(
                    "Asked every",
                    "The interval in force: shorter while newly unverified, longer while missing or over budget.",
                    per_factor(FACTOR_INTERVAL),
                    unit="s",
                    none="paused, or not watched",
                ),
            ),
        ),
    ),
)

STATES_OVER_TIME = Section(
    "What was its state, and when did it change?",
    (
        Line(
            5,
            (
                timeline(
                    "States",
                    "The status over time. Unknown: never answered, or too old to be shown. A gap: no samples.",
                    Query(STATE, "{{factor}} ({{account}})"),
                    STATES,
                    none="not watched, or no samples",
                ),
            ),
        ),
        Line(
            7,
            (
                timeline(
                    "Alerts",
                    "Alerts of this factor while pending and firing. None: nobody was paged for it by itself.",
                    Query(
                        f"2 * max by (alertname) ({_FIRING}) or max by (alertname) ({_PENDING})", "{{alertname}}"
                    ),
                    _ALERT_STATES,
                    none="No alert of this factor was pending or firing",
                ),
                graph(
                    "Changes in its service",
                    "Status changes of all factors of the service: is it this factor alone, or many? Not narrowed"
                    " to the factor.",
                    "short",
                    Query(f"{increase(STATUS_CHANGES, ('from', 'to'))} > 0", "{{from}} → {{to}}"),
                    bars=True,
                ),
            ),
        ),
    ),
)

FETCHES = Section(
    "Do its fetches go well?",
    (
        Line(
            8,
            (
                graph(
                    "Latency of its fetches",
                    "How long the last fetch took: from the first attempt's start to the end, retries and the"
                    " pauses between them included.",
                    "s",
                    Query(per_factor(FACTOR_FETCH_DURATION), "{{factor}}"),
                ),
                graph(
                    "Failed fetches",
                    "Fetches of this factor that ended without a definite answer. A 404 is an answer.",
                    "short",
                    Query(
                        f"sum by ({FACTOR_KEY}) (increase({chosen(FACTOR_FETCH_FAILURES)}[$__rate_interval])) > 0",
                        "{{factor}}",
                    ),
                    bars=True,
                    colours={"$factor": ODD},
                ),
                graph(
                    "Age of its last answer",
                    "How old the last definite answer was, beside the interval in force. An age far above the"
                    " interval: answers fail to come, and the state is withdrawn before long.",
                    "s",
                    Query(f"time() - {per_factor(FACTOR_LAST_SUCCESS)}", "age of the answer"),
                    Query(per_factor(FACTOR_INTERVAL), "interval"),
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Failures in its service, by reason",
                    "Why fetches of the service's factors fail. Not narrowed to the factor; the exporter's status"
                    " page tells the reason of each of its fetches.",
                    "short",
                    Query(f"{increase(FETCH_FAILURES, ('reason',))} > 0", "{{reason}}"),
                    bars=True,
                ),
                rows(
                    "What is known of it",
                    "SIDs, type, dates, and the labels that the watchlist gives it.",
                    [
                        chosen(FACTOR_INFO),
                        f"1000 * {per_factor(FACTOR_CREATED)}",
                        f"1000 * {per_factor(FACTOR_UPDATED)}",
                    ],
                    {
                        "factor": Column("Factor"),
                        "factor_type": Column("Type"),
                        "factor_sid": Column("Factor SID"),
                        "entity_sid": Column("Entity SID"),
                        "service_sid": Column("Service"),
                        "account": Column("Account"),
                        "Value #B": Column("Created", unit="dateTimeAsIso"),
                        "Value #C": Column("Changed", unit="dateTimeAsIso"),
                    },
                    # The identity is a person's: shown nowhere, even where the exporter is told to tell it.
                    hidden=("Value #A", "identity"),
                    sort=("Factor", False),
                    none="not watched, or no samples",
                ),
            ),
        ),
    ),
)

FACTOR_BOARD = Board(
    FACTOR,
    "Twilio Verify / Factor",
    "One factor: its states, its changes, and how its fetches go.",
    (data_source(), *exporters(), *accounts_and_services(), factors(one=True), filters()),
    (NOW, STATES_OVER_TIME, FETCHES),
    changes_of_factors(),
)
