"""The mixin has the rules and dashboards of grafana/, and each key of _config changes what it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from grafana.boards.__main__ import BOARDS
from grafana.boards.board import render
from grafana.jsonnet import config, groups
from grafana.jsonnet.__main__ import FOLDER
from grafana.rules.model import Settings
from grafana.rules.render import RULES, UNUSED, WATCHDOG
from tests.support import mixin
from tests.support.dashboards.files import PATHS
from tests.support.jsonnet import JsonnetError, evaluated
from tests.support.mixin import divided, of_file, with_each

if TYPE_CHECKING:
    from pathlib import Path

Boards = dict[str, dict[str, Any]]

SITE = Settings()
CHANGED = Settings(
    dropped=("instance", "host"),
    job="twilio",
    runbooks="https://wiki.example.com",
    dashboards="https://grafana.example.com",
    error_budget=0.01,
    late_ratio=0.25,
    rate_limited_ratio=0.2,
    shrink_ratio=0.125,
    without_platform_ratio=0.3,
    slow_enrolment=2.5,
)
# The value of a key, and the setting of the generator that is to have the same effect.
OF_RULES: dict[str, tuple[str, str]] = {
    "exporterSelector": ("""'job="twilio"'""", "job"),
    "droppedLabels": ("['instance', 'host']", "dropped"),
    "runbookURLPattern": ("'https://wiki.example.com/%s.md'", "runbooks"),
    "grafanaURL": ("'https://grafana.example.com'", "dashboards"),
    "errorBudget": ("0.01", "error_budget"),
    "lateFetchesRatio": ("0.25", "late_ratio"),
    "rateLimitedRatio": ("0.2", "rate_limited_ratio"),
    "watchlistShrinkRatio": ("0.125", "shrink_ratio"),
    "pushWithoutPlatformRatio": ("0.3", "without_platform_ratio"),
    "slowEnrolmentFactor": ("2.5", "slow_enrolment"),
}
OPTIONAL = {"unusedPasskeys": UNUSED, "watchdog": WATCHDOG}
ALERTS = """{
  TwilioVerifyDataStale: { 'for': '1h', labels+: { severity: 'info', team: 'identity' } },
  TwilioVerifyOverBudget: { expr: 'vector(0) > 1', annotations+: { summary: 'Not known.' } },
  TwilioVerifyEnrolmentAbandoned: null,
  TwilioVerifyPasskeysUnused: null,
}"""
PLUGIN = "victoriametrics-metrics-datasource"
OF_DASHBOARDS = {
    "dashboardNamePrefix": "'Team / Verify / '",
    "dashboardTags": "['team']",
    "dashboardRefresh": "'5m'",
    "dashboardPeriod": "'now-1h'",
    "dashboardTimezone": "'utc'",
    "datasourceType": f"'{PLUGIN}'",
}


@pytest.fixture(scope="module")
def rules(vendor: Path) -> dict[str, Any]:
    """Return the rules with each key changed alone, with all of them changed, and by default."""
    together = "".join(f"{key}: {value}, " for key, (value, _) in OF_RULES.items())
    given = {
        **{key: f"{{ {key}: {value} }}" for key, (value, _) in OF_RULES.items()},
        **{key: f"{{ {key}: true }}" for key in OPTIONAL},
        "together": f"{{ {together} unusedPasskeys: true, watchdog: true }}",
        "alerts": f"{{ unusedPasskeys: true, alerts: {ALERTS} }}",
        "default": "{}",
    }
    return with_each(given, mixin.RULES, vendor)


@pytest.fixture(scope="module")
def dashboards(vendor: Path) -> dict[str, Any]:
    """Return the dashboards with each key changed alone, and by default."""
    values = OF_DASHBOARDS | {"runbookURLPattern": OF_RULES["runbookURLPattern"][0]}
    given = {key: f"{{ {key}: {value} }}" for key, value in values.items()} | {"default": "{}"}
    return with_each(given, mixin.DASHBOARDS, vendor)


def test_generated_files_are_up_to_date() -> None:
    for name, text in (("config.libsonnet", config.text()), ("groups.libsonnet", groups.text())):
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "run: python -m grafana.jsonnet"


def test_the_folder_has_only_what_is_imported_or_read_by_a_tool() -> None:
    names = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    read = {"mixin.libsonnet", "jsonnetfile.json", ".lint", "README.md"}
    for path in FOLDER.glob("*.libsonnet"):
        read.update(re.findall(r"import '([^']+)'", path.read_text(encoding="utf-8")))
    assert names == read


def test_by_default_it_has_the_rules_of_the_file(rules: dict[str, Any]) -> None:
    assert rules["default"] == divided(of_file(RULES, SITE))


def test_by_default_it_has_the_dashboards_of_the_files(dashboards: dict[str, Any]) -> None:
    assert dashboards["default"] == {path.name: json.loads(path.read_text(encoding="utf-8")) for path in PATHS}


@pytest.mark.parametrize("key", OF_RULES)
def test_a_key_changes_the_rules_as_the_generator_does(rules: dict[str, Any], key: str) -> None:
    setting = OF_RULES[key][1]
    expected = divided(of_file(RULES, replace(SITE, **{setting: getattr(CHANGED, setting)})))
    assert expected != rules["default"]
    assert rules[key] == expected


def test_all_keys_of_the_rules_together(rules: dict[str, Any]) -> None:
    every = [group for name in (RULES, UNUSED, WATCHDOG) for group in of_file(name, CHANGED)]
    assert rules["together"] == divided(every)


@pytest.mark.parametrize("key", OPTIONAL)
def test_an_optional_alert_is_added(rules: dict[str, Any], key: str) -> None:
    assert rules[key] == divided([*of_file(RULES, SITE), *of_file(OPTIONAL[key], SITE)])


def test_single_alerts_are_changed_or_left_out(rules: dict[str, Any]) -> None:
    expected = divided(of_file(RULES, SITE))
    by_name = {rule["alert"]: rule for group in expected["alerts"] for rule in group["rules"]}
    by_name["TwilioVerifyDataStale"] |= {"for": "1h", "labels": {"severity": "info", "team": "identity"}}
    by_name["TwilioVerifyOverBudget"]["expr"] = "vector(0) > 1"
    by_name["TwilioVerifyOverBudget"]["annotations"]["summary"] = "Not known."
    for group in expected["alerts"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "TwilioVerifyEnrolmentAbandoned"]
    assert rules["alerts"] == expected


def adapted(board: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a dashboard with the change that a key with its value in OF_DASHBOARDS stands for."""
    match key:
        case "dashboardNamePrefix":
            return {**board, "title": board["title"].replace("Twilio Verify / ", "Team / Verify / ")}
        case "dashboardTags":
            return {**board, "tags": ["team"]}
        case "dashboardRefresh":
            return {**board, "refresh": "5m"}
        case "dashboardPeriod":
            return {**board, "time": {**board["time"], "from": "now-1h"}}
        case "dashboardTimezone":
            return {**board, "timezone": "utc"}
    (same,) = (item for item in BOARDS if item.uid == board["uid"])
    return dict(json.loads(render(same, PLUGIN)))


