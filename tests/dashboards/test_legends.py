"""Legends show all their entries, and no two entries of a graph have the same colour."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Any

from exporter.exposition.catalogue import FETCH_FAILURES, LostRun, SchedulerTask
from exporter.polling.record import COUNTED_TYPES, STATUSES
from exporter.verify.outcome import NOTIFICATION_PLATFORMS, OTHER, Operation, Reason, Status
from grafana.boards.panels import counted
from tests.support.dashboards.files import boards, panels, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPEN = {"account", "instance", "source", "factor"}
CLOSED: dict[str, tuple[str, ...]] = {
    "status": tuple(STATUSES),
    "class": ("2xx", "3xx", "4xx", "404", "429", "5xx", "none"),
    "operation": tuple(Operation),
    "task": tuple(SchedulerTask),
    "factor_type": tuple(COUNTED_TYPES),
    "notification_platform": (*NOTIFICATION_PLATFORMS, OTHER),
    "from": tuple(Status),
    "to": tuple(Status),
    "generation": ("0", "1", "2"),
}


def graphs() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all graphs, each with its place."""
    for item in boards():
        for panel in panels(item):
            if panel["type"] == "timeseries":
                yield f"{item['uid']}: {panel['title']}", panel


def legends(query: Mapping[str, Any]) -> list[str] | None:
    """Return the legends that a query can have; None if their number is not known."""
    text = query["legendFormat"]
    names = re.findall(r"\{\{(\w+)\}\}", text)
    if OPEN & set(names):
        return None
    values = {**CLOSED, "reason": tuple(LostRun if "task" in names else Reason)}
    found = []
    for chosen in product(*(values[name] for name in names)):
        of = dict(zip(names, chosen, strict=True))
        if "from" not in of or of["from"] != of["to"]:
            filled = text
            for name, value in of.items():
                filled = filled.replace(f"{{{{{name}}}}}", value)
            found.append(filled)
    return found


def colours(panel: Mapping[str, Any]) -> dict[str, str]:
    """Return the fixed colours of a graph by legend."""
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byName", panel["title"]
        for rule in override["properties"]:
            if rule["id"] == "color":
                assert rule["value"]["mode"] == "fixed"
                found[override["matcher"]["options"]] = rule["value"]["fixedColor"]
    return found


def test_every_legend_of_a_closed_list_has_a_colour_of_its_own() -> None:
    closed = 0
    for place, panel in graphs():
        possible = [legends(query) for query in panel["targets"]]
        fixed = colours(panel)
        assert len(set(fixed.values())) == len(fixed), place
        if None in possible:
            continue
        expected = {text for texts in possible for text in texts or ()}
        assert len(expected) == sum(len(texts or ()) for texts in possible), place
        assert expected <= set(fixed), f"{place}: {sorted(expected - set(fixed))}"
        closed += 1
    assert closed > 15


def test_the_classes_of_codes() -> None:
    (query,) = (
        query for _, panel in graphs() for query in panel["targets"] if query["legendFormat"] == "{{class}}"
    )
    named = dict.fromkeys(re.findall(r'"class", "(\w+)", "code", "([\w.]+)"', query["expr"]))
    assert sorted(name for name, _ in named) == sorted(CLOSED["class"])
    for name, codes in named:
        assert re.fullmatch(codes, {"none": "none"}.get(name, name.replace("xx", "04")))


def test_no_colour_is_for_a_legend_that_does_not_exist() -> None:
    for place, panel in graphs():
        possible = {text for query in panel["targets"] for text in legends(query) or ()}
        # A quantile that a graph does not draw has its colour all the same.
        assert set(colours(panel)) <= possible | {"p95"}, place


def test_other_series_get_different_colours_in_turn() -> None:
    for place, panel in graphs():
        scheme = panel["fieldConfig"]["defaults"]["color"]
        assert scheme in ({"mode": "palette-classic"}, {"mode": "shades", "fixedColor": "orange"}), place


def test_a_legend_has_the_same_colour_everywhere() -> None:
    seen: dict[str, set[str]] = {}
    for _, panel in graphs():
        by_platform = any("notification_platform" in query["expr"] for query in panel["targets"])
        by_code = any('"class"' in query["expr"] for query in panel["targets"])
        for legend, colour in colours(panel).items():
            # "none" is also a platform, and the code of a request without a complete response.
            if legend != "none" or not (by_platform or by_code):
                seen.setdefault(legend, set()).add(colour)
    assert {legend: found for legend, found in seen.items() if len(found) > 1} == {}


def test_the_legend_fits_the_graph() -> None:
    for place, panel in graphs():
        legend = panel["options"]["legend"]
        assert legend["showLegend"], place
        # A table below a graph shows three entries; the others would have to be scrolled to.
        wide = panel["gridPos"]["w"] >= 12
        events = panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars"
        expected = ("table", "right", ["sum" if events else "lastNotNull"]) if wide else ("list", "bottom", [])
        assert (legend["displayMode"], legend["placement"], legend["calcs"]) == expected, place
        assert panel["gridPos"]["h"] >= 7, place


def test_no_variable_is_in_a_name() -> None:
    for item in boards():
        for panel in panels(item):
            named = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
            texts = [
                *map(str, named),
                panel["title"],
                *(query.get("legendFormat", "") for query in panel["targets"]),
            ]
            # Grafana does not fill in variables there.
            assert [text for text in texts if any(f"${name}" in text for name in variables(item))] == []


def test_legends_of_events() -> None:
    of_reason, none = counted(FETCH_FAILURES, ("reason",), "{{reason}}")
    assert legends({"legendFormat": of_reason.legend}) == list(Reason)
    assert legends({"legendFormat": none.legend}) == ["none"]
    assert legends({"legendFormat": "{{account}} retries"}) is None
    assert legends({"legendFormat": "{{from}} → {{to}}"}) == [
        f"{before} → {after}" for before in Status for after in Status if before != after
    ]
