"""The example files match the rules, and the numbers in docs/prometheus.md match the exporter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.cli.plan import exposition_size
from exporter.config import Config, load
from exporter.config.values import parse_duration
from exporter.daemon.daemon import Daemon
from exporter.exposition import catalogue
from exporter.verify.outcome import Attempt, Failure, Operation, Reason
from tools.stack import __main__ as stack
from tools.stack.shortened import job_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
PAGE = (ROOT / "docs" / "prometheus.md").read_text(encoding="utf-8")
ROUTES = yaml.safe_load((GRAFANA / "alertmanager" / "alertmanager.yaml").read_text(encoding="utf-8"))
SCRAPES = (GRAFANA / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8")
ALERTS = {
    rule["alert"]: rule
    for path in (GRAFANA / "rules").glob("*.rules.yaml")
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
UNITS = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}  # as Prometheus parses them


def matchers() -> Iterator[str]:
    """Yield the matchers of the routes and inhibition rules."""

    def of(route: dict[str, Any]) -> Iterator[str]:
        yield from route.get("matchers", ())
        for child in route.get("routes", ()):
            yield from of(child)

    yield from of(ROUTES["route"])
    for rule in ROUTES["inhibit_rules"]:
        yield from (*rule["source_matchers"], *rule["target_matchers"])


def test_matchers_name_existing_alerts() -> None:
    patterns = [found[1] for text in matchers() if (found := re.fullmatch(r'alertname=~?"(.+)"', text))]
    # TwilioVerify(A|B) names A and B; .+ matches all.
    named = {
        f"TwilioVerify{name}"
        for pattern in patterns
        for name in re.sub(r"^TwilioVerify\(?|\)$", "", pattern).split("|")
        if name != ".+"
    }
    assert len(named) > 10
    assert named - ALERTS.keys() == set()


def test_every_severity_is_routed() -> None:
    named = {found[1] for text in matchers() if (found := re.fullmatch(r'severity="(.+)"', text))}
    severities = {alert["labels"]["severity"] for alert in ALERTS.values()}

    assert severities == named | {"none"}
    assert [name for name, alert in ALERTS.items() if alert["labels"]["severity"] == "none"] == [
        "TwilioVerifyWatchdog"
    ]


def test_symptoms_wait_long_enough_for_their_cause() -> None:
    (symptoms,) = (route for route in ROUTES["route"]["routes"] if "DataStale" in route["matchers"][0])
    matcher = symptoms["matchers"][0]
    (causes,) = (rule["source_matchers"] for rule in ROUTES["inhibit_rules"] if matcher in rule["target_matchers"])
    slowest = max(map(fires_after, alternatives(causes[0])))

    # After a start, a symptom may be true immediately, but its cause only when the shortest range of its query is
    # full of failures. Another minute covers rule evaluation and the group_wait of the cause.
    shortest = min(map(parse_duration, re.findall(r"\[(\w+)\]", ALERTS["TwilioVerifyAPIDown"]["expr"])))
    soonest = min(map(fires_after, alternatives(matcher)))
    assert soonest + parse_duration(symptoms["group_wait"]) >= shortest + slowest + 60
    # Teams get the symptoms of their factors by their own routes, with the same wait.
    (team,) = (route for route in ROUTES["route"]["routes"] if route["matchers"] == ['team="payments"'])
    (failing,) = (route for route in team["routes"] if "FactorFetchFailing" in route["matchers"][0])
    assert failing["group_wait"] == symptoms["group_wait"]


def test_releases_in_different_namespaces_are_independent() -> None:
    """Notifications have one namespace, and causes inhibit only within theirs, except the one without a target."""
    without = [rule["source_matchers"] for rule in ROUTES["inhibit_rules"] if "namespace" not in rule["equal"]]
    assert "namespace" in ROUTES["route"]["group_by"]
    assert without == [['alertname="TwilioVerifyExporterAbsent"']]


def alternatives(matcher: str) -> list[str]:
    """Return the alerts that a matcher with alternatives names."""
    found = re.fullmatch(r'alertname=~"TwilioVerify\(([A-Za-z|]+)\)"', matcher)
    assert found, matcher
    return [f"TwilioVerify{name}" for name in found[1].split("|")]


def fires_after(alert: str) -> float:
    """Return the ``for`` duration of an alert in seconds."""
    return parse_duration(ALERTS[alert].get("for", "0s"))


def test_examples_and_rules_agree_on_job_and_files() -> None:
    assert f'job="{job_of(SCRAPES)}"' in ALERTS["TwilioVerifyExporterAbsent"]["expr"]
    loaded = [GRAFANA / "prometheus" / name for name in yaml.safe_load(SCRAPES)["rule_files"]]
    by_choice = [GRAFANA / "prometheus" / name for name in re.findall(r"# - (\S+\.rules\.yaml)", SCRAPES)]
    assert {path.resolve() for path in [*loaded, *by_choice]} == set((GRAFANA / "rules").glob("*.rules.yaml"))
    assert [(GRAFANA / "alertmanager" / name).is_file() for name in ROUTES["templates"]] == [True]


def test_the_page_shows_the_example_job() -> None:
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", PAGE, re.DOTALL)
    assert yaml.safe_load(block)["scrape_configs"] == yaml.safe_load(SCRAPES)["scrape_configs"]


def test_files_named_on_the_page_exist() -> None:
    (table,) = re.findall(r"\| file \| content \|\n(.*?)\n\n", PAGE, re.DOTALL)
    names = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(names) >= 6
    assert [name for name in names if not (GRAFANA / name).exists()] == []


def watchlist(folder: Path, factors: int, services: int = 1) -> Config:
    """Return a configuration with this many factors, with names of 40 characters and one label."""
    rows = ["service_sid,identity,factor_sid,name,labels.team"]
    rows += [
        f"VA{number % services:032x},user-{number:08},YF{number:032x},{number:06}-{'n' * 33},payments-oncall"
        for number in range(factors)
    ]
    (folder / "factors.csv").write_text("\n".join(rows), encoding="utf-8")
    path = folder / "config.toml"
    path.write_text(
        f'[accounts.main]\naccount_sid = "AC{"0" * 32}"\npassword = "made-up"\n\n'
        '[watchlist]\nfiles = ["factors.csv"]\n',
        encoding="utf-8",
    )
    return load(path, environ={}, flags={})


def rows_of_limits() -> list[tuple[int, int, float, int, float]]:
    """Return the rows of the page's table: factors, samples, bytes, sample limit, size limit in bytes."""
    found = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d.]+) MB \| (\d+) \| (\d+)([KMG]B) \|$", PAGE, re.MULTILINE)
    return [
        (
            int(factors.replace(",", "")),
            int(samples.replace(",", "")),
            float(megabytes) * 1e6,
            int(limit),
            int(size) * UNITS[unit],
        )
        for factors, samples, megabytes, limit, size, unit in found
    ]


