"""Counters and histograms of plain numbers, exposed exactly as prometheus_client's.

Apart from ``telemetry``, because it knows no event, and a test compares it with the library byte by byte. The
library takes a lock at every event, and validates it.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.exposition.catalogue import Family


class Counter:
    """One series of a counter."""

    __slots__ = ("_value",)

    def __init__(self, _family: Family) -> None:
        self._value = 0

    def inc(self, by: int = 1) -> None:
        """Count more."""
        self._value += by

    def add_to(self, metric: Metric, labels: dict[str, str]) -> None:
        """Add the sample."""
        metric.add_sample(f"{metric.name}_total", labels, float(self._value))


class Histogram:
    """One series of a histogram; its exemplars are request IDs."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, family: Family) -> None:
        self._bounds = (*family.buckets, math.inf)
        self._counts = [0] * len(self._bounds)
        self._exemplars: dict[int, tuple[str, float, float]] = {}
        self._sum = 0.0

    def observe(self, value: float, request_id: str = "") -> None:
        """Count a value; a request ID that isn't empty becomes the exemplar of its bucket."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._sum += value
        if request_id:
            self._exemplars[bucket] = request_id, value, time.time()

    def add_to(self, metric: Metric, labels: dict[str, str]) -> None:
        """Add the samples."""
        total = 0
        for bucket, (bound, count) in enumerate(zip(self._bounds, self._counts, strict=True)):
            total += count
            of_bucket = {**labels, "le": floatToGoString(bound)}  # type: ignore[no-untyped-call]  # for equal bytes
            exemplar = self._exemplars.get(bucket)
            if exemplar is None:
                metric.add_sample(f"{metric.name}_bucket", of_bucket, float(total))
            else:
                request_id, value, seconds = exemplar
                shown = Exemplar({"request_id": request_id}, value, seconds)
                metric.add_sample(f"{metric.name}_bucket", of_bucket, float(total), exemplar=shown)
        metric.add_sample(f"{metric.name}_count", labels, float(total))
        metric.add_sample(f"{metric.name}_sum", labels, self._sum)


S = TypeVar("S", Counter, Histogram)


class Counted(Collector, Generic[S]):
    """The series of a family by their label values; ``new`` makes one. A family without labels has one series."""

    def __init__(self, family: Family, new: type[S]) -> None:
        self._family = family
        self._new: type[S] = new
        self._series: dict[tuple[str, ...], S] = {}
        if not family.labels:
            self.labels()

    def labels(self, *values: str) -> S:
        """Return the series with these label values; a new one starts at 0."""
        key = tuple(map(str, values))  # the hash of an enum's member is not that of its text
        series = self._series.get(key)
        if series is None:
            if len(values) != len(self._family.labels):
                raise ValueError(f"{self._family.name} has {len(self._family.labels)} labels")
            series = self._series[key] = self._new(self._family)
        return series

    def remove_by_labels(self, gone: Mapping[str, str]) -> None:
        """Remove the series that have all of these labels."""
        names = self._family.labels
        places = [(names.index(name), value) for name, value in gone.items()]
        for key in [key for key in self._series if all(key[place] == value for place, value in places)]:
            del self._series[key]

    def describe(self) -> Iterable[Metric]:
        """Return the family without samples."""
        return [Metric(self._family.base_name, self._family.help, self._family.kind)]

    def collect(self) -> Iterable[Metric]:
        """Return the family with its samples."""
        [metric] = self.describe()
        for values, series in self._series.items():
            series.add_to(metric, dict(zip(self._family.labels, values, strict=True)))
        return [metric]
