"""The Overview dashboard: what needs attention, which factors, and what changed."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    ENROLMENT_DURATION,
    ENTITY_FACTORS,
    ENTITY_LAST_LISTED,
    FACTOR_EXISTS,
    FACTOR_INFO,
    FACTOR_INTERVAL,
    FACTOR_LABELS,
    FACTOR_LAST_APPROVED,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_STATUS_SINCE,
    FACTOR_UPDATED,
    FACTOR_VERIFIED,
    FACTORS,
    FACTORS_BY_TYPE,
    PUSH_FACTORS,
    SERVICE_ENTITIES,
    SERVICE_ENTITIES_TRUNCATED,
    SERVICE_EXISTS,
    STATUS_CHANGES,
)
from exporter.polling.record import STATUSES, UNKNOWN
from exporter.verify.outcome import Status
from grafana.boards import colours
from grafana.boards.board import FACTOR, OVERVIEW, RUNBOOKS, Board, Line, Section
from grafana.boards.health import exporters_up, last_tick
from grafana.boards.panels import (
    MOST_POINTS,
    Column,
    Link,
    Query,
    counted,
    graph,
    one_value,
    rows,
    sid,
    timeline,
)
from grafana.boards.promql import (
    FACTOR_KEY,
    RULES_EVALUATED,
    STATES_NOW,
    WORST_FIRST,
    alert_ages,
    alert_scopes,
    alerts,
    observations,
    per_factor,
    quantile,
    selected,
)
from grafana.boards.states import (
    ALERT_STATES,
    BAD,
    GOOD,
    GREY,
    NONE,
    NONE_KNOWN,
    PLAIN,
    SCOPES,
    SERVICE_STATES,
    SEVERITIES,
    STATES,
    STATUS_COLOURS,
    WARN,
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
    recorded,
    row_limit,
)
from grafana.rules.enrolments import UNUSED_DAYS

_ENTITY = "account, service_sid, entity"
_VERIFIED, _EXISTS = per_factor(FACTOR_VERIFIED), per_factor(FACTOR_EXISTS)
_WATCHED = per_factor(FACTOR_INTERVAL)

_UNKNOWN = f"count({_WATCHED} unless {_EXISTS}) or 0 * count({_WATCHED})"


def _with_known(condition: str) -> str:
    """Return how many factors meet a condition of their status.

    Without any, 0 if the status of all factors is known, -1 if it is of some, and nothing if it is of none.
    """
    none_known = f"0 * count({_WATCHED} unless {_EXISTS}) - 1 and count({_EXISTS})"
    return f"count({condition}) or {none_known} or 0 * count({_EXISTS})"


_VERIFIED_SHARE = f"(sum({_VERIFIED}) or 0 * count({_EXISTS})) / count({_WATCHED})"

_FIRING = alerts('alertstate="firing"', 'severity="critical"')
_FIRING_OTHER = alerts('alertstate="firing"', 'severity!="critical"')


def _if_evaluated(firing: str) -> str:
    """Return the number of alerts, or 0 if any alert or a recorded series shows that the rules are evaluated."""
    return f"count({firing}) or 0 * (count({alerts()}) or count({RULES_EVALUATED}))"


_WORST_NOW = f"topk($rows, {STATES_NOW})"
_SAME_FACTOR = f"and on ({FACTOR_KEY})"

_VARIABLES = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"


def _factors_by_time(title: str) -> dict[str, Column]:
    """Return the columns of a table of factors, each with a time."""
    return {
        "factor": Column("Factor", links=_CELL_LINK),
        "Value": Column(title, unit="dateTimeFromNow", width=130),
        "account": Column("Account", width=100),
        "service_sid": sid("Service"),
    }


def _to_factor(label: str) -> Link:
    """Return the link to a factor's dashboard; ``label`` is Grafana's variable with the labels of a value."""
    variables = "&".join(
        f"var-{variable}=${{{label}.{name}:percentencode}}"
        for variable, name in zip(("account", "service", "factor"), FACTOR_LABELS, strict=True)
    )
    return Link("This factor", f"/d/{FACTOR}?{variables}&{_VARIABLES}")


def _of_worst(expression: str) -> str:
    """Return an expression restricted to the factors in the table."""
    return f"{expression} {_SAME_FACTOR} {_WORST_NOW}"


# Read at two times only, because the time range may have many samples of many factors.
_BEFORE = " offset $__range"
_CHANGED_WHILE_VERIFIED = (
    f"{per_factor(FACTOR_UPDATED)} != {per_factor(FACTOR_UPDATED, _BEFORE)}"
    f" {_SAME_FACTOR} ({_VERIFIED} == 1) {_SAME_FACTOR} ({per_factor(FACTOR_VERIFIED, _BEFORE)} == 1)"
)
_UNUSED = f"{per_factor(FACTOR_LAST_APPROVED)} < time() - {UNUSED_DAYS * 86400} {_SAME_FACTOR} ({_VERIFIED} == 1)"


def _with_status(status: str) -> str:
    return f'status="{status}"'


def _of_entities(status: str) -> str:
    return f"sum by ({_ENTITY}) ({selected(ENTITY_FACTORS, _with_status(status))})"


# An entity without a verified factor may have one if the status of some is unknown.
_NOT_KNOWN = Word(0.5, "? unknown", GREY)
_VERIFIED_OF_ENTITIES = (
    f"({_of_entities(Status.VERIFIED)} == 0) + {_NOT_KNOWN.value}"
    f" and on ({_ENTITY}) ({_of_entities(UNKNOWN)} > 0) or {_of_entities(Status.VERIFIED)}"
)


_CELL_LINK = (_to_factor("__data.fields"),)
_RUNBOOK = Link("Runbook", f"{RUNBOOKS}/${{__data.fields.alertname}}.md")

ATTENTION = Section(
    "What needs attention?",
    (
        Line(
            4,
            (
                one_value(
                    "Critical alerts",
                    "Firing alerts with severity critical. Only the job filter applies. Unknown: nothing shows "
                    "that Prometheus evaluates the alert rules.",
                    _if_evaluated(_FIRING),
                    meanings=NONE,
                    steps=((1, BAD),),
                    base=GOOD,
                ),
                one_value(
                    "Other alerts",
                    "Firing alerts of lower severity, which can wait for working hours. Unknown: nothing shows "
                    "that Prometheus evaluates the alert rules.",
                    _if_evaluated(_FIRING_OTHER),
                    meanings=NONE,
                    steps=((1, WARN),),
                    base=GOOD,
                ),
                one_value(
                    "Unverified",
                    "Factors that are unverified. None known: no factor is known to be, but the status of some is "
                    "unknown.",
                    _with_known(f"{_VERIFIED} == 0"),
                    meanings=NONE_KNOWN,
                    steps=((1, WARN),),
                    base=GOOD,
                ),
                one_value(
                    "Missing",
                    "Factors that the API last answered with 404: deleted, or wrong in the watchlist. None known: "
                    "no factor is known to be missing, but the status of some is unknown.",
                    _with_known(f"{_EXISTS} == 0"),
                    meanings=NONE_KNOWN,
                    steps=((1, BAD),),
                    base=GOOD,
                ),
                one_value(
                    "Unknown",
                    "Factors without a valid status: never answered, or the last answer is too old.",
                    _UNKNOWN,
                    meanings=NONE,
                    steps=((1, WARN),),
                    base=GOOD,
                ),
                one_value(
                    "Verified",
                    "Verified factors as a share of all watched factors. Stale and missing factors count as not "
                    "verified. Orange below 95%, red below 50%.",
                    _VERIFIED_SHARE,
                    unit="percentunit",
                    steps=((0.5, WARN), (0.95, GOOD)),
                    base=BAD,
                    decimals=1,
                ),
                exporters_up(),
                last_tick(),
            ),
        ),
        Line(
            9,
            (
                rows(
                    "Alerts",
                    "Firing and pending alerts, with their routing labels: critical ones first, and of the same "
                    "severity those about an exporter or account before those about single factors, because they "
                    "may be the cause. For: how long the condition has been true, including the time pending. "
                    "Click an alert for its runbook, a factor for its dashboard.",
                    [alert_scopes(), alert_ages()],
                    {
                        "severity": Column("Severity", mappings=coloured(SEVERITIES), width=100),
                        "Value #A": Column("Scope", mappings=words(SCOPES), width=90),
                        "alertname": Column("Alert", links=(_RUNBOOK,), width=320),
                        "alertstate": Column("State", mappings=coloured(ALERT_STATES), width=90),
                        "Value #B": Column("For", unit="s", width=90, decimals=0),
                        "factor": Column("Factor", links=_CELL_LINK),
                        "account": Column("Account", width=110),
                        "service_sid": sid("Service"),
                        "job": Column("Job", width=175),
                    },
                    sort=("Severity", False),
                    then=(("Scope", False), ("State", False), ("For", True)),
                    none="No firing or pending alerts are known",
                ),
            ),
        ),
        Line(
            7,
            (
                graph(
                    "Factors by status",
                    "Number of factors by status, from totals per service: the factor filter has no effect, and the"
                    " graph is empty while a label filter is set.",
                    "locale",
                    Query(f"sum by (status) ({selected(FACTORS)})", "{{status}}"),
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
                    "Status over time",
                    "Status of each factor over time: first those with the worst status now, then those with the "
                    "worst status in this time range, up to the limit above. Gap: Prometheus has no samples. As "
                    "the rules recorded it, or without the rules, computed from samples.",
                    Query(WORST_FIRST, "{{factor}} ({{account}})"),
                    STATES,
                    links=(_to_factor("__field.labels"),),
                    none="No watched factors, or no samples",
                ),
            ),
        ),
        Line(
            12,
            (
                rows(
                    "Factors",
                    "Current status of each factor, worst first, as the rules recorded it, or without the rules, "
                    "computed from samples. Click a factor for its dashboard. Since: first answer with this "
                    "status; empty if the change was not seen. Last answer: time since the last definite answer. "
                    "Last changed: date_updated in the API.",
                    [
                        _WORST_NOW,
                        _of_worst(f"1000 * {per_factor(FACTOR_STATUS_SINCE)}"),
                        _of_worst(f"time() - {per_factor(FACTOR_LAST_SUCCESS)}"),
                        _of_worst(f"1000 * {per_factor(FACTOR_LAST_VERIFIED)}"),
                        _of_worst(f"1000 * {per_factor(FACTOR_UPDATED)}"),
                        _of_worst(_WATCHED),
                        _of_worst(f"max by ({FACTOR_KEY}, factor_type) ({selected(FACTOR_INFO)})"),
                    ],
                    {
                        "factor": Column("Factor", links=_CELL_LINK),
                        "Value #A": Column("Status", mappings=words(STATES), width=130),
                        "Value #B": Column("Since", unit="dateTimeFromNow", width=125),
                        "Value #C": Column("Last answer", unit="s", width=125, decimals=0),
                        "Value #D": Column("Last verified", unit="dateTimeFromNow", width=135),
                        "Value #E": Column("Last changed", unit="dateTimeFromNow", width=135),
                        "Value #F": Column("Interval", unit="s", width=100),
                        "factor_type": Column("Type", width=95),
                        "account": Column("Account", width=100),
                        "service_sid": sid("Service"),
                        "job": Column("Job", width=175),
                    },
                    hidden=("Value #G",),
                    sort=("Status", True),
                    none="No watched factors, or no samples",
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
                    "Changes between known statuses. Many changes from verified to not_found at once usually mean a"
                    " wrong service or account rather than deleted factors.",
                    "short",
                    *counted(STATUS_CHANGES, ("from", "to"), "{{from}} → {{to}}"),
                    bars=True,
                    colours=colours.STATUS_CHANGES,
                ),
                graph(
                    "Age of the oldest answer",
                    "Age of the oldest definite answer, and the longest polling interval. An age far above the "
                    "interval means that fetches fail.",
                    "s",
                    # Not per factor first: at every point, that would cost ten times as much.
                    Query(f"time() - min({selected(FACTOR_LAST_SUCCESS)})", "oldest answer"),
                    Query(f"max({selected(FACTOR_INTERVAL)})", "longest interval"),
                    colours={"oldest answer": WARN, "longest interval": PLAIN},
                ).max_data_points(MOST_POINTS),
            ),
        ),
    ),
)

ENTITIES = Section(
    "Which entities and services?",
    (
        Line(
            8,
            (
                rows(
                    "Entities",
                    "Factors of each watched entity by status. An entity without a verified factor is locked out; "
                    "unknown if the status of some of its factors is. Factors enrolled since the last complete "
                    "listing may not be watched. Empty if no entities are watched, and while a label filter is "
                    "set.",
                    [
                        *(
                            _VERIFIED_OF_ENTITIES if status == Status.VERIFIED else _of_entities(status)
                            for status in STATUSES
                        ),
                        f"time() - min by ({_ENTITY}) ({selected(ENTITY_LAST_LISTED)})",
                    ],
                    {
                        "entity": Column("Entity"),
                        **{
                            f"Value #{letter}": Column(
                                status.replace("_", " ").capitalize(),
                                mappings=words((Word(0, "0: none", BAD), _NOT_KNOWN))
                                if status == Status.VERIFIED
                                else None,
                                width=115,
                            )
                            for letter, status in zip("ABCD", STATUSES, strict=True)
                        },
                        "Value #E": Column("Last listed", unit="s", width=120, decimals=0),
                        "account": Column("Account"),
                        "service_sid": sid("Service"),
                    },
                    sort=("Verified", False),
                    none="No watched entities, or no samples",
                ),
            ),
        ),
        Line(
            6,
            (
                rows(
                    "Services with missing factors",
                    "Whether the service exists, as Fetch Service or a later fetch of a factor answered. A service "
                    "is fetched only while a factor of it is missing, and left out if that is unknown. Empty while "
                    "a label filter is set.",
                    [f"max by (account, service_sid) ({selected(SERVICE_EXISTS)})"],
                    {
                        "service_sid": sid("Service"),
                        "Value": Column("Exists", mappings=words(SERVICE_STATES)),
                        "account": Column("Account"),
                    },
                    sort=("Exists", False),
                    none="No service has missing factors, or it is not known whether it exists",
                ),
                rows(
                    "Watched services",
                    "Entities that the last listing of each watched service found, and whether it stopped at "
                    "max_entities. Empty if no services are watched as a whole, and while a label filter is set.",
                    [
                        f"sum by ({_ENTITY}) ({selected(SERVICE_ENTITIES)})",
                        f"max by ({_ENTITY}) ({selected(SERVICE_ENTITIES_TRUNCATED)})",
                    ],
                    {
                        "entity": Column("Name"),
                        "Value #A": Column("Entities"),
                        "Value #B": Column(
                            "Truncated", mappings=words((Word(0, "no", GOOD), Word(1, "yes: not all watched", BAD)))
                        ),
                        "account": Column("Account"),
                        "service_sid": sid("Service"),
                    },
                    sort=("Entities", True),
                    none="No watched services, or no samples",
                ),
            ),
        ),
    ),
    collapsed=True,
)

ENROLMENT = Section(
    "Which types of factors, how do enrolments go, and what is not used?",
    (
        Line(
            7,
            (
                rows(
                    "Factor types",
                    "Factors by type. Unknown: no answer with a type yet. Other: a type that this version of the "
                    "exporter does not know. Empty while a label filter is set.",
                    [
                        f"sum by (factor_type) ({selected(FACTORS_BY_TYPE)}) > 0",
                        *(
                            f"sum by (factor_type) ({selected(FACTORS_BY_TYPE, _with_status(status))}) > 0"
                            for status in (Status.VERIFIED, Status.UNVERIFIED)
                        ),
                    ],
                    {
                        "factor_type": Column("Type"),
                        "Value #A": Column("Factors"),
                        "Value #B": Column("Verified"),
                        "Value #C": Column("Unverified"),
                    },
                    sort=("Factors", True),
                    none="No watched factors, or no samples",
                ),
                graph(
                    "Push factors by notification platform",
                    "Push factors that are verified or unverified, by how notifications reach the device. None: "
                    "the app has set no platform, so a challenge is seen only if the user opens the app. Other: "
                    "another platform, or none given. The graph is empty while a label filter is set.",
                    "short",
                    Query(
                        f"sum by (notification_platform) ({selected(PUSH_FACTORS)})", "{{notification_platform}}"
                    ),
                    colours=colours.PLATFORMS,
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Enrolment duration",
                    "Median and 95th percentile of the time from the creation of a factor to the first verified "
                    "answer, which is at most one interval too long. Gap: no enrolment ended. Empty while "
                    "a label filter is set.",
                    "s",
                    Query(quantile(0.5, ENROLMENT_DURATION, ("factor_type",)), "{{factor_type}} p50"),
                    Query(quantile(0.95, ENROLMENT_DURATION, ("factor_type",)), "{{factor_type}} p95"),
                    colours=colours.ENROLMENT_DURATIONS,
                ),
                graph(
                    "Completed enrolments",
                    "Factors that were seen unverified and then verified for the first time. A median of few "
                    "enrolments says little. Empty while a label filter is set.",
                    "short",
                    Query(f"{observations(ENROLMENT_DURATION, ('factor_type',))} > 0", "{{factor_type}}"),
                    Query(f"{observations(ENROLMENT_DURATION, ())} == 0", colours.NO_EVENTS),
                    bars=True,
                    colours=colours.TYPES,
                ),
            ),
        ),
        Line(
            8,
            (
                rows(
                    "Unused passkeys",
                    f"Verified passkeys that approved no challenge for {UNUSED_DAYS} days, the longest unused "
                    "first. Left out are passkeys for which the API returns no such date: whether they were ever "
                    "used is not known.",
                    [f"bottomk($rows, 1000 * ({_UNUSED}))"],
                    _factors_by_time("Last approved"),
                    sort=("Last approved", False),
                    none="No passkey is known to be unused",
                ),
                rows(
                    "Changed while verified",
                    "Factors whose date_updated in the API changed since the beginning of the time range, and that "
                    "were verified then and are verified now: their user enrolled again, or the app updated the "
                    "factor, such as its push token. Left out are factors without samples at the beginning.",
                    [f"topk($rows, 1000 * ({_CHANGED_WHILE_VERIFIED}))"],
                    _factors_by_time("Changed"),
                    sort=("Changed", True),
                    none="No verified factor is known to have changed",
                ),
            ),
        ),
    ),
    collapsed=True,
)

OVERVIEW_BOARD = Board(
    OVERVIEW,
    "Twilio Verify / Overview",
    "What needs attention, which factors are affected, and what changed. Statuses are polled: each is as old as its"
    " last answer.",
    (data_source(), *exporters(), *accounts_and_services(), factors(), recorded(), row_limit(), filters()),
    (ATTENTION, WHICH, WHAT_CHANGED, ENTITIES, ENROLMENT),
)
