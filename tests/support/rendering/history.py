"""A situation as blocks of a Prometheus: ``python -m tests.support.rendering.history SITUATION FOLDER``.

The scrapes are backfilled as Prometheus would have stored them. promtool evaluates the project's rules on them,
minute by minute, as it does in unit tests of rules; what they record, and the alerts, are backfilled too.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from exporter.exposition.catalogue import FACTOR_INTERVAL, FACTOR_UP, FACTOR_VERIFIED
from grafana.rules.factors import STATE
from tests.support.promql import series_names
from tests.support.rendering.situations import Situation, live_through

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

RULES = Path(__file__).parents[3] / "grafana" / "rules" / "verify-factor-exporter.rules.yaml"
TARGET = 'job="verify-factor-exporter",instance="verify-factor-exporter:10069"'
EVALUATION_SECONDS = 60
SCRAPE_DURATION_SECONDS = 0.004
MISSING = "_"
_TIMEOUT_SECONDS = 300
_FACTOR = re.compile(r'[{,]factor="((?:[^"\\]|\\.)*)"')
_IN_TIME = re.compile(r"^([^{]*timestamp_seconds|ALERTS_FOR_STATE\b)")  # recorded times
_SERIES = re.compile(r'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\} \S+?(?=,? |$|,)')
_LABEL = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')


class Backfill:
    """A file in OpenMetrics format, and the values of each series that the rules read, by scrape."""

    def __init__(self, situation: Situation, file: TextIO, read: frozenset[str]) -> None:
        self.situation = situation
        self.values: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._file = file
        self._read = read

    def scraped(self, now: float, text: str | None) -> None:
        """Add a scrape with what Prometheus adds to it, or a failed one."""
        lines = [f"up {int(text is not None)}"]
        if text is not None:
            exposed = [line for line in text.splitlines() if not line.startswith("#")]
            lines += exposed
            lines += [
                f"scrape_samples_scraped {len(exposed)}",
                f"scrape_duration_seconds {SCRAPE_DURATION_SECONDS}",
            ]
        scrape = round((now - self.situation.start_seconds) / self.situation.scrape_seconds)
        for line in lines:
            series, _, value = line.rpartition(" ")
            name, brace, labels = series.partition("{")
            if name == "process_start_time_seconds":  # of the real process, which lives in another time
                value = repr(self.situation.start_seconds)
            series = f"{name}{{{TARGET},{labels}" if brace else f"{name}{{{TARGET}}}"
            self.add(series, value, now)
            if name in self._read:
                self.values[series][scrape] = value

    def of_factors(self) -> dict[str, dict[str, dict[int, str]]]:
        """Return the values of each factor by name of the family, by factor."""
        found: defaultdict[str, dict[str, dict[int, str]]] = defaultdict(dict)
        for series, values in self.values.items():
            if factor := factor_of(series):
                found[factor][series.partition("{")[0]] = values
        return found

    def add(self, series: str, value: str, now: float) -> None:
        """Add a sample."""
        self._file.write(f"{series} {value} {now:.0f}\n")


def rule_inputs() -> frozenset[str]:
    """Return the names of the series that the rules read."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return frozenset().union(*(series_names(rule["expr"]) for group in groups for rule in group["rules"]))


def in_promtool_time(series: str, value: str, start_seconds: float) -> str:
    """Return a value as of a history that begins at Unix time 0, as promtool's tests do."""
    return repr(float(value) - start_seconds) if "timestamp_seconds" in series else value


def notation(values: Iterable[str]) -> str:
    """Return values in promtool's notation, equal ones counted; the first missing one ends the series."""
    found: list[tuple[str, int]] = []
    for value in values:
        word = "stale" if value == MISSING and found and found[-1][0] not in {MISSING, "stale"} else value
        if found and found[-1][0] == word != "stale":
            found[-1] = word, found[-1][1] + 1
        else:
            found.append((word, 1))
    return " ".join(
        word if count == 1 else f"_x{count}" if word == MISSING else f"{word}+0x{count - 1}"
        for word, count in found
    )


