"""The rules files: generated, limited in what they read, and configurable for a site."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml

from exporter.exposition.catalogue import CATALOGUE, FACTOR_LABELS, FACTOR_PREFIX, MetricType
from exporter.verify.outcome import Operation, Reason
from grafana.rules import __main__ as generator
from grafana.rules.model import PREFIX, Alert, Dashboard, Recording, Settings, Severity
from grafana.rules.reference import filled
from grafana.rules.render import RULES, UNUSED, WATCHDOG, files, groups, optional_groups
from tests.support.promql import existing_series, nodes, series_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "rules"
RULE_LIST = [rule for group in groups(Settings()) for rule in group.rules]
EVERY_RULE = [*RULE_LIST, *(rule for group in optional_groups(Settings()) for rule in group.rules)]
ALERTS = [rule for rule in RULE_LIST if isinstance(rule, Alert)]
FACTOR_RULES = groups(Settings())[0].rules
NAMES = {
    "FactorRegressed",
    "FactorUnverified",
    "FactorMissing",
    "EnrolmentAbandoned",
    "EnrolmentSlow",
    "PushWithoutPlatform",
    "FactorFetchFailing",
    "EntityWithoutVerifiedFactor",
    "EntityNotListed",
    "ServiceTruncated",
    "DataStale",
    "MassMissing",
    "ServiceMissing",
    "CredentialsInvalid",
    "APIDown",
    "RateLimited",
    "FetchErrorBudgetBurn",
    "ExporterDown",
    "ExporterAbsent",
    "SchedulerStalled",
    "ScheduleLagging",
    "OverBudget",
    "WatchlistEmpty",
    "WatchlistShrank",
    "ConfigReloadFailed",
    "StateNotSaved",
    "WatchlistFallback",
    "WatchlistSourceDown",
    "ExporterRestarting",
    "ShardCoverage",
    "ShardMissing",
}


def parsed(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("name", [RULES, UNUSED, WATCHDOG])
def test_the_rules_files_are_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == files(Settings())[name], "run: python -m grafana.rules"


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert filled(page, Settings()) == page, "run: python -m grafana.rules"
    for rule in RULE_LIST:
        assert rule.name in page


def test_every_alert_is_there() -> None:
    assert {alert.name for alert in ALERTS} == NAMES
    assert len(ALERTS) == len(NAMES)
    for name, alert in ((UNUSED, "PasskeysUnused"), (WATCHDOG, "Watchdog")):
        assert [rule["alert"] for rule in parsed(files(Settings())[name])] == [f"{PREFIX}{alert}"]


def test_replacing_text_configures_a_site() -> None:
    site = Settings(
        dropped=("instance", "kubernetes_pod"),
        job="twilio",
        runbooks="https://wiki.example.com/alerts",
        dashboards="https://grafana.example.com",
    )
    defaults = Settings()
    for name, text in files(defaults).items():
        replaced = (
            text.replace(", ".join(defaults.dropped), ", ".join(site.dropped))
            .replace(defaults.job_matcher, site.job_matcher)
            .replace(defaults.runbooks, site.runbooks)
            .replace(defaults.dashboards, site.dashboards)
        )
        assert parsed(replaced) == parsed(files(site)[name])
        assert not any(part in replaced for part in ("example.org", "localhost", "endpoint", defaults.job_matcher))


def test_the_generator_writes_the_rules_of_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [
        "--job",
        "twilio",
        "--dropped",
        "instance, pod",
        "--runbooks",
        "https://wiki/",
        "--dashboards",
        "https://g/",
    ]
    monkeypatch.setattr(sys, "argv", ["rules", "--output", str(tmp_path), *options])
    generator.main()
    site = Settings(("instance", "pod"), "twilio", "https://wiki", "https://g")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == files(site)


def parts(rules: Iterable[Alert | Recording]) -> Iterator[tuple[str, promql_parser.Expr]]:
    """Yield every node of the rules' expressions with the name of its rule."""
    return ((rule.name, node) for rule in rules for node in nodes(promql_parser.parse(rule.expr)))


def test_rules_read_existing_series() -> None:
    # A pipeline may convert a histogram to a native one, which has the name without a suffix.
    series = existing_series() | {family.name for family in CATALOGUE if family.kind is MetricType.HISTOGRAM}
    unknown = {rule.name: series_names(rule.expr) - series for rule in EVERY_RULE}
    assert unknown == {rule.name: set() for rule in EVERY_RULE}


def test_rules_that_read_a_histogram_also_read_it_as_a_native_one() -> None:
    """Its components, such as _count, don't exist where a pipeline converts it."""
    for family in CATALOGUE:
        if family.kind is MetricType.HISTOGRAM:
            for rule in EVERY_RULE:
                read = {name for name in series_names(rule.expr) if name.startswith(family.name)}
                assert not read or family.name in read, rule.name


