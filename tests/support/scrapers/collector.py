"""The OpenTelemetry Collector's Prometheus receiver; what it received is read from the file exporter's output."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tests.support.scrapers.samples import Samples, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
receivers:
  prometheus:
    config:
      global: {{scrape_interval: 1s, scrape_timeout: 1s}}
      scrape_configs:
        - job_name: default
          metrics_path: /default
          static_configs: [{{targets: ["{target}"]}}]
        - job_name: text
          metrics_path: /text/otel
          static_configs: [{{targets: ["{target}"]}}]
exporters:
  file: {{path: {output}, flush_interval: 200ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [prometheus], exporters: [file]}}
"""


def received(output: Path) -> dict[str, Samples]:
    """Return the newest samples by job, without those about the scrape; empty until there is output."""
    jobs: dict[str, Samples] = {}
    lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    for line in lines:
        if not line.endswith("}"):
            continue  # is being written
        for resource in json.loads(line)["resourceMetrics"]:
            job = _attributes(resource["resource"])["service.name"]
            jobs[job] = dict(_samples(resource))
    return jobs


def _samples(resource: dict[str, Any]) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    for metric in (metric for scope in resource["scopeMetrics"] for metric in scope["metrics"]):
        name = metric["name"]
        if name == "up" or name.startswith("scrape_"):
            continue
        for kind in ("gauge", "sum"):
            for point in metric.get(kind, {}).get("dataPoints", ()):
                yield (name, labels_of(_attributes(point))), _number(point)
        for point in metric.get("histogram", {}).get("dataPoints", ()):
            labels = _attributes(point)
            bounds = [*map(repr, map(float, point["explicitBounds"])), "+Inf"]
            for bound, count in zip(bounds, accumulate(map(int, point["bucketCounts"])), strict=True):
                yield (f"{name}_bucket", labels_of(labels | {"le": bound})), float(count)
            yield (f"{name}_sum", labels_of(labels)), float(point.get("sum", 0))
            yield (f"{name}_count", labels_of(labels)), float(point.get("count", 0))


def _attributes(holder: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"].get("stringValue", "") for item in holder.get("attributes", ())}


def _number(point: dict[str, Any]) -> float:
    return float(point["asDouble"] if "asDouble" in point else point["asInt"])
