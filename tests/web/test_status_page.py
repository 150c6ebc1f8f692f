"""The status page: every state in words, nothing that a name could smuggle in, and no need of JavaScript."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Answer, Failure, Reason, Status
from tests.daemon.running import LeapingClock

from .house import IDENTITY, NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from pathlib import Path

    from .house import House

PROBES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</td></tr></table><svg/onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt;&amp;",
)


class Page(HTMLParser):
    """A page as a browser without scripts reads it: rows of texts, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        words = " ".join(data.split())
        if words:
            self.words.append(words)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] = " ".join(filter(None, (self.rows[-1][-1], words)))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def row(self, begins: str) -> list[str]:
        """Return the cells of the row whose first cell begins so."""
        [row] = [row for row in self.rows if row[0].startswith(begins)]
        return row


async def page_of(house: House, path: str = "/") -> Page:
    reply = await house.ask(path)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    return Page(reply.text)


async def test_each_state_is_told_in_words(tmp_path: Path) -> None:
    factors = entries("good", "new", "gone", "held", "never", "failing", "stale", labels={"team": "payments"})
    paused = entries("idle", paused=True)[0] | {"factor_sid": "YF" + "f" * 32}
    async with serving(tmp_path, [*factors, paused]) as house:
        house.tell("good", VERIFIED, ago_seconds=30)
        house.tell("new", UNVERIFIED)
        house.tell("gone", NOT_FOUND)
        house.tell("held", VERIFIED, ago_seconds=240)
        house.tell("held", Failure(Reason.TIMEOUT, "no complete answer in time"), duration_seconds=31.2, attempts=3)
        house.tell("failing", Failure(Reason.AUTH, "HTTP 401, Twilio error 20003"))
        house.tell("stale", VERIFIED, ago_seconds=4000)
        page = await page_of(house)

    assert re.search(r"1 ∅ not found 1 ✗ unverified 3 \? unknown 2 ✓ verified 1 ‖ paused", page.text)
    assert [row[0].split()[0] for row in page.rows[3:]] == [
        "gone",
        "new",
        "failing",
        "never",
        "stale",
        "held",
        "good",
        "idle",
    ]
    assert page.row("good") == [
        f"good main · push · team=payments {SERVICE_SID}",
        "✓ verified",
        "30 s ago",
        "30 s ago 212 ms, 1 attempt",
        "–",
    ]
    assert page.row("new")[1] == "✗ unverified"
    assert page.row("gone")[1] == "∅ not found"
    assert page.row("never")[1:] == ["? unknown", "–", "–", "–"]
    assert page.row("stale")[1:3] == ["? unknown", "66 min ago"]
    assert page.row("idle")[1:] == ["‖ paused", "–", "–", "–"]
    assert page.row("held")[1:] == [
        "✓ verified the last fetch failed",
        "4 min ago",
        "0 s ago 31.2 s, 3 attempts",
        "no complete answer in time the API is slow or out of reach; see polling.timeout and the network",
    ]
    assert page.row("failing")[1] == "? unknown"
    assert page.row("failing")[4] == "HTTP 401, Twilio error 20003 check the account's username and password"


@pytest.mark.parametrize(
    ("ago_seconds", "words"),
    [(119, "119 s ago"), (120, "2 min ago"), (7199, "119 min ago"), (7200, "2 h ago"), (172_800, "2 d ago")],
)
async def test_ages_are_in_the_largest_unit_that_tells_enough(
    tmp_path: Path, ago_seconds: float, words: str
) -> None:
    async with serving(tmp_path, entries("factor", interval="100d")) as house:
        house.tell("factor", VERIFIED, ago_seconds=ago_seconds + 0.1)
        page = await page_of(house)

    assert page.row("factor")[2] == words


async def test_a_clock_that_steps_back_gives_no_negative_age(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("factor"), clock=clock) as house:
        clock.leap(60)
        house.tell("factor", VERIFIED)
        page = await page_of(house)

    assert page.row("factor")[2] == "0 s ago"


