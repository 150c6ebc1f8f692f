"""Links to other systems: filled for each factor, on both pages, and never to another place than the template's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.addresses import parse_link_template
from exporter.watched import FactorKey, WatchedFactor
from exporter.web.links import Link, links
from tests.support.config_files import write_config
from tests.support.html import page_of
from tests.support.served_exporter import ACCOUNT_SID, IDENTITY, SERVICE_SID, VERIFIED, entries, serving

ROOT = Path(__file__).parents[2]
KEY = FactorKey("main", SERVICE_SID, "YF" + "0" * 31 + "1")
GRAFANA = "https://grafana.example.com/d/factor?var-account={account}&var-service={service_sid}&var-factor={factor}"
RUNBOOK = "https://wiki.example.com/{label.team}/{label.tier}#{factor_sid}"
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


def watched(name: str = "push", **labels: str) -> WatchedFactor:
    return WatchedFactor(KEY, name, IDENTITY, 300.0, labels=tuple(labels.items()))


def test_placeholders_are_filled() -> None:
    assert links({"Grafana": GRAFANA, "Runbook": RUNBOOK}, watched(team="pay", tier="1")) == [
        Link(
            "Grafana",
            f"https://grafana.example.com/d/factor?var-account=main&var-service={SERVICE_SID}&var-factor=push",
        ),
        Link("Runbook", f"https://wiki.example.com/pay/1#{KEY.factor_sid}"),
    ]


@pytest.mark.parametrize("labels", [{}, {"team": "pay"}, {"tier": "1"}])
def test_a_link_whose_label_a_factor_lacks_is_left_out(labels: dict[str, str]) -> None:
    assert links({"Runbook": RUNBOOK, "Home": "http://home.example/"}, watched(**labels)) == [
        Link("Home", "http://home.example/")
    ]


@given(TEXT, TEXT)
def test_no_value_changes_more_than_its_place(name: str, team: str) -> None:
    template = "https://host.example/a/{label.team}/b?x={factor}&y=1#z={label.team}"
    [link] = links({"Link": template}, watched(name, team=team))
    parts = urlsplit(link.url)
    assert link.url.isascii()
    assert (parts.scheme, parts.netloc) == ("https", "host.example")
    before, value, after = parts.path.rsplit("/", 2)
    assert (before, unquote(value), after) == ("/a", team, "b")
    assert parse_qs(parts.query, keep_blank_values=True) == {"x": [name], "y": ["1"]}
    assert unquote(parts.fragment) == f"z={team}"


def test_braces_in_a_value_are_no_placeholder() -> None:
    [link] = links({"Link": "https://host.example/{factor}"}, watched("{factor_sid}", team="{account}"))
    assert link.url == "https://host.example/%7Bfactor_sid%7D"


async def test_both_pages_show_the_links_of_a_factor(tmp_path: Path) -> None:
    web = {"external_links": {"Grafana": GRAFANA, "Runbook": "https://wiki.example.com/{label.team}"}}
    factors = [entries("one", labels={"team": "a&b"})[0], entries("zero", "two")[1]]
    async with serving(tmp_path, factors, web=web) as running:
        running.apply("one", VERIFIED)
        page = await page_of(running)
        own = await page_of(running, f"/factors/main/{SERVICE_SID}/one")
        other = await page_of(running, f"/factors/main/{SERVICE_SID}/two")

    to_one = GRAFANA.format(account="main", service_sid=SERVICE_SID, factor="one")
    assert page.links("https://") == [to_one.replace("=one", "=two"), to_one, "https://wiki.example.com/a%26b"]
    assert page.row("one")[0] == "one main · push · team=a&b Links of one Grafana Runbook"
    assert page.row("two")[0] == "two main Links of two Grafana"
    assert own.parts["links"] == "Grafana Runbook"
    assert own.links("https://") == [to_one, "https://wiki.example.com/a%26b"]
    assert other.parts["links"] == "Grafana"


async def test_without_configured_links_there_are_none(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one")) as running:
        page = await page_of(running)
        own = await page_of(running, f"/factors/main/{SERVICE_SID}/one")

    assert "details" not in page.tags
    assert "links" not in own.parts
    assert not [link for of in (page, own) for link in of.links("http")]


async def test_a_reload_applies_other_links_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web={"enable_lifecycle": True}) as running:
        assert (await page_of(running)).links("https://") == []
        account = {"account_sid": ACCOUNT_SID, "password": "made-up", "base_url": "http://127.0.0.1:1"}
        web = {"enable_lifecycle": True, "external_links": {"Home": "https://home.example/{factor}"}}
        write_config(tmp_path / "config.toml", {"main": account}, entries("one"), web=web)
        assert (await running.request("/-/reload", "POST")).status == 200
        assert (await page_of(running)).links("https://") == ["https://home.example/one"]


@pytest.mark.parametrize("page", ["config.example.toml", "docs/operations.md"])
def test_the_examples_are_valid_and_fit_the_dashboard(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = dict(re.findall(r'^(?:# )?"?([A-Z][\w ]+?)"? = "(https://[^"]*\{[^"]*)"$', text, re.MULTILINE))
    assert found.keys() == {"Grafana", "Runbook", "Silence", "Twilio console"}
    filled = {link.name: link.url for link in links(found, watched(team="payments"))}
    assert [parse_link_template(template) for template in found.values()] == list(found.values())
    dashboard = json.loads((ROOT / "grafana/dashboards/twilio-verify-factor.json").read_text(encoding="utf-8"))
    grafana = urlsplit(filled["Grafana"])
    assert grafana.path == f"/d/{dashboard['uid']}"
    variables = {f"var-{variable['name']}" for variable in dashboard["templating"]["list"]}
    assert parse_qs(grafana.query).keys() <= variables
    assert unquote(filled["Silence"]).endswith('?filter={account="main",factor="push"}')
