"""The history of a factor's status on the pages and in the API: bars, words, and nothing that was not observed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.status_history import KEPT_SECONDS, Period, StatusHistory
from exporter.verify.outcome import Failure, Reason, Status
from exporter.web.selection import PAGE_ROWS
from exporter.web.status_bar import HEIGHT, WIDTH, listed, status_bar
from tests.support.html import page_of
from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import (
    IDENTITY,
    NOT_FOUND,
    SERVICE_SID,
    UNVERIFIED,
    VERIFIED,
    entries,
    serving,
    stopped,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

DAY = 86_400.0
HOUR = 3600.0
BOX = re.compile(r"M(\d+) (\d+)h(\d+)v(\d+)H(\d+)z")
FACTOR_PATH = f"factors/main/{SERVICE_SID}"


def boxes(path: str) -> list[tuple[int, int, int]]:
    """Return left, right and height of each box of a path, which stand on the ground."""
    found = [tuple(map(int, box.groups())) for box in BOX.finditer(path)]
    assert BOX.sub("", path) == ""
    assert all(left == back and top + height == HEIGHT for left, top, _, height, back in found)
    return [(left, left + width, height) for left, _, width, height, _ in found]


def periods_of(*parts: tuple[float, Status | None]) -> list[Period]:
    """Return periods of these lengths, one after the other."""
    found, at = [], 1.8e9
    for seconds, status in parts:
        found.append(Period(at, at + seconds, status))
        at += seconds
    return found


def test_a_bar_is_the_higher_the_worse_and_empty_where_nothing_is_known() -> None:
    bar = status_bar(
        periods_of(
            (3 * HOUR, None),
            (9 * HOUR, Status.VERIFIED),
            (6 * HOUR, Status.UNVERIFIED),
            (6 * HOUR, Status.NOT_FOUND),
        )
    )
    assert {status: boxes(path) for status, path in bar.shapes} == {
        Status.VERIFIED: [(36, 144, 5)],
        Status.UNVERIFIED: [(144, 216, 10)],
        Status.NOT_FOUND: [(216, 288, 16)],
    }
    assert bar.description == (
        "Last 24 h: not found for 6 h, unverified for 6 h, unknown for 3 h, verified for 9 h"
    )


@pytest.mark.parametrize("last", [False, True])
def test_a_short_problem_is_seen(last: bool) -> None:
    parts = [(DAY - 1, Status.VERIFIED), (1.0, Status.NOT_FOUND)]
    bar = status_bar(periods_of(*(parts if last else parts[::-1])))
    [(left, right, _)] = boxes(dict(bar.shapes)[Status.NOT_FOUND])
    assert (left, right) == ((WIDTH - 2, WIDTH) if last else (0, 2))
    assert "not found for 1 s" in bar.description


def test_nothing_known_is_an_empty_bar() -> None:
    assert status_bar(periods_of((DAY, None))) == ([], "Last 24 h: unknown for 24 h")


@given(st.lists(st.tuples(st.floats(0.001, KEPT_SECONDS), st.none() | st.sampled_from(Status)), min_size=1))
def test_every_bar_stays_in_its_frame(parts: list[tuple[float, Status | None]]) -> None:
    bar = status_bar(periods_of(*parts))
    for _, path in bar.shapes:
        for left, right, height in boxes(path):
            assert 0 <= left < right <= WIDTH
            assert 0 < height <= HEIGHT
    problems = {status for _, status in parts if status not in (None, Status.VERIFIED)}
    assert problems <= {status for status, _ in bar.shapes}
    words = {"unknown" if status is None else status.replace("_", " ") for _, status in parts}
    assert {part.rpartition(" for ")[0] for part in bar.description.partition(": ")[2].split(", ")} == words


def test_a_list_is_newest_first_and_begins_with_the_first_status() -> None:
    periods = periods_of((100.0, None), (200.0, Status.VERIFIED), (50.0, None), (7.0, Status.VERIFIED))
    assert [(of.status, of.before, of.seconds, of.lasts) for of in listed(periods)] == [
        ("verified", "unknown", 7.0, True),
        ("unknown", "verified", 50.0, False),
        ("verified", "unknown", 200.0, False),
    ]
    assert [of.before for of in listed(periods[1:])][-1] is None, "it may have begun earlier"
    assert listed(periods[:1]) == []


def observe_a_day(running: ServedExporter) -> None:
    """Let a factor be verified, then be missing for 6 hours, then be unverified, in the last day."""
    ledger = running.daemon.engine.ledger
    now = running.daemon.engine.clock.moment()
    ledger.history = StatusHistory(now._replace(wall=now.wall - 2 * DAY, steady=now.steady - 2 * DAY))
    running.apply("factor", VERIFIED, ago_seconds=DAY + HOUR)
    running.apply("factor", NOT_FOUND, ago_seconds=9 * HOUR)
    running.apply("factor", UNVERIFIED, ago_seconds=3 * HOUR)
    running.apply("factor", UNVERIFIED)


async def test_the_status_page_has_a_bar_per_factor(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor", "new"), clock=stopped()) as running:
        observe_a_day(running)
        page = await page_of(running)
        text = (await running.request("/")).text

    bars = re.findall(r'<svg class="history"[^>]* role="img" aria-label="([^"]*)">(.*?)</svg>', text)
    assert [words for words, _ in bars] == [
        "Last 24 h: not found for 6 h, unverified for 3 h, verified for 15 h",
        "Last 24 h: unknown for 24 h",
    ]
    assert re.findall('class="([a-z_]+)"', bars[0][1]) == ["verified", "unverified", "not_found"]
    assert bars[1][1] == ""
    assert page.parts["bars"].startswith("Bars show the last 24 h: the higher, the worse.")
    assert [name for name, _ in page.attributes if name == "style"] == []
    assert page.row("factor")[2] == "3 h", "a bar adds no text to its cell"


async def test_the_page_of_a_factor_lists_the_changes(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor", "new"), clock=stopped()) as running:
        observe_a_day(running)
        page = await page_of(running, f"/{FACTOR_PATH}/factor")
        text = (await running.request(f"/{FACTOR_PATH}/factor")).text
        new = await page_of(running, f"/{FACTOR_PATH}/new")

    assert page.parts["periods"] == (
        "✗ unverified since 2027-01-15 05:00:00 UTC , for 3 h ; not found before "
        "∅ not found since 2027-01-14 23:00:00 UTC , lasted 6 h ; verified before "
        "✓ verified since 2027-01-14 07:00:00 UTC , lasted 16 h ; unknown before"
    )
    assert (
        'aria-label="Last 7 d: not found for 6 h, unverified for 3 h, unknown for 5 d, verified for 16 h"' in text
    )
    assert page.parts["history-rule"].startswith("The history begins on 2027-01-13 08:00:00 UTC and has the last 7")
    assert new.parts["periods"] == "No status observed yet."
    assert IDENTITY not in text


async def test_the_api_has_the_changes_of_one_factor(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor", "new"), clock=stopped()) as running:
        observe_a_day(running)
        answers: list[dict[str, Any]] = [
            json.loads((await running.request(f"/api/v1/{FACTOR_PATH}/{name}")).text) for name in ("factor", "new")
        ]
        listing = json.loads((await running.request("/api/v1/factors")).text)

    now = 1_800_000_000.0
    assert answers[0]["status_history_since_seconds"] == now - 2 * DAY
    assert answers[0]["status_history"] == [
        {"seconds": now - 3 * HOUR, "from": "not_found", "to": "unverified"},
        {"seconds": now - 9 * HOUR, "from": "verified", "to": "not_found"},
        {"seconds": now - 25 * HOUR, "from": "unknown", "to": "verified"},
    ]
    assert answers[1]["status_history"] == []
    assert all("status_history" not in factor for factor in listing["factors"]), "a list of 1,000 stays small"


async def test_what_is_stale_is_unknown_without_a_dispatch(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("factor"), clock=clock) as running:
        running.apply("factor", VERIFIED)
        clock.leap(HOUR)
        answer = json.loads((await running.request(f"/api/v1/{FACTOR_PATH}/factor")).text)

    assert [(of["from"], of["to"]) for of in answer["status_history"]] == [
        ("verified", "unknown"),
        ("unknown", "verified"),
    ]
    times = [of["seconds"] for of in answer["status_history"]]
    assert times[0] - times[1] == pytest.approx(900, abs=0.01)


async def test_a_page_costs_the_bars_of_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    whole = StatusHistory.periods

    def counted(self: StatusHistory, *arguments: Any) -> list[Period]:
        made.append(arguments[0])
        return whole(self, *arguments)

    names = [f"factor-{number:03d}" for number in range(2 * PAGE_ROWS + 50)]
    async with serving(tmp_path, entries(*names)) as running:
        monkeypatch.setattr(StatusHistory, "periods", counted)
        await page_of(running)

    assert len(made) == PAGE_ROWS


async def test_among_factors_in_the_same_state_the_newest_change_is_first(tmp_path: Path) -> None:
    names = ("a-not-seen", "b-old", "c-new", "d-failing-long", "e-failing-new", "f-good", "g-was-bad")
    async with serving(tmp_path, entries(*names), clock=stopped()) as running:
        running.apply("a-not-seen", UNVERIFIED, ago_seconds=10)
        for name, ago in (("b-old", 200), ("c-new", 100)):
            running.apply(name, VERIFIED, ago_seconds=ago + 50)
            running.apply(name, UNVERIFIED, ago_seconds=ago)
        for name, ago in (("d-failing-long", 300), ("e-failing-new", 30)):
            running.apply(name, VERIFIED, ago_seconds=400)
            running.apply(name, Failure(Reason.TIMEOUT), ago_seconds=ago)
        running.apply("f-good", VERIFIED, ago_seconds=5)
        running.apply("g-was-bad", UNVERIFIED, VERIFIED, ago_seconds=250)
        page = await page_of(running)
        answer = json.loads((await running.request("/api/v1/factors")).text)

    expected = ["c-new", "b-old", "a-not-seen", "e-failing-new", "d-failing-long", "g-was-bad", "f-good"]
    assert page.names == expected
    assert [factor["factor"] for factor in answer["factors"]] == expected
