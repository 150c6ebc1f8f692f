"""Pieces of PromQL that obey the variables of a board; names and labels come from the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import FACTOR_EXISTS, FACTOR_INTERVAL, FACTOR_LABELS, FACTOR_VERIFIED, MetricType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.exposition.catalogue import Family

# Two jobs may watch factors of the same name; the address of the exporter, which a restart may change, is dropped.
ONE_FACTOR = ("job", *FACTOR_LABELS)
FACTOR_KEY = ", ".join(ONE_FACTOR)

OF_EXPORTER = ('job=~"$job"', 'instance=~"$instance"')
_VARIABLES = {"account": "$account", "service_sid": "$service", "factor": "$factor"}

# An alert may have lost the label of its job (absent() of several, say): it is shown rather than hidden.
# The watchdog fires for ever, to show that alerts arrive: it is none of them.
_OF_ALERT = ('alertname=~"TwilioVerify.+"', 'alertname!~".+Watchdog"', 'job=~"$job|"')


def chosen(family: Family, *matchers: str, suffix: str = "") -> str:
    """Return the selector of a family's series, narrowed by each variable whose label the family has."""
    narrowed = [f'{label}=~"{variable}"' for label, variable in _VARIABLES.items() if label in family.labels]
    return of_exporter(family.name + suffix, *narrowed, *matchers)


def of_exporter(name: str, *matchers: str) -> str:
    """Return the selector of a series that isn't in the catalogue, narrowed to the exporters that are chosen."""
    return f"{name}{{{', '.join((*OF_EXPORTER, *matchers))}}}"


def alerts(*matchers: str) -> str:
    """Return the selector of our alerts that are pending or firing."""
    return f"ALERTS{{{', '.join((*_OF_ALERT, *matchers))}}}"


def per_factor(family: Family, at: str = "") -> str:
    """Return a family with one series a factor, whichever exporter tells it; ``at`` is an offset, if any."""
    return f"max by ({FACTOR_KEY}) ({chosen(family)}{at})"


def rate(family: Family, by: Iterable[str], *matchers: str, suffix: str = "") -> str:
    """Return the rate of a counter, or of a part of a histogram, summed by these labels."""
    return f"{summed(by)} (rate({chosen(family, *matchers, suffix=suffix)}[$__rate_interval]))"


def increase(family: Family, by: Iterable[str], *matchers: str) -> str:
    """Return what a counter rose by in a step of the graph, summed by these labels."""
    return f"{summed(by)} (increase({chosen(family, *matchers)}[$__rate_interval]))"


def quantile(share: float, family: Family, by: Iterable[str] = ()) -> str:
    """Return a quantile of a histogram, in its unit; ValueError for a family that is none."""
    if family.kind is not MetricType.HISTOGRAM:
        raise ValueError(f"{family.name} is a {family.kind}; quantiles are of histograms")
    return f"histogram_quantile({share:g}, {rate(family, ('le', *by), suffix='_bucket')})"


def summed(by: Iterable[str]) -> str:
    """Return the head of a sum that keeps these labels."""
    labels = ", ".join(by)
    return f"sum by ({labels})" if labels else "sum"


# 1 verified, 2 unknown, 3 unverified, 4 not found: the higher, the more it wants an eye.
_UNKNOWN = f"(2 + 0 * {per_factor(FACTOR_INTERVAL)})"


def _known(at: str = "") -> str:
    verified, exists = per_factor(FACTOR_VERIFIED, at), per_factor(FACTOR_EXISTS, at)
    return f"(3 - 2 * {verified}) or (4 + ({exists} == 0))"


KNOWN_STATE = _known()
STATE = f"{KNOWN_STATE} or {_UNKNOWN}"
CHANGED_STATE = f"({KNOWN_STATE}) != ({_known(' offset $__interval')})"
