"""PromQL expressions that use the dashboard variables; metric and label names come from the catalogue.

The state of all factors is read from the series that the rules record. For jobs without it, because no rules are
loaded, it is computed from samples: the variable ``recorded`` has the jobs with it, so that no job costs both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import FACTOR_EXISTS, FACTOR_INTERVAL, FACTOR_LABELS, FACTOR_VERIFIED, MetricType
from grafana.boards.states import Scope
from grafana.rules.exporters import TOTAL_RECORD
from grafana.rules.factors import STATE as RECORDED_STATE
from grafana.rules.factors import FactorState, known_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.exposition.catalogue import Family

# Two jobs may watch factors of the same name. The instance is dropped: a restart may change it.
ONE_FACTOR = ("job", *FACTOR_LABELS)
FACTOR_KEY = ", ".join(ONE_FACTOR)

EXPORTER_MATCHERS = ('job=~"$job"', 'instance=~"$instance"')
_OWN_CLASSES = (("404", "404"), ("429", "429"))  # status codes that are not counted with others of their class
NOT_RECORDED = 'job!~"$recorded"'

# Where several values can be selected, Grafana escapes them for a regular expression in double quotes; not double
# quotes, which names of factors may have. So a single factor can be selected, whose name is no regular expression;
# or All, which is the rest of another matcher.
FACTOR_VARIABLE = "${factor:doublequote}"
EVERY_FACTOR = '~".+"'
_MATCHERS = {
    "account": 'account=~"$account"',
    "service_sid": 'service_sid=~"$service"',
    "factor": f"factor={FACTOR_VARIABLE}",
}
FACTOR_MATCHERS = tuple(_MATCHERS[label] for label in FACTOR_LABELS)

# This is right for names with backslashes, too, but only without label filters: to add one, Grafana writes all
# matchers again, in double quotes, where the escapes of a regular expression are wrong.
EXACT_FACTOR_VARIABLE = "~`${factor:regex}`"

# Recorded for every job with samples, whatever it watches: shows that the rules are evaluated.
RULES_EVALUATED = f"{TOTAL_RECORD}{{{EXPORTER_MATCHERS[0]}}}"

# An alert may lack a job label, such as after absent() without one: it is included rather than hidden.
# The watchdog always fires, to verify the alerting pipeline: it is excluded.
_ALERT_MATCHERS = ('alertname=~"TwilioVerify.+"', 'alertname!~".+Watchdog"', 'job=~"$job|"')


def selected(family: Family, *matchers: str, suffix: str = "") -> str:
    """Return the selector of a family's series, filtered by every variable whose label the family has."""
    return exporter_series(family.name + suffix, *_narrowed(family.labels), *matchers)


def _narrowed(labels: Iterable[str]) -> list[str]:
    return [matcher for label, matcher in _MATCHERS.items() if label in labels]


def exporter_series(name: str, *matchers: str) -> str:
    """Return the selector of any series by name, filtered by the selected exporters."""
    return f"{name}{{{', '.join((*EXPORTER_MATCHERS, *matchers))}}}"


def alerts(*matchers: str) -> str:
    """Return the selector of this project's pending and firing alerts."""
    return _alerts("ALERTS", *matchers)


def _alerts(name: str, *matchers: str) -> str:
    return f"{name}{{{', '.join((*_ALERT_MATCHERS, *matchers))}}}"


def alert_scopes() -> str:
    """Return what each alert is about, as the number of its scope: its narrowest label decides."""
    of_label = {
        Scope.FACTOR: 'factor!=""',
        Scope.ENTITY: 'entity!=""',
        Scope.SERVICE: 'service_sid!=""',
        Scope.ACCOUNT: 'account!=""',
    }
    narrow = (f"{scope:d} * {alerts(matcher)}" for scope, matcher in of_label.items())
    return " or ".join((*narrow, f"{Scope.EXPORTER:d} * {alerts()}"))


def alert_ages() -> str:
    """Return for how long the condition of each alert has been true, in seconds, including the time pending."""
    return f"(time() - {_alerts('ALERTS_FOR_STATE')}) * ignoring (alertstate) group_right () {alerts()}"


def per_factor(family: Family, at: str = "") -> str:
    """Return a family with one series per factor, from any exporter; ``at`` is an optional offset."""
    return f"max by ({FACTOR_KEY}) ({selected(family)}{at})"


def rate(family: Family, by: Iterable[str], *matchers: str, suffix: str = "") -> str:
    """Return the rate of a counter or histogram component, summed by these labels."""
    return f"{sum_by(by)} (rate({selected(family, *matchers, suffix=suffix)}[$__rate_interval]))"


def increase(family: Family, by: Iterable[str], *matchers: str) -> str:
    """Return the increase of a counter per graph step, summed by these labels."""
    return per_step(rate(family, by, *matchers))


def by_class(by_code: str) -> str:
    """Return requests by HTTP status code as requests by class of code: see ``colours.CODE_CLASSES``."""
    labelled = by_code
    for name, codes in (("none", "none"), *((f"{digit}xx", f"{digit}..") for digit in "2345"), *_OWN_CLASSES):
        labelled = f'label_replace({labelled}, "class", "{name}", "code", "{codes}")'
    return f"sum by (class) ({labelled})"


def per_step(per_second: str) -> str:
    """Return a rate as a number per graph step.

    The window of a rate is longer than a narrow step, so an increase over it would count events in several steps.
    """
    return f"{per_second} * $__interval_ms / 1000"