@pytest.mark.parametrize("key", OF_DASHBOARDS)
def test_a_key_changes_the_dashboards(dashboards: dict[str, Any], key: str) -> None:
    for name, board in dashboards["default"].items():
        expected = adapted(board, key)
        assert expected != board
        assert dashboards[key][name] == expected


def test_the_dashboards_link_to_the_runbooks(dashboards: dict[str, Any]) -> None:
    expected = {board.file_name: json.loads(render(board, runbooks="https://wiki.example.com")) for board in BOARDS}
    assert expected != dashboards["default"]
    assert dashboards["runbookURLPattern"] == expected


def test_every_key_is_tested() -> None:
    assert {*OF_RULES, *OPTIONAL, *OF_DASHBOARDS, "alerts"} == {key.name for key in config.configuration()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{ alerts: { TwilioVerifyOverbudget: null } }", "unknown alert TwilioVerifyOverbudget; the alerts are T"),
        ("""{ exporterSelector: 'job=~"twilio.*"' }""", "_config.exporterSelector: job=~"),
    ],
    ids=["misspelt alert", "no job"],
)
def test_a_wrong_configuration_is_refused(vendor: Path, given: str, message: str) -> None:
    with pytest.raises(JsonnetError, match=re.escape(message)):
        with_each({"wrong": given}, mixin.RULES, vendor)


def test_it_joins_other_mixins(vendor: Path) -> None:
    """Its groups and dashboards are added to those of a mixin before it."""
    found = evaluated(
        "{ prometheusAlerts+:: { groups+: [{ name: 'own', rules: [] }] }, grafanaDashboards+:: { 'own.json': {} } }"
        f" + (import '{mixin.NAME}')"
        " + { result: [[item.name for item in $.prometheusAlerts.groups], std.objectFields($.grafanaDashboards)] }",
        vendor,
    )
    alerts, names = found["result"]
    assert alerts == ["own", *(group["name"] for group in divided(of_file(RULES, SITE))["alerts"])]
    assert names == ["own.json", *sorted(path.name for path in PATHS)]
