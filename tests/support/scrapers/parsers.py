"""What parsers and Datadog's check make of an exposition, as samples again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.scrapers.samples import Samples, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

MONOTONIC_COUNT = 3


def of_client(families: Iterable[Metric]) -> Samples:
    """Return the samples of what prometheus_client parsed."""
    return {
        (sample.name, labels_of(sample.labels)): float(sample.value)
        for family in families
        for sample in family.samples
    }


def of_npm(output: bytes) -> Samples:
    """Return the samples of what npm's parse-prometheus-text-format printed."""
    samples: Samples = {}
    for family in json.loads(output):
        name = family["name"]
        for metric in family["metrics"]:
            labels: dict[str, str] = metric.get("labels", {})
            if "value" in metric:
                samples[name, labels_of(labels)] = float(metric["value"])
            for bound, count in metric.get("buckets", {}).items():
                samples[f"{name}_bucket", labels_of(labels | {"le": bound})] = float(count)
            for part in ("sum", "count"):
                if part in metric:
                    samples[f"{name}_{part}", labels_of(labels)] = float(metric[part])
    return samples


def of_datadog(submitted: Iterable[dict[str, Any]], namespace: str, tags: dict[str, str]) -> Samples:
    """Return what Datadog's check submitted as samples with Prometheus' names.

    ``tags`` are those that the check adds or renames, with the label that each stands for; empty for none. A bucket
    has its upper bound as a tag, and there is none without a bound: it is the count.
    """
    samples: Samples = {}
    for metric in submitted:
        name = metric["name"].removeprefix(f"{namespace}.")
        pairs = (tag.split(":", 1) for tag in metric["tags"])
        labels = {tags.get(tag, tag): value for tag, value in pairs}
        labels.pop("", None)
        base, _, suffix = name.rpartition(".")
        if suffix == "bucket":
            name, labels["le"] = f"{base}_bucket", labels["le"]
        elif suffix in ("sum", "count") and base:
            name = f"{base}_{suffix}"
        samples[name, labels_of(labels)] = float(metric["value"])
    return samples
