"""The status page: problems first, every state in words, usable without JavaScript."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn

import pytest
from jinja2 import PackageLoader

from exporter.verify.outcome import HINTS, Answer, Failure, Reason, Status
from tests.support.html import Page, page_of
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
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

TIMEOUT = Failure(Reason.TIMEOUT, "no complete answer in time")
FACTOR, STATE, SINCE, LAST, NEXT, LATENCY, FAILURE = range(7)


@pytest.fixture
async def states(tmp_path: Path) -> AsyncIterator[ServedExporter]:
    """A factor in each state."""
    factors = entries("good", "new", "gone", "kept", "never", "failing", "stale", labels={"team": "payments"})
    paused = entries("idle", paused=True)[0] | {"factor_sid": "YF" + "f" * 32}
    async with serving(tmp_path, [*factors, paused], clock=stopped()) as running:
        running.apply("good", VERIFIED, ago_seconds=30)
        running.apply("new", VERIFIED, UNVERIFIED)
        running.apply("gone", NOT_FOUND)
        running.apply("kept", VERIFIED, ago_seconds=240)
        running.apply("kept", TIMEOUT, duration_seconds=31.2, attempts=3)
        running.apply("failing", Failure(Reason.AUTH, "HTTP 401, Twilio error 20003"), ago_seconds=130)
        running.apply("failing", Failure(Reason.AUTH, "HTTP 401, Twilio error 20003"), ago_seconds=5)
        running.apply("stale", VERIFIED, ago_seconds=4000)
        yield running


async def test_every_state_is_shown_in_words_and_problems_come_first(states: ServedExporter) -> None:
    page = await page_of(states)

    assert page.parts["headline"] == "✗ 6 of 8 factors need attention"
    assert page.parts["tiles"] == "8 all 1 ∅ not found 1 ✗ unverified 3 ? unknown 2 ✓ verified 1 ‖ paused"
    assert page.parts["these"] == "Of these, 6 need attention and ! 2 are failing ."
    assert page.names == ["gone", "new", "failing", "stale", "never", "kept", "good", "idle"]
    assert page.row("good")[FACTOR] == "good main · push · team=payments"
    assert page.row("good")[STATE:NEXT] == ["✓ verified", "30 s or longer", "30 s ago"]
    assert page.row("good")[LATENCY:] == ["212 ms", "–"]
    assert page.row("new")[STATE:LAST] == ["✗ unverified", "0 s"]
    assert page.row("gone")[STATE] == "∅ not found"
    assert page.row("never")[STATE:NEXT] == ["? unknown", "–", "–"]
    assert page.row("stale")[STATE:NEXT] == ["? unknown", "51 min", "66 min ago"]
    assert page.row("idle")[STATE:] == ["‖ paused", "–", "–", "not polled", "–", "–"]
    assert page.row("kept")[STATE:NEXT] == ["✓ verified ! failing", "4 min or longer", "0 s ago"]
    assert page.row("kept")[LATENCY:] == [
        "31.2 s",
        (
            "no complete answer in time 0 s ago "
            "the API is slow or unreachable; check the network, or raise polling.timeout"
        ),
    ]
    assert page.row("failing")[STATE] == "? unknown ! failing"
    assert page.row("failing")[FAILURE] == (
        f"HTTP 401, Twilio error 20003 5 s ago , failing for 2 min {HINTS[Reason.AUTH]}"
    )


async def test_a_failure_is_shown_after_recovery(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), clock=stopped()) as running:
        running.apply("factor", TIMEOUT, ago_seconds=130)
        running.apply("factor", VERIFIED)
        page = await page_of(running)

    assert page.row("factor")[STATE] == "✓ verified"
    assert page.row("factor")[FAILURE].startswith("no complete answer in time 2 min ago ; recovered since the API")


async def test_the_next_check_is_shown(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("factor", interval="1h"), clock=clock) as running:
        key = running.key("factor")
        planned = await page_of(running)
        due = running.daemon.engine.schedule.waiting(key)
        assert due is not None
        clock.leap(due - clock.steady() + 0.5)
        overdue = await page_of(running)
        assert [popped for popped, _ in running.daemon.engine.schedule.pop_due(clock.steady())] == [key]
        in_flight = await page_of(running)
        running.daemon.engine.schedule.put_back(key, clock.steady(), 3600.0)
        running.daemon.engine.poller.accounts["main"]._refusals.guard.pause(clock.steady())
        paused = await page_of(running)

    assert re.fullmatch(r"now|in \d+ s", planned.row("factor")[NEXT])
    assert overdue.row("factor")[NEXT] == "now"
    assert in_flight.row("factor")[NEXT] == "queued or in flight"
    assert paused.row("factor")[NEXT] == "account paused"


@pytest.mark.parametrize(
    ("verified", "words"),
    [
        ((), "✗ 2 of 2 factors need attention"),
        (("one",), "✗ 1 of 2 factors needs attention"),
        (("one", "two"), "✓ All 2 factors are verified"),
    ],
)
async def test_the_headline(tmp_path: Path, verified: tuple[str, ...], words: str) -> None:
    async with serving(tmp_path, entries("one", "two")) as running:
        for name in verified:
            running.apply(name, VERIFIED)
        page = await page_of(running)

    assert page.parts["headline"] == words


async def test_if_all_factors_are_paused_none_is_called_verified(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", "two", paused=True)) as running:
        page = await page_of(running)

    assert page.parts["headline"] == "All factors are paused"


@pytest.mark.parametrize(
    ("ago_seconds", "words"),
    [(119, "119 s ago"), (120, "2 min ago"), (7199, "119 min ago"), (7200, "2 h ago"), (172_800, "2 d ago")],
)
async def test_ages_are_in_the_largest_sensible_unit(tmp_path: Path, ago_seconds: float, words: str) -> None:
    async with serving(tmp_path, entries("factor", interval="100d"), clock=stopped()) as running:
        running.apply("factor", VERIFIED, ago_seconds=ago_seconds + 0.1)
        page = await page_of(running)

    assert page.row("factor")[LAST] == words


async def test_a_clock_that_steps_back_gives_no_negative_age(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), clock=stopped()) as running:
        now = running.daemon.engine.clock.moment()
        running.daemon.engine.ledger[running.key("factor")].last_seconds = now.wall + 60
        page = await page_of(running)

    assert page.row("factor")[LAST] == "0 s ago"


async def test_accounts_show_budget_pause_and_hint(tmp_path: Path) -> None:
    names = ("fresh", "main", "refused", "slowed", "stretched")
    async with serving(tmp_path, entries("factor"), accounts=names, clock=stopped()) as running:
        accounts = running.daemon.engine.poller.accounts
        now = running.daemon.engine.clock.steady()
        accounts["main"]._refusals.guard.heard(200)
        accounts["refused"]._refusals.guard.pause(now)
        accounts["slowed"]._refusals.guard.heard(429)
        accounts["slowed"].throttle.rate_limited(now, started=now, pause_seconds=60)
        accounts["stretched"]._refusals.guard.heard(200)
        accounts["stretched"].stretch, accounts["stretched"].demand_requests_per_second = 2.5, 23.8
        page = await page_of(running)

    rows = {row[0]: row for row in page.rows[3:]}
    assert list(rows) == ["refused", "slowed", "stretched", "fresh", "main"]
    assert rows["fresh"][1] == "– no answer yet"
    assert rows["main"][1:4] == ["✓ credentials valid", "0 % 0.00 of 10.00 /s", "0 of 4"]
    assert re.fullmatch(r"✗ paused: credentials refused next attempt in 30 s", rows["refused"][1])
    assert re.fullmatch(r"‖ paused: rate limited resumes in 60 s", rows["slowed"][1])
    assert rows["slowed"][3] == "0 of 2 (4 configured)"
    assert rows["stretched"][2] == "238 % 23.80 of 10.00 /s over budget: intervals × 2.50"
    notices = [page.parts[f"notice-{number}"] for number in (1, 2, 3)]
    assert notices[0].startswith(
        "! Account refused is paused: its credentials were refused. None of its factors are"
    )
    assert "Correct the credentials or their permissions" in notices[0]
    assert notices[1].startswith(
        "! Account slowed is paused: the API limits its request rate (HTTP 429). Polling resumes in 6"
    )
    assert notices[2].startswith("! Account stretched is over budget: its intervals need 23.80 requests per second")
    assert "notice-4" not in page.parts


async def test_it_works_without_javascript(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), web={"telemetry_path": "/our-metrics"}) as running:
        running.apply("factor", VERIFIED)
        reply = await running.request("/?q=fac")
        page = Page(reply.text)
        links = [value for name, value in page.attributes if name in {"href", "src"} and not value.startswith("#")]
        statuses = {link: (await running.request("/" + link.removeprefix("./"))).status for link in links}

    assert statuses.pop("-/ready") == 503
    assert set(statuses.values()) == {200}
    assert {"our-metrics", "api/v1/factors", "-/healthy", f"factors/main/{SERVICE_SID}/factor?q=fac"} <= set(links)
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in reply.text
    assert {"iframe", "img", "object", "style"} & set(page.tags) == set()
    assert not any(name.startswith("on") or name == "style" or "javascript:" in v for name, v in page.attributes)
    assert ("method", "get") in page.attributes
    policy = reply.headers["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", "script-src 'self'"]
    assert {"connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'self'"} <= set(policy)
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert (reply.headers["Referrer-Policy"], reply.headers["Cache-Control"]) == ("same-origin", "no-store")


async def test_static_files_are_local_and_cacheable(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        page = await page_of(running)
        loaded = sorted(value for name, value in page.attributes if value.startswith("static/"))
        replies = [await running.request(f"/{address}") for address in loaded]
        missing = await running.request("/static/pages.py")
        up = await running.request("/static/..%2Fpages.py")

    assert [reply.headers["Content-Type"] for reply in replies] == [
        "image/svg+xml; charset=utf-8",
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
    ]
    assert all("immutable" in reply.headers["Cache-Control"] for reply in replies)
    assert all(re.search(r"\?[0-9a-f]{12}$", address) for address in loaded)
    assert not any(re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import", reply.text) for reply in replies)
    assert (missing.status, up.status) == (404, 404)


async def test_it_shows_no_identity_and_finds_none(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as running:
        running.apply("factor", VERIFIED)
        shown = (await running.request("/")).text + (await running.request("/api/v1/factors")).text
        searched = await page_of(running, f"/?q={IDENTITY[:12]}")

    assert IDENTITY not in shown
    assert searched.parts["rows"].startswith("No factors match.")


async def test_an_empty_watchlist(tmp_path: Path) -> None:
    async with serving(tmp_path, accounts=()) as running:
        page = await page_of(running)

    assert page.parts["headline"] == "No factors are watched"
    assert page.parts["rows"] == ("The watchlist is empty. Add factors to the configuration file.")
    assert page.parts["account-rows"] == "No accounts are configured."
    assert "pages" not in page.parts


async def test_head_has_the_length_of_the_page(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as running:
        running.apply("factor", Answer(Status.VERIFIED), ago_seconds=7300)
        head = await running.request("/", "HEAD")

    assert head.status == 200
    assert head.body == b""
    assert int(head.headers["Content-Length"]) > 2000


async def test_a_service_that_is_gone_is_a_notice(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", "two"), clock=stopped()) as running:
        running.apply("one", NOT_FOUND)
        before = await page_of(running)
        services = running.daemon.engine.services
        services._doubts["main", SERVICE_SID].exists = False
        page = await page_of(running)
        [account] = json.loads((await running.request("/api/v1/accounts")).text)["accounts"]
        metrics = (await running.request("/metrics")).text

    assert "notice-1" not in before.parts
    assert page.parts["notice-1"].startswith(
        f"! Account main has no service {SERVICE_SID}: the API answers 404 for it. Its factors can't be found."
    )
    assert account["service_exists"] == {SERVICE_SID: False}
    assert f'twilio_verify_service_exists{{account="main",service_sid="{SERVICE_SID}"}} 0.0' in metrics


async def test_an_upgrade_of_the_files_does_not_mix_with_the_running_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, entries("one")) as running:
        before = await running.request("/")

        def replaced(*_arguments: object) -> NoReturn:
            pytest.fail("a template is read again")

        monkeypatch.setattr(PackageLoader, "get_source", replaced)
        monkeypatch.setattr("os.path.getmtime", lambda _path: 0.0)
        after = await running.request("/")
    assert (before.status, after.status) == (200, 200)
