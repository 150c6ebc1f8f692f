"""What an on-call engineer sees first: what happens now, the worst first, and nothing drawn over the series."""

from __future__ import annotations

import re

import pytest

from tests.support.dashboards.files import board, boards, events, parsed, targets
from tests.support.promql import matchers, nodes, result_labels, selectors

# Grafana's steps, with the longest interval that is rounded to each (grafana-data, rangeutil.ts, roundInterval).
ROUNDED_SECONDS = ((1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60))
UNITS = {"s": 1, "m": 60, "h": 3600}
RANGES_SECONDS = (15 * 60, 3600, 6 * 3600)
# The width of a dashboard in pixels on a screen of 1440, without margins.
WIDTH = 1392


def step_seconds(range_seconds: float, points: float, least_seconds: float) -> int:
    """Return the step of a query as Grafana calculates it, at most 60 s, or 3600 for all others."""
    wanted = max(range_seconds / points, least_seconds)
    return next((step for limit, step in ROUNDED_SECONDS if wanted < limit), 3600)


def seconds(duration: str) -> int:
    return int(duration[:-1]) * UNITS[duration[-1]]


def test_what_happens_now_shows_within_a_minute() -> None:
    # Grafana queries up to the last full step, so the newest point is at most a step old.
    late = [
        f"{target}: {step} s in {range_seconds // 60} min"
        for target in targets()
        if not target.query.get("instant")
        for range_seconds in RANGES_SECONDS
        if (
            step := step_seconds(
                range_seconds,
                target.panel.get("maxDataPoints") or WIDTH * target.panel["gridPos"]["w"] / 24,
                seconds(target.panel.get("interval", "15s")),
            )
        )
        > 60
    ]
    assert late == []


def test_steps_are_those_of_grafana() -> None:
    assert [step_seconds(6 * 3600, points, 15) for points in (2000, 464, 360, 200)] == [15, 60, 60, 3600]
    assert step_seconds(900, 464, 300) == 3600


def test_bars_count_each_event_once() -> None:
    bars = [target for target in targets() if is_bar(target.panel)]
    assert len(bars) > 5
    for target in bars:
        assert "[$__rate_interval]" in target.expression, str(target)
        assert "* $__interval_ms / 1000" in target.expression, str(target)
    # The window of a rate is longer than the step: an increase would be drawn in several bars.
    assert [str(target) for target in targets() if re.search(r"\bincrease\(", target.expression)] == []


def is_bar(panel: object) -> bool:
    return isinstance(panel, dict) and panel["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") == "bars"


def test_the_timeline_is_in_the_order_of_urgency() -> None:
    (target,) = (
        item for item in targets(board("twilio-verify-overview")) if item.panel["title"] == "Status over time"
    )
    # Prometheus sorts series by label, so the first one decides.
    labels = result_labels(parsed(target.expression))
    (ranks,) = (node for node in nodes(parsed(target.expression)) if str(getattr(node, "op", "")) == "count_values")
    assert min(labels) == ranks.param.val
    # Each rank has two digits, so the order of the texts is that of the numbers.
    numbers = [199 - (100 + 10 * state + worst) for state in range(5) for worst in range(1, 5)]
    assert all(10 <= number <= 99 for number in numbers)
    assert "199 - (topk($rows, " in target.expression


@pytest.mark.parametrize("uid", [item["uid"] for item in boards()])
def test_annotations_leave_the_series_visible(uid: str) -> None:
    marked = {event["name"]: event for event in events(board(uid))}
    assert set(marked) == {"Losses", "Restarts", "Reloads", "Refused reloads"}
    # Of one factor, there are few; of a fleet, there may be one in every step.
    assert {name for name, event in marked.items() if not event["enable"]} == (
        set() if uid == "twilio-verify-factor" else {"Losses"}
    )
    # A condition that lasts would colour the graphs as a span.
    assert "unless" in marked["Refused reloads"]["expr"]
    assert "offset 60s" in marked["Refused reloads"]["expr"]


def test_only_losses_are_annotated() -> None:
    for item in boards():
        (losses,) = (event for event in events(item) if event["name"] == "Losses")
        if item["uid"] == "twilio-verify-factor":
            assert ") > (" in losses["expr"]
            continue
        (selector,) = selectors(parsed(losses["expr"]))
        assert matchers(selector)["from"] == [("MatchOp.NotEqual", "not_found")]
        assert matchers(selector)["to"] == [("MatchOp.NotEqual", "verified")]
