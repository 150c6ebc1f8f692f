"""The shortened files differ from the examples only in waits and addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.stack.shortened import job_of, receivers_at, scraping, shortened_routes, shortened_rules

GRAFANA = Path(__file__).parents[2] / "grafana"
RULES = sorted((GRAFANA / "rules").glob("*.rules.yaml"))
ROUTES = (GRAFANA / "alertmanager" / "alertmanager.yaml").read_text(encoding="utf-8")
SCRAPES = (GRAFANA / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8")
RULE_WAITS = ("for", "keep_firing_for")


def without(holder: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in holder.items() if key not in keys}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_differ_only_in_waits(path: Path) -> None:
    original = yaml.safe_load(path.read_text(encoding="utf-8"))
    shortened = yaml.safe_load(shortened_rules(path.read_text(encoding="utf-8"), 60))

    assert len(shortened["groups"]) == len(original["groups"])
    for group, before in zip(shortened["groups"], original["groups"], strict=True):
        assert group["interval"] == "1s"
        assert [without(rule, *RULE_WAITS) for rule in group["rules"]] == [
            without(rule, *RULE_WAITS) for rule in before["rules"]
        ]
        assert [key for rule in group["rules"] for key in RULE_WAITS if key in rule] == [
            key for rule in before["rules"] for key in RULE_WAITS if key in rule
        ]


def test_waits_are_divided() -> None:
    rules = (
        "groups: [{name: n, rules: [{alert: A, expr: up, for: 2m, keep_firing_for: 1h30m}, {alert: B, expr: up}]}]"
    )
    (group,) = yaml.safe_load(shortened_rules(rules, 60))["groups"]

    assert group["rules"] == [
        {"alert": "A", "expr": "up", "for": "2000ms", "keep_firing_for": "90000ms"},
        {"alert": "B", "expr": "up"},
    ]


def test_waits_are_never_rounded_to_zero() -> None:
    (group,) = yaml.safe_load(
        shortened_rules(
            "groups: [{name: n, rules: [{alert: A, expr: up, for: 1s}, {alert: B, expr: up, for: 0s}]}]", 60
        )
    )["groups"]

    assert [rule["for"] for rule in group["rules"]] == ["100ms", "0s"]


def test_routes_differ_only_in_waits() -> None:
    original, shortened = yaml.safe_load(ROUTES), yaml.safe_load(shortened_routes(ROUTES, 60))
    waits = ("group_wait", "group_interval", "repeat_interval")

    def bare(route: dict[str, Any]) -> dict[str, Any]:
        return without(route, "routes", *waits) | {"routes": [bare(child) for child in route.get("routes", ())]}

    assert bare(shortened["route"]) == bare(original["route"])
    assert without(shortened, "route") == without(original, "route")
    assert {key: shortened["route"][key] for key in waits} == {
        "group_wait": "500ms",
        "group_interval": "5000ms",
        "repeat_interval": "720000ms",
    }
    (payments,) = (route for route in shortened["route"]["routes"] if route["matchers"] == ['team="payments"'])
    assert payments["routes"][0]["repeat_interval"] == "240000ms"


def test_a_group_wait_that_outlasts_a_query_can_be_kept() -> None:
    def group_waits(text: str) -> list[str]:
        route = yaml.safe_load(text)["route"]
        return [each["group_wait"] for each in (route, *route["routes"]) if "group_wait" in each]

    assert group_waits(ROUTES) == ["30s", "0s", "10m"]
    assert group_waits(shortened_routes(ROUTES, 60)) == ["500ms", "0s", "10000ms"]
    assert group_waits(shortened_routes(ROUTES, 60, outlast_queries=True)) == ["500ms", "0s", "10m"]


def test_receivers_become_webhooks_by_name() -> None:
    config = yaml.safe_load(receivers_at(ROUTES, GRAFANA / "alertmanager", "http://127.0.0.1:1"))
    original = yaml.safe_load(ROUTES)

    assert config["receivers"] == [
        {
            "name": receiver["name"],
            "webhook_configs": [{"url": f"http://127.0.0.1:1/{receiver['name']}", "send_resolved": True}],
        }
        for receiver in original["receivers"]
    ]
    assert [Path(name).is_file() for name in config["templates"]] == [True]
    assert without(config, "receivers", "templates") == without(original, "receivers", "templates")


def test_scrapes_use_other_targets_with_the_same_limits() -> None:
    (original,) = yaml.safe_load(SCRAPES)["scrape_configs"]
    targets = {job_of(SCRAPES): ["127.0.0.1:1", "127.0.0.1:2"], "other": ["127.0.0.1:3"]}
    text = scraping(SCRAPES, targets=targets, alertmanager="127.0.0.1:4", rules=Path("/rules.yaml"), every="1s")
    config = yaml.safe_load(text)

    assert config["scrape_configs"] == [
        original | {"job_name": job, "static_configs": [{"targets": addresses}]}
        for job, addresses in targets.items()
    ]
    assert config["rule_files"] == ["/rules.yaml"]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:4"]}]}]
    assert config["global"] == {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
        "external_labels": {"cluster": "main"},
    }
