"""Links between dashboards keep what helps, and nothing that narrows the next dashboard to one factor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.dashboards.files import board, boards, strings, variables

if TYPE_CHECKING:
    from collections.abc import Mapping

OVERVIEW, FACTOR, EXPORTER = "twilio-verify-overview", "twilio-verify-factor", "twilio-verify-exporter"
KEPT = {"datasource", "job", "instance", "account", "service"}


def given(url: str) -> dict[str, str]:
    """Return the variables that a link sets, each with the text that Grafana fills in."""
    query = urlsplit(url).query
    assert not re.search(r"all_variables|includeVars", url)
    return {
        **{name: f"${{{name}:queryparam}}" for name in re.findall(r"\$\{(\w+):queryparam\}", query)},
        **dict(re.findall(r"var-(\w+)=([^&]*)", query)),
    }


def data_links(tree: Mapping[str, Any]) -> list[str]:
    """Return the addresses of dashboards behind values of panels."""
    return [text for text in strings(tree["panels"]) if "/d/" in text]


def target(url: str) -> str:
    """Return the UID of the dashboard that a link opens."""
    parts = urlsplit(url)
    _, kind, uid = parts.path.split("/")
    assert (kind, parts.netloc) == ("d", "")
    return uid


def test_a_value_leads_to_its_factor() -> None:
    found = [(tree["uid"], url) for tree in boards() for url in data_links(tree)]
    assert {uid for uid, _ in found} == {OVERVIEW}
    for _, url in found:
        assert target(url) == FACTOR
        assert set(given(url)) == {*KEPT, "factor"}
        assert set(given(url)) <= set(variables(board(FACTOR)))
        assert all(
            re.fullmatch(r"\$\{[\w.]+:percentencode\}", given(url)[name])
            for name in ("account", "service", "factor")
        ), url
        assert "${__url_time_range}" in url


@pytest.mark.parametrize("uid", [OVERVIEW, FACTOR, EXPORTER])
def test_each_dashboard_links_to_the_others(uid: str) -> None:
    links = board(uid)["links"]
    assert {target(link["url"]) for link in links} == {OVERVIEW, FACTOR, EXPORTER} - {uid}
    for link in links:
        assert link["type"] == "link"
        assert board(target(link["url"]))["title"].endswith(f"/ {link['title']}")
        assert link["keepTime"]
        assert not link["targetBlank"]


@pytest.mark.parametrize("uid", [OVERVIEW, FACTOR, EXPORTER])
def test_no_link_of_a_dashboard_narrows_the_next_to_one_factor(uid: str) -> None:
    for link in board(uid)["links"]:
        assert not link["includeVars"], "all variables, and so the factor, would be kept"
        assert set(given(link["url"])) == KEPT
        assert set(given(link["url"])) <= set(variables(board(target(link["url"]))))