async def test_accounts_say_whether_they_are_heard(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), accounts=("fresh", "main", "refused", "slowed")) as house:
        accounts = house.daemon.poller.accounts
        accounts["main"]._refusals.guard.heard(200)
        accounts["refused"]._refusals.guard.pause(house.daemon.clock.steady())
        now = house.daemon.clock.steady()
        accounts["slowed"]._refusals.guard.heard(429)
        accounts["slowed"].throttle.rate_limited(now, started=now, pause_seconds=60)
        page = await page_of(house)

    assert page.row("fresh")[1:3] == ["no answer yet", "0 of 4"]
    assert page.row("main")[1] == "✓ credentials good"
    assert page.row("refused")[1] == "✗ paused: credentials refused"
    assert page.row("slowed")[1:3] == ["‖ paused: rate limited", "0 of 2"]


@pytest.mark.parametrize("probe", PROBES)
async def test_what_is_written_in_names_labels_and_details_stays_text(tmp_path: Path, probe: str) -> None:
    async with serving(tmp_path, entries("plain")) as house:
        house.tell("plain", VERIFIED)
        plain = await page_of(house)
    async with serving(tmp_path, entries(probe, labels={"team": probe})) as house:
        house.tell(probe, VERIFIED, Failure(Reason.DECODE, probe))
        page = await page_of(house)

    row = page.row(probe)
    assert row[0] == f"{probe} main · push · team={probe} {SERVICE_SID}"
    assert row[4].startswith(probe)
    assert set(page.tags) == set(plain.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not any(probe in value for _, value in page.attributes)


async def test_it_is_whole_without_javascript(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), web={"telemetry_path": "/our-metrics"}) as house:
        house.tell("factor", VERIFIED)
        reply = await house.ask("/")
        page = Page(reply.text)
        links = [value for name, value in page.attributes if name == "href"]
        statuses = [(await house.ask(link)).status for link in links]

    assert links == ["/our-metrics", "/api/v1/factors", "/-/healthy", "/-/ready"]
    assert statuses == [200, 200, 200, 503]
    assert not {"script", "iframe", "img", "link", "object", "form"} & set(page.tags)
    assert not any(name.startswith("on") or "javascript:" in value for name, value in page.attributes)
    policy = reply.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert not any(part.startswith("script-src") for part in policy)
    assert "frame-ancestors 'none'" in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_it_shows_no_identity(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as house:
        house.tell("factor", VERIFIED)
        shown = (await house.ask("/")).text + (await house.ask("/api/v1/factors")).text

    assert IDENTITY not in shown


async def test_an_empty_watchlist_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path, accounts=()) as house:
        page = await page_of(house)

    assert ["The watchlist is empty: nothing is watched. List factors in the configuration file."] in page.rows
    assert ["No account is configured."] in page.rows
    assert "Page" not in page.text


async def test_many_factors_are_shown_page_by_page(tmp_path: Path) -> None:
    names = [f"factor-{number:03d}" for number in range(450)]
    async with serving(tmp_path, entries(*names)) as house:
        pages = [await page_of(house, f"/?page={number}") for number in (1, 2, 3)]
        beyond = await page_of(house, "/?page=99")
        first = await page_of(house)

    shown = [[row[0].split()[0] for row in page.rows if row[0].startswith("factor-")] for page in pages]
    assert [len(part) for part in shown] == [200, 200, 50]
    assert [name for part in shown for name in part] == names
    assert [re.findall(r"Page \d of \d, 450 factors\.|Previous|Next", page.text) for page in pages] == [
        ["Page 1 of 3, 450 factors.", "Next"],
        ["Page 2 of 3, 450 factors.", "Previous", "Next"],
        ["Page 3 of 3, 450 factors.", "Previous"],
    ]
    assert ("href", "?page=3") in pages[1].attributes
    assert beyond.rows[1:] == pages[2].rows[1:]
    assert first.rows == pages[0].rows


@pytest.mark.parametrize("page", ["0", "-1", "x", "", "1.0", "٣", "9" * 30])
async def test_a_page_that_is_no_number_is_refused_by_name(tmp_path: Path, page: str) -> None:
    async with serving(tmp_path, entries("factor")) as house:
        reply = await house.ask(f"/?page={page}")

    assert (reply.status, reply.text) == (400, "page: not a whole number of at least 1\n")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_head_has_the_length_of_the_page(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as house:
        house.tell("factor", Answer(Status.VERIFIED), ago_seconds=7300)
        whole, head = await house.ask("/"), await house.ask("/", "HEAD")

    assert head.status == 200
    assert head.body == b""
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(whole.body))
