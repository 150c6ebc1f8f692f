"""Alerts link to existing dashboards and variables, and the dashboards show every alert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from grafana.boards.states import SEVERITIES
from tests.support.dashboards.files import board, parsed, targets, variables
from tests.support.promql import matchers, selectors

RULES = Path(__file__).parents[2] / "grafana" / "rules"
WATCHDOG = "TwilioVerifyWatchdog"


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules from the rules files."""
    trees = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.rules.yaml"))]
    return [rule for tree in trees for group in tree["groups"] for rule in group["rules"] if "alert" in rule]


def test_alerts_link_to_existing_dashboards_and_variables() -> None:
    seen = set()
    for alert in alerts():
        url = urlsplit(alert["annotations"]["dashboard_url"])
        uid = url.path.rpartition("/d/")[2]
        given = set(re.findall(r"var-(\w+)=", url.query))
        assert given <= set(variables(board(uid))), alert["alert"]
        seen.add(uid)
    assert seen == {"twilio-verify-overview", "twilio-verify-factor", "twilio-verify-exporter"}


def test_dashboards_show_every_alert_except_the_watchdog() -> None:
    selected = [
        dict(matchers(selector))
        for target in targets()
        for selector in selectors(parsed(target.expression))
        if selector.name == "ALERTS"
    ]
    assert selected
    for one in selected:
        included, excluded = (value for _, value in one["alertname"])
        shown = {
            alert["alert"]
            for alert in alerts()
            if re.fullmatch(included, alert["alert"]) and not re.fullmatch(excluded, alert["alert"])
        }
        assert shown == {alert["alert"] for alert in alerts()} - {WATCHDOG}


def test_every_severity_has_a_colour() -> None:
    severities = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] != WATCHDOG}
    assert severities <= set(SEVERITIES)
    assert "critical" in severities
