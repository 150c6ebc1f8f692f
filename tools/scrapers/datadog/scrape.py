"""Run Datadog's OpenMetrics check once, without the Agent: ``python scrape.py INSTANCE.yaml URL``.

Prints a JSON list of what the check submits: kind, name, value and tags. Runs in the environment of its own lock.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from datadog_checks.base import OpenMetricsBaseCheckV2
from datadog_checks.base.stubs import aggregator


def main() -> None:
    (instance,) = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))["instances"]
    instance["openmetrics_endpoint"] = sys.argv[2]
    check = OpenMetricsBaseCheckV2("openmetrics", {}, [instance])
    check.__NAMESPACE__ = ""
    error = check.run()
    if error:
        sys.exit(error)
    submitted = [
        {"kind": metric.type, "name": name, "value": metric.value, "tags": sorted(metric.tags)}
        for name in aggregator.metric_names
        for metric in aggregator.metrics(name)
    ]
    json.dump(submitted, sys.stdout)


main()
