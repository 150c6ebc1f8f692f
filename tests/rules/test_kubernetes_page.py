"""The page that says which alert watches what on Kubernetes has every alert, with its severity and its delay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from grafana.rules.model import Settings
from grafana.rules.render import groups, optional_groups

if TYPE_CHECKING:
    from grafana.rules.model import Alert

PAGE = (Path(__file__).parents[2] / "docs/kubernetes/alerts.md").read_text(encoding="utf-8")
# The text is the name without the prefix that all have.
LINK = re.compile(r"\[(\w+)\]\(\.\./runbooks/(TwilioVerify\1)\.md\)")
HEADER = ["failure", "what Prometheus sees", "alert", "severity", "after"]


def alerts() -> dict[str, Alert]:
    """Return every alert by its name, the optional ones included."""
    every = (*groups(Settings()), *optional_groups(Settings()))
    return {alert.full_name: alert for group in every for alert in group.alerts}


def rows() -> list[dict[str, str]]:
    """Return the rows of the tables about failures that an alert watches."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE):
        header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        if header == HEADER:
            found += [dict(zip(header, line, strict=True)) for line in lines]
    return found


def test_every_row_says_what_the_rule_says() -> None:
    known = alerts()
    assert len(rows()) > 20
    for row in rows():
        links = LINK.findall(row["alert"])
        assert len(links) == row["alert"].count("](") > 0, row
        of_row = [known[name] for _, name in links]
        assert row["severity"] == ", ".join(dict.fromkeys(alert.severity for alert in of_row)), row
        assert row["after"] == ", ".join(alert.pending or "immediately" for alert in of_row), row
        assert row["failure"]
        assert row["what Prometheus sees"]


def test_every_alert_is_in_a_row_or_named_as_one_that_is_the_same_everywhere() -> None:
    in_rows = {name for row in rows() for _, name in LINK.findall(row["alert"])}
    section = PAGE.partition("\n## The same everywhere\n")[2].partition("\n## ")[0]
    elsewhere = [name for _, name in LINK.findall(section)]

    assert len(elsewhere) == len(set(elsewhere))
    assert in_rows.isdisjoint(elsewhere)
    assert in_rows | set(elsewhere) == set(alerts())


def test_no_other_alert_of_the_rules_is_named() -> None:
    assert set(re.findall(r"TwilioVerify[A-Z]\w+", PAGE)) == set(alerts())