def quantile(share: float, family: Family, by: Iterable[str] = ()) -> str:
    """Return a quantile of a histogram, in its unit, from classic buckets or else from native histograms.

    Raises ValueError for other families.
    """
    if family.kind is not MetricType.HISTOGRAM:
        raise ValueError(f"{family.name} is a {family.kind}; quantiles need a histogram")
    classic, native = rate(family, ("le", *by), suffix="_bucket"), rate(family, by)
    return f"histogram_quantile({share:g}, {classic}) or histogram_quantile({share:g}, {native})"


def observations(family: Family, by: Iterable[str]) -> str:
    """Return how many observations a histogram got per graph step, from its classic or else its native form."""
    classic = rate(family, by, suffix="_count")
    native = f"{sum_by(by)} (histogram_count(rate({selected(family)}[$__rate_interval])))"
    return per_step(f"({classic} or {native})")


def distribution(family: Family) -> str:
    """Return the rate of a histogram's observations by bucket, classic or else native."""
    return f"{rate(family, ('le',), suffix='_bucket')} or on () {rate(family, ())}"


def sum_by(by: Iterable[str]) -> str:
    """Return the aggregation operator for a sum by these labels."""
    labels = ", ".join(by)
    return f"sum by ({labels})" if labels else "sum"


def _in_range(function: str, selector: str) -> str:
    """Return a function over the selected time range, evaluated once instead of per point."""
    return f"{function}({selector}[$__range] @ end())"


def _of_exporters(after: str, *matchers: str) -> str:
    series = (f"({selected(family, *matchers)}{after})" for family in (FACTOR_VERIFIED, FACTOR_EXISTS))
    return " ".join(known_state(*series).split())


def _known(at: str = "", *matchers: str) -> str:
    return f"min by ({FACTOR_KEY}) ({_of_exporters(at, *matchers)})"


def _computed(*matchers: str, at: str = "") -> str:
    watched = f"{selected(FACTOR_INTERVAL, *matchers)}{at}"
    return f"{_known(at, *matchers)} or 1 + group by ({FACTOR_KEY}) ({watched})"


def _computed_worst() -> str:
    # A factor that was watched without a known status at some time was unknown then.
    def in_range(function: str, family: Family) -> str:
        return f"max by ({FACTOR_KEY}) ({_in_range(function, selected(family, NOT_RECORDED))})"

    watched, known = in_range("count_over_time", FACTOR_INTERVAL), in_range("count_over_time", FACTOR_EXISTS)
    return (
        f"({in_range('min_over_time', FACTOR_EXISTS)} == 0) + {FactorState.NOT_FOUND:d}"
        f" or ({in_range('min_over_time', FACTOR_VERIFIED)} == 0) + {FactorState.UNVERIFIED:d}"
        f" or {FactorState.UNKNOWN:d} + 0 * ({known} < {watched})"
        f" or {FactorState.UNKNOWN:d} + 0 * ({watched} unless {known})"
        f" or {FactorState.VERIFIED:d} + 0 * {watched}"
    )


# Recorded without the instance, so the factors of the selected exporters are found by another family.
_RECORDED = f"{RECORDED_STATE}{{{', '.join((EXPORTER_MATCHERS[0], *_narrowed(FACTOR_LABELS)))}}}"
_OF_EXPORTERS = f"and on ({FACTOR_KEY})"

# The state of one factor, from samples: it costs little, and needs no rules.
KNOWN_STATE = _known()
STATE = _computed()
WORSE_STATE = f"({KNOWN_STATE}) > ({_known(' offset $__interval')})"

# The state of all factors of the selected exporters.
STATES_NOW = (
    f"max by ({FACTOR_KEY}) ({_RECORDED}) {_OF_EXPORTERS} {selected(FACTOR_INTERVAL)} or {_computed(NOT_RECORDED)}"
)

# Prometheus sorts the series of a range by the names and values of their labels; this name is before all others.
_RANK = "a_rank"
_BY_RANK = f"by ({FACTOR_KEY}, {_RANK})"


def _ranked(at_end: str, worst: str) -> str:
    """Return the operation that selects the series of the most urgent factors and labels them with their rank.

    The urgency is 100, ten times the state at the end of the time range if there is one, and the worst state in
    the range. A label keeps both terms apart until they are added: each is evaluated once. Factors of other
    exporters have no worst state, and no 100.
    """
    urgency = f'sum by ({FACTOR_KEY}) (label_replace(10 * ({at_end}), "term", "end", "", "") or 100 + ({worst}))'
    return (
        f"* on ({FACTOR_KEY}) group_left ({_RANK})"
        f' count_values by ({FACTOR_KEY}) ("{_RANK}", 199 - (topk($rows, {urgency}) > 100))'
    )


# Ranks are evaluated once, all else at each point: so few factors are selected before their states are computed.
_RECORDED_RANKED = _ranked(
    f"max by ({FACTOR_KEY}) ({_RECORDED} @ end())",
    f"max by ({FACTOR_KEY}) ({_in_range('max_over_time', _RECORDED)})"
    f" {_OF_EXPORTERS} {_in_range('present_over_time', selected(FACTOR_INTERVAL))}",
)
_COMPUTED_RANKED = _ranked(_computed(NOT_RECORDED, at=" @ end()"), _computed_worst())
WORST_FIRST = (
    f"max {_BY_RANK} ({_RECORDED} {_RECORDED_RANKED})"
    f" or min {_BY_RANK} ({_of_exporters(f' {_COMPUTED_RANKED}', NOT_RECORDED)})"
    f" or 1 + group {_BY_RANK} ({selected(FACTOR_INTERVAL, NOT_RECORDED)} {_COMPUTED_RANKED})"
)