def evaluations(backfill: Backfill) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Yield groups of rules, and a test of them that expects nothing: promtool reports all that they produce.

    promtool limits a query to 10,000 samples. So the state of all factors is recorded apart, and the other rules
    see only factors that are not always verified: about the others, they say nothing.
    """
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    (state,) = (rule for group in groups for rule in group["rules"] if rule.get("record") == STATE)
    steady = {factor for factor, of in backfill.of_factors().items() if always_verified(of)}
    yield [{"name": "state", "rules": [state]}], _test(backfill, f"{{__name__={STATE!r}}}", set())
    yield groups, _test(backfill, f'{{__name__=~"ALERTS(_FOR_STATE)?|.+:.+:.+", __name__!={STATE!r}}}', steady)


def always_verified(series: dict[str, dict[int, str]]) -> bool:
    """Return whether a factor was verified in every scrape since its first answer, and no fetch failed."""
    for name in (FACTOR_VERIFIED.name, FACTOR_UP.name):
        values = series.get(name, {})
        if (
            not values
            or set(values.values()) != {"1.0"}
            or len(values) != max(series[FACTOR_INTERVAL.name]) - min(values) + 1
        ):
            return False
    return True


def _test(backfill: Backfill, query: str, without: set[str]) -> dict[str, Any]:
    situation = backfill.situation
    scrapes = range(situation.minutes * 60 // situation.scrape_seconds + 1)
    return {
        "interval": f"{situation.scrape_seconds}s",
        "input_series": [
            {
                "series": series,
                "values": notation(
                    in_promtool_time(series, values[scrape], situation.start_seconds)
                    if scrape in values
                    else MISSING
                    for scrape in scrapes
                ),
            }
            for series, values in backfill.values.items()
            if factor_of(series) not in without
        ],
        "promql_expr_test": [
            {"expr": query, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(situation.minutes + 1)
        ],
    }


def factor_of(series: str) -> str | None:
    """Return the label factor of a series, as it is written there."""
    found = _FACTOR.search(series)
    return found[1] if found else None


def produced(report: str) -> Iterator[tuple[int, str, str]]:
    """Yield seconds, series and value of every sample in promtool's report of a test that expects nothing."""
    minute = 0
    for line in report.splitlines():
        if found := re.search(r"expr: .*, time: (?:(\d+)h)?(?:(\d+)m)?(?:0s)?,?$", line):
            minute = 60 * int(found[1] or 0) + int(found[2] or 0)
        elif line.strip().startswith("got:"):
            for sample in _SERIES.findall(line):
                text, _, value = sample.rpartition(" ")
                labels = dict(_LABEL.findall(text))
                name = labels.pop("__name__").strip('"')
                yield 60 * minute, f"{name}{{{','.join(f'{of}={label}' for of, label in labels.items())}}}", value


def store(situation: Situation, folder: Path, promtool: str = "promtool") -> None:
    """Write a situation's blocks into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, start = folder / "samples.txt", situation.start_seconds
    with samples.open("w", encoding="utf-8") as file:
        backfill = Backfill(situation, file, rule_inputs())
        live_through(situation, backfill.scraped)
        for groups, test in evaluations(backfill):
            for seconds, series, value in produced(_report(promtool, folder, groups, test)):
                later = start if _IN_TIME.search(series) else 0.0
                backfill.add(series, repr(float(value) + later), start + seconds)
        file.write("# EOF\n")
    done = subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(samples), str(folder / "tsdb")],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    samples.unlink()


def _report(promtool: str, folder: Path, groups: list[dict[str, Any]], test: dict[str, Any]) -> str:
    rules, tests = folder / "rules.json", folder / "tests.json"  # JSON is YAML, and faster to write
    rules.write_text(json.dumps({"groups": groups}), encoding="utf-8")
    interval = f"{EVALUATION_SECONDS}s"
    content = {"rule_files": [rules.name], "evaluation_interval": interval, "tests": [test]}
    tests.write_text(json.dumps(content), encoding="utf-8")
    command = [promtool, "test", "rules", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    said = done.stdout + done.stderr
    assert "err: " not in said, said[:3000]
    assert "got:" in said, said[:3000]
    return said


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    store(Situation(sys.argv[1]), Path(sys.argv[2]))
