"""What promtool is asked: series over time, and which alerts fire when."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

PREFIX = "TwilioVerify"
JOB = {"job": "verify-factor-exporter"}
# The labels of two targets: they differ in each label that names a process or its place.
POD_A = {"instance": "10.0.0.1:10069", "pod": "a", "container": "main", "endpoint": "http", "node": "n1"}
POD_B = {"instance": "10.0.0.2:10069", "pod": "b", "container": "other", "endpoint": "web", "node": "n2"}

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """All that people are told by an alert of ``labels`` at a minute; nobody else is told of it then."""

    minute: int
    labels: Labels
    summary: str
    description: str
    dashboard: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a recorded series is at a minute: within these bounds, or without labels not there."""

    record: str
    minute: int
    labels: Labels | None = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """Series, a sample a minute, and at which minutes an alert fires for whom; it fires for nobody else then.

    ``of`` names the alert, without its prefix. ``alone``: what is about a series that isn't there. ``long``: over
    hours, with an evaluation each five minutes.
    """

    name: str
    of: str
    series: Mapping[str, str]
    firing: Mapping[int, Sequence[Labels]] = field(default_factory=dict)
    told: Told | None = None
    shows: Sequence[Shown] = ()
    severity: str = "critical"
    alone: bool = False
    long: bool = False


def name(metric: str, *labels: Mapping[str, str]) -> str:
    """Return a series as PromQL writes it."""
    pairs = ", ".join(f'{key}="{value}"' for some in labels for key, value in some.items())
    return f"{metric}{{{pairs}}}"


def firing_documents(rules: Sequence[Path], cases: Sequence[Case]) -> Iterator[str]:
    """Yield files for promtool that test when alerts fire.

    Each test of promtool's is a database of its own, and takes its time. So cases share one, told apart by a label
    that no rule knows of.
    """
    for long, interval in ((False, "1m"), (True, "5m")):
        tests = _firing_tests([case for case in cases if case.long is long])
        if tests:
            yield document(rules, tests, interval)


def _firing_tests(cases: Sequence[Case]) -> list[dict[str, Any]]:
    marked = [
        ({"case": f"{number}", "about": case.name}, case) for number, case in enumerate(cases) if not case.alone
    ]
    alone: list[tuple[Labels, Case]] = [({}, case) for case in cases if case.alone]
    return [_firing_test(some) for some in (marked, *([each] for each in alone)) if some]


def _firing_test(cases: Sequence[tuple[Labels, Case]]) -> dict[str, Any]:
    queries = [_shown(shown, mark) for mark, case in cases for shown in case.shows]
    at: dict[tuple[str, int], list[tuple[Labels, Case]]] = {}
    for mark, case in cases:
        for minute in case.firing:
            at.setdefault((case.of, minute), []).append((mark, case))
    for (of, minute), asked in at.items():  # one query for all cases of an alert at a minute: queries are dear
        alert = {"alertname": PREFIX + of, "alertstate": "firing"}
        marks = "|".join(mark["case"] for mark, _ in asked if mark)
        selector = name("ALERTS", alert).removesuffix("}") + (f', case=~"{marks}"}}' if marks else "}")
        found = [
            name("ALERTS", alert, {"severity": case.severity}, labels, mark)
            for mark, case in asked
            for labels in case.firing[minute]
        ]
        queries.append(_query(selector, minute, found))
    series = [each for mark, case in cases for each in _series(case, mark)]
    return {"interval": "1m", "input_series": series, "promql_expr_test": queries}


def _shown(shown: Shown, mark: Labels) -> dict[str, Any]:
    selector = name(shown.record, mark)
    if shown.labels is None:
        return _query(selector, shown.minute, [])
    within = f"({selector} >= bool {shown.low!r}) * ({selector} <= bool {shown.high!r})"
    return _query(within, shown.minute, [name("", shown.labels, mark)])


def told_documents(rules: Sequence[Path], cases: Iterable[Case]) -> Iterator[str]:
    """Yield the file for promtool that tests all that alerts tell."""
    tests = [
        {
            "interval": "1m",
            "input_series": _series(case, {}),
            "alert_rule_test": [
                {
                    "alertname": PREFIX + case.of,
                    "eval_time": f"{case.told.minute}m",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": case.severity, **case.told.labels},
                            "exp_annotations": {
                                "summary": case.told.summary,
                                "description": case.told.description,
                                "runbook_url": "https://example.org/verify-factor-exporter/docs/runbooks/"
                                f"{PREFIX}{case.of}.md",
                                "dashboard_url": f"http://localhost:3000/d/{case.told.dashboard}",
                            },
                        }
                    ],
                }
            ],
        }
        for case in cases
        if case.told is not None
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
    """Return a file for ``promtool test rules`` that evaluates the rules so often."""
    content = {"rule_files": [str(path) for path in rules], "evaluation_interval": interval, "tests": tests}
    return json.dumps(content)  # which is YAML, written a hundred times faster


def run(promtool: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run files of tests, and return what promtool says of them."""
    command = [promtool, "test", "rules", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
