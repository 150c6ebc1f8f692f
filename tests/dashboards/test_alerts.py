"""Alerts and boards know each other: links lead to a board that takes them, and the boards show every alert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from grafana.boards.states import SEVERITIES
from tests.support.dashboards.expressions import matchers, parsed, selectors
from tests.support.dashboards.files import board, targets, variables

RULES = Path(__file__).parents[2] / "grafana" / "rules"
WATCHDOG = "TwilioVerifyWatchdog"


def alerts() -> list[dict[str, Any]]:
    """Return the alerts that are shipped, as Prometheus reads them."""
    trees = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.rules.yaml"))]
    return [rule for tree in trees for group in tree["groups"] for rule in group["rules"] if "alert" in rule]


def test_the_link_of_an_alert_leads_to_a_board_with_its_variables() -> None:
    seen = set()
    for alert in alerts():
        url = urlsplit(alert["annotations"]["dashboard_url"])
        uid = url.path.rpartition("/d/")[2]
        given = set(re.findall(r"var-(\w+)=", url.query))
        assert given <= set(variables(board(uid))), alert["alert"]
        seen.add(uid)
    assert seen == {"twilio-verify-overview", "twilio-verify-factor", "twilio-verify-exporter"}


def test_the_boards_show_every_alert_but_the_watchdog() -> None:
    asked = [
        dict(matchers(selector))
        for target in targets()
        for selector in selectors(parsed(target.expression))
        if selector.name == "ALERTS"
    ]
    assert asked
    for one in asked:
        wanted, unwanted = (value for _, value in one["alertname"])
        shown = {
            alert["alert"]
            for alert in alerts()
            if re.fullmatch(wanted, alert["alert"]) and not re.fullmatch(unwanted, alert["alert"])
        }
        assert shown == {alert["alert"] for alert in alerts()} - {WATCHDOG}


def test_every_severity_has_its_colour() -> None:
    severities = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] != WATCHDOG}
    assert severities <= set(SEVERITIES)
    assert "critical" in severities