def histogram_parts(expression: str) -> set[str]:
    """Return what an expression reads of histograms, classic or native, and the bounds of buckets that it names."""
    histograms = {family.name for family in CATALOGUE if family.kind is MetricType.HISTOGRAM}
    found = set()
    for node in nodes(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.VectorSelector):
            name = node.name or ""
            found |= {name} if re.sub(r"_(bucket|sum|count)$", "", name) in histograms else set()
            found |= {str(matcher) for matcher in node.matchers.matchers if matcher.name == "le"}
    return found


def depends_on_buckets(expression: str) -> bool:
    """Return whether an expression names a bound, or has nothing to read where histograms are native."""
    found = histogram_parts(expression)
    families = {re.sub(r"_(bucket|sum|count)$", "", part) for part in found}
    return not families <= found or any(part.startswith("le") for part in found)


def test_no_rule_depends_on_classic_buckets() -> None:
    """Pipelines rename the bounds of buckets, and convert classic histograms to native ones."""
    assert [rule.name for rule in EVERY_RULE if depends_on_buckets(rule.expr)] == []
    lag = "twilio_verify_exporter_schedule_lag_seconds"
    assert histogram_parts(f'rate({lag}_bucket{{le="60.0"}}[5m])') == {f"{lag}_bucket", 'le="60.0"'}
    assert depends_on_buckets(f'rate({lag}_bucket{{le="60.0"}}[5m])')
    assert depends_on_buckets(f'rate({lag}_bucket{{le="60.0"}}[5m]) or rate({lag}[5m])')
    assert depends_on_buckets(f"rate({lag}_count[5m])")
    assert not depends_on_buckets(f"rate({lag}_count[5m]) or histogram_count(rate({lag}[5m]))")
    assert not depends_on_buckets("rate(twilio_verify_exporter_late_fetches_total[5m])")


def test_rules_of_factors_match_on_whole_label_sets() -> None:
    for rule, node in parts(FACTOR_RULES):
        if isinstance(node, promql_parser.AggregateExpr):
            assert str(node.op) in {"max", "min", "group"}, rule
            assert node.modifier is not None, rule
            assert node.modifier.type == promql_parser.AggModifierType.Without, rule
            assert tuple(node.modifier.labels) == Settings().dropped, rule
            assert not set(node.modifier.labels) & set(FACTOR_LABELS), rule
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            assert node.modifier.matching is None, rule
            assert not node.modifier.group_labels, rule


def test_rules_read_little_history_of_single_factors() -> None:
    """Five minutes of the exporter's series, ten minutes of recorded ones."""
    factor_families = {family.name for family in CATALOGUE if family.labels[: len(FACTOR_LABELS)] == FACTOR_LABELS}
    assert all(name.startswith(FACTOR_PREFIX) for name in factor_families)
    for rule, node in parts(EVERY_RULE):
        if isinstance(node, promql_parser.MatrixSelector):
            name = node.vector_selector.name or ""
            if name in factor_families:
                assert node.range == timedelta(minutes=5), rule
            if name.startswith("factor:"):
                assert node.range == timedelta(minutes=10), rule


def test_matchers_name_labels_that_the_series_have() -> None:
    labels = {family.name: set(family.labels) for family in CATALOGUE}
    values: dict[str, set[str]] = {
        "notification_platform": {"none"},
        "operation": set(Operation),
        "reason": set(Reason),
        "status": {"verified", "not_found", "unknown"},
    }
    seen = set()
    for rule, node in parts(EVERY_RULE):
        if isinstance(node, promql_parser.VectorSelector) and node.name in labels:
            for matcher in node.matchers.matchers:
                assert matcher.name in labels[node.name], rule
                if matcher.name in values:
                    seen.add(matcher.name)
                    assert set(matcher.value.split("|")) <= values[matcher.name], rule
    assert seen == set(values)


def test_every_alert_has_its_labels_and_annotations() -> None:
    texts = files(Settings())
    rules = {rule["alert"]: rule for name in (RULES, UNUSED) for rule in parsed(texts[name]) if "alert" in rule}
    alerts = [rule for rule in EVERY_RULE if isinstance(rule, Alert) and rule.name != "Watchdog"]
    assert set(rules) == {alert.full_name for alert in alerts}
    for alert in alerts:
        rule = rules[alert.full_name]
        assert rule["labels"] == {"severity": alert.severity}, alert.name
        assert alert.severity in {Severity.CRITICAL, Severity.WARNING}, alert.name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}, alert.name
        assert "{{" not in rule["annotations"]["summary"], f"{alert.name}: a summary stands for a group of alerts"
        assert "{{" in rule["annotations"]["description"], alert.name


def test_alerts_link_to_existing_dashboards() -> None:
    """Alert links lead to existing dashboards."""
    uids = {json.loads(path.read_text(encoding="utf-8"))["uid"] for path in ROOT.glob("grafana/dashboards/*.json")}
    used = {alert.dashboard for alert in ALERTS}
    assert used == set(Dashboard)
    assert not uids or {str(uid) for uid in used} <= uids
