"""PromQL expressions that use the dashboard variables; metric and label names come from the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import FACTOR_EXISTS, FACTOR_INTERVAL, FACTOR_LABELS, FACTOR_VERIFIED, MetricType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.exposition.catalogue import Family

# Two jobs may watch factors of the same name. The instance is dropped: a restart may change it.
ONE_FACTOR = ("job", *FACTOR_LABELS)
FACTOR_KEY = ", ".join(ONE_FACTOR)

EXPORTER_MATCHERS = ('job=~"$job"', 'instance=~"$instance"')
_VARIABLES = {"account": "$account", "service_sid": "$service", "factor": "$factor"}

# An alert may lack a job label, such as after absent() without one: it is included rather than hidden.
# The watchdog always fires, to verify the alerting pipeline: it is excluded.
_ALERT_MATCHERS = ('alertname=~"TwilioVerify.+"', 'alertname!~".+Watchdog"', 'job=~"$job|"')


def selected(family: Family, *matchers: str, suffix: str = "") -> str:
    """Return the selector of a family's series, filtered by every variable whose label the family has."""
    narrowed = [f'{label}=~"{variable}"' for label, variable in _VARIABLES.items() if label in family.labels]
    return exporter_series(family.name + suffix, *narrowed, *matchers)


def exporter_series(name: str, *matchers: str) -> str:
    """Return the selector of any series by name, filtered by the selected exporters."""
    return f"{name}{{{', '.join((*EXPORTER_MATCHERS, *matchers))}}}"


def alerts(*matchers: str) -> str:
    """Return the selector of this project's pending and firing alerts."""
    return f"ALERTS{{{', '.join((*_ALERT_MATCHERS, *matchers))}}}"


def per_factor(family: Family, at: str = "") -> str:
    """Return a family with one series per factor, from any exporter; ``at`` is an optional offset."""
    return f"max by ({FACTOR_KEY}) ({selected(family)}{at})"


def rate(family: Family, by: Iterable[str], *matchers: str, suffix: str = "") -> str:
    """Return the rate of a counter or histogram component, sum_by by these labels."""
    return f"{sum_by(by)} (rate({selected(family, *matchers, suffix=suffix)}[$__rate_interval]))"


def increase(family: Family, by: Iterable[str], *matchers: str) -> str:
    """Return the increase of a counter per graph step, sum_by by these labels."""
    return f"{sum_by(by)} (increase({selected(family, *matchers)}[$__rate_interval]))"


def quantile(share: float, family: Family, by: Iterable[str] = ()) -> str:
    """Return a quantile of a histogram, in its unit; raises ValueError for other families."""
    if family.kind is not MetricType.HISTOGRAM:
        raise ValueError(f"{family.name} is a {family.kind}; quantiles need a histogram")
    return f"histogram_quantile({share:g}, {rate(family, ('le', *by), suffix='_bucket')})"


def sum_by(by: Iterable[str]) -> str:
    """Return the aggregation operator for a sum by these labels."""
    labels = ", ".join(by)
    return f"sum by ({labels})" if labels else "sum"


# 1 verified, 2 unknown, 3 unverified, 4 not found: higher values need more attention.
_UNKNOWN = f"(2 + 0 * {per_factor(FACTOR_INTERVAL)})"


def _known(at: str = "") -> str:
    verified, exists = per_factor(FACTOR_VERIFIED, at), per_factor(FACTOR_EXISTS, at)
    return f"(3 - 2 * {verified}) or (4 + ({exists} == 0))"


KNOWN_STATE = _known()
STATE = f"{KNOWN_STATE} or {_UNKNOWN}"
CHANGED_STATE = f"({KNOWN_STATE}) != ({_known(' offset $__interval')})"
