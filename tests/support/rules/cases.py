"""Test cases for promtool: input series, and which alerts fire at which minute."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grafana.rules.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

PREFIX = "TwilioVerify"
JOB = {"job": "verify-factor-exporter"}
# The labels of two targets; they differ in every label that identifies a process.
POD_A = {"instance": "10.0.0.1:10069", "pod": "a", "container": "main", "endpoint": "http", "node": "n1"}
POD_B = {"instance": "10.0.0.2:10069", "pod": "b", "container": "other", "endpoint": "web", "node": "n2"}

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """The only alert that fires at a minute: its labels and annotations."""

    minute: int
    labels: Labels
    summary: str
    description: str
    dashboard: str


@dataclass(frozen=True, slots=True)
class ExpectedSample:
    """The value of a recorded series at a minute, within these bounds; absent if ``labels`` is None."""

    record: str
    minute: int
    labels: Labels | None = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """Input series with one sample per minute, and the label sets for which the alert fires at given minutes.

    ``alert`` is the alert's name without prefix. ``isolated`` cases depend on a series being absent. ``long`` cases
    run for hours, with an evaluation every five minutes, and cases of ``days`` with one every hour. ``native``
    cases have native histograms with buckets of their own, which only promtool 3 can read.
    """

    name: str
    alert: str
    series: Mapping[str, str]
    firing: Mapping[int, Sequence[Labels]] = field(default_factory=dict)
    expected: ExpectedAlert | None = None
    samples: Sequence[ExpectedSample] = ()
    severity: str = "critical"
    isolated: bool = False
    long: bool = False
    days: bool = False
    native: bool = False

    @property
    def evaluated_every(self) -> str:
        """The evaluation interval."""
        return "1h" if self.days else "5m" if self.long else "1m"


def name(metric: str, *labels: Mapping[str, str]) -> str:
    """Return a series in PromQL notation."""
    pairs = ", ".join(f'{key}="{value}"' for some in labels for key, value in some.items())
    return f"{metric}{{{pairs}}}"


def firing_documents(rules: Sequence[Path], cases: Sequence[Case]) -> Iterator[str]:
    """Yield promtool test files that check when alerts fire.

    Every promtool test creates its own database, which is slow; so cases share a test and are distinguished by a
    label that no rule uses.
    """
    for interval in ("1m", "5m", "1h"):
        tests = _firing_tests([case for case in cases if case.evaluated_every == interval])
        if tests:
            yield document(rules, tests, interval)


def _firing_tests(cases: Sequence[Case]) -> list[dict[str, Any]]:
    marked = [
        ({"case": f"{number}", "about": case.name}, case) for number, case in enumerate(cases) if not case.isolated
    ]
    isolated: list[tuple[Labels, Case]] = [({}, case) for case in cases if case.isolated]
    return [_firing_test(group) for group in (marked, *([each] for each in isolated)) if group]


def _firing_test(cases: Sequence[tuple[Labels, Case]]) -> dict[str, Any]:
    queries = [_sample_query(sample, mark) for mark, case in cases for sample in case.samples]
    at: dict[tuple[str, int], list[tuple[Labels, Case]]] = {}
    for mark, case in cases:
        for minute in case.firing:
            at.setdefault((case.alert, minute), []).append((mark, case))
    for (name_, minute), grouped in at.items():  # one query per alert and minute: queries are slow
        alert = {"alertname": PREFIX + name_, "alertstate": "firing"}
        marks = "|".join(mark["case"] for mark, _ in grouped if mark)
        selector = name("ALERTS", alert).removesuffix("}") + (f', case=~"{marks}"}}' if marks else "}")
        found = [
            name("ALERTS", alert, {"severity": case.severity}, labels, mark)
            for mark, case in grouped
            for labels in case.firing[minute]
        ]
        queries.append(_query(selector, minute, found))
    series = [each for mark, case in cases for each in _series(case, mark)]
    return {"interval": "1m", "input_series": series, "promql_expr_test": queries}


def _sample_query(sample: ExpectedSample, mark: Labels) -> dict[str, Any]:
    selector = name(sample.record, mark)
    if sample.labels is None:
        return _query(selector, sample.minute, [])
    within = f"({selector} >= bool {sample.low!r}) * ({selector} <= bool {sample.high!r})"
    return _query(within, sample.minute, [name("", sample.labels, mark)])


def annotation_documents(rules: Sequence[Path], cases: Iterable[Case]) -> Iterator[str]:
    """Yield the promtool test file that checks labels and annotations of alerts."""
    tests = [
        {
            "interval": "1m",
            "input_series": _series(case, {}),
            "alert_rule_test": [
                {
                    "alertname": PREFIX + case.alert,
                    "eval_time": f"{case.expected.minute}m",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": case.severity, **case.expected.labels},
                            "exp_annotations": {
                                "summary": case.expected.summary,
                                "description": case.expected.description,
                                "runbook_url": f"{Settings().runbooks}/{PREFIX}{case.alert}.md",
                                "dashboard_url": f"http://localhost:3000/d/{case.expected.dashboard}",
                            },
                        }
                    ],
                }
            ],
        }
        for case in cases
        if case.expected is not None
    ]
    if tests:
        yield document(rules, tests)


def _series(case: Case, mark: Labels) -> list[dict[str, str]]:
    more = "".join(f', {key}="{value}"' for key, value in mark.items())
    return [
        {"series": f"{series.removesuffix('}')}{more}}}", "values": values}
        for series, values in case.series.items()
    ]


def _query(expr: str, minute: int, found: Iterable[str]) -> dict[str, Any]:
    samples = [{"labels": labels, "value": 1} for labels in found]
    return {"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples}


def document(rules: Sequence[Path], tests: Sequence[dict[str, Any]], interval: str = "1m") -> str:
    """Return a test file for ``promtool test rules`` with this evaluation interval."""
    content = {"rule_files": [str(path) for path in rules], "evaluation_interval": interval, "tests": tests}
    return json.dumps(content)  # JSON is YAML, and a hundred times faster to write


def readable(promtool: str, cases: Iterable[Case]) -> tuple[Case, ...]:
    """Return the cases whose series this promtool can read."""
    version = subprocess.run([promtool, "--version"], capture_output=True, text=True, timeout=300, check=True)
    newer = not version.stdout.startswith("promtool, version 2.")
    return tuple(case for case in cases if newer or not case.native)


def run(promtool: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool on test files and return its result."""
    command = [promtool, "test", "rules", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