def own_samples(config: Config) -> int:
    """Return the number of the exporter's own samples when every counter has been used."""
    daemon = Daemon(config)
    daemon.telemetry.know_account("main")
    for _, service_sid in {(watched.key.account, watched.key.service_sid) for watched in config.factors}:
        daemon.telemetry.know_service("main", service_sid)
    for operation in Operation:
        for code in (None, 200, 400, 401, 403, 404, 429, 500, 502, 503, 504):
            answer = Failure(Reason.SERVER_ERROR, "made up")
            daemon.telemetry.attempted("main", operation, Attempt(answer, 0.2, code, "RQ", 0.1))
    for watched in config.factors:
        daemon.engine.ledger.watch(watched)
    text = bytes(daemon.view.exposition(openmetrics=False)).decode()
    per_factor = {family.name for family in catalogue.FACTOR_FAMILIES}
    names = [line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    return sum(name not in per_factor for name in names)


async def test_the_documented_limits_are_reasonable(tmp_path: Path) -> None:
    one = watchlist(tmp_path, 1000)
    samples, size = exposition_size(one)
    own = own_samples(one)
    more = (own_samples(watchlist(tmp_path, 1000, 11)) - own) / 10
    rows = rows_of_limits()

    assert [row[0] for row in rows] == [100, 1_000, 10_000, 100_000]
    for factors, documented_samples, documented_bytes, sample_limit, byte_limit in rows:
        scale = factors / 1000
        assert documented_samples == samples * scale
        assert documented_bytes == pytest.approx(size * scale, rel=0.1)
        assert samples * scale * 1.2 + own <= sample_limit <= samples * scale * 3
        assert size * scale * 1.5 <= byte_limit <= size * scale * 5
    (per_factor,) = re.findall(r"A factor has at most (\d+) samples", PAGE)
    assert int(per_factor) * 1000 == samples
    ((some, each),) = re.findall(r"own metrics add about (\d+), and (\d+) per service", PAGE)
    assert own == pytest.approx(int(some), rel=0.15)
    assert more == int(each)


def test_the_stack_uses_metrics_of_the_catalogue() -> None:
    assert {stack._INFO, stack._LAST_VERIFIED} <= {family.name for family in catalogue.FACTOR_FAMILIES}
