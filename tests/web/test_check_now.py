"""“Check now” on a factor's page: the fetch of ``/probe`` with its rules, and the result as it was observed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.html import Page, page_of
from tests.support.running_exporter import LeapingClock, becomes, running
from tests.support.served_exporter import SERVICE_SID, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.simulator import SimulatedFactor
    from tests.support.running_exporter import Exporter
    from tests.support.served_exporter import Reply, ServedExporter

OPEN = {"enable_probe": True}
PATH = f"/factors/main/{SERVICE_SID}/one"


class World:
    """An exporter whose factor was fetched once, eleven seconds ago."""

    def __init__(self, exporter: Exporter, simulator: Simulator, factor: SimulatedFactor) -> None:
        self.exporter = exporter
        self.simulator = simulator
        self.factor = factor

    @property
    def calls(self) -> int:
        return len(self.simulator.calls.log)

    async def check(self) -> Page:
        """Press the button."""
        url = f"{self.exporter.url}/factors/main/{self.factor.service_sid}/one"
        async with self.exporter._session.post(url, headers={"Origin": self.exporter.url}) as answer:
            assert answer.status == 200
            return Page(await answer.text())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Simulator(seed=7) as simulator:
        factor = simulator.add_factor()
        polling = {"interval": "1h", "timeout": "5s", "max_attempts": 1}
        accounts = {"main": account_of(simulator)}
        path = write_config(tmp_path / "c.toml", accounts, [entry("one", factor)], polling=polling, web=OPEN)
        clock = LeapingClock()
        async with running(path, clock=clock) as exporter:
            clock.leap(30)
            await becomes(lambda: all(record.last_seconds for record in exporter.daemon.engine.ledger))
            clock.leap(11)
            yield World(exporter, simulator, factor)


async def press(served: ServedExporter, path: str = PATH, **headers: str) -> Reply:
    return await served.request(path, "POST", b"", **headers)


async def test_the_factor_is_fetched_and_its_page_shows_the_new_status(world: World) -> None:
    world.simulator.set_status(world.factor.sid, "unverified")
    before = world.calls
    page = await world.check()
    assert world.calls == before + 1
    assert page.parts["checked"].startswith("Checked 2027-01-15 ")
    assert page.parts["checked"].endswith(" UTC: unverified, by HTTP 200.")
    assert page.parts["lead"].startswith("✗ unverified")
    assert page.rows[1][1] == "✗ unverified"


async def test_a_failed_fetch_is_reported_as_one_and_the_status_stays(world: World) -> None:
    world.simulator.faults.add(Fault(FaultKind.STATUS, status=503))
    page = await world.check()
    assert ": the fetch failed: HTTP 503" in page.parts["checked"]
    assert page.parts["lead"].startswith("✓ verified ! failing")


async def test_a_fresh_answer_is_not_repeated_and_the_page_says_so(world: World) -> None:
    await world.check()
    before = world.calls
    page = await world.check()
    assert world.calls == before
    assert re.fullmatch(r"Not fetched again: the last answer is [0-9] s old, under 10 s\.", page.parts["checked"])


async def test_the_button_is_there_only_where_it_would_fetch(tmp_path: Path) -> None:
    factors = [*entries("one"), *entries("two", "paused", paused=True)[1:]]
    paused = f"/factors/main/{SERVICE_SID}/paused"
    async with serving(tmp_path, factors, web=OPEN) as served:
        page = await page_of(served, PATH)
        assert "check" in page.parts
        assert ("method", "post") in page.attributes
        assert "check" not in (await page_of(served, paused)).parts
        reply = await press(served, paused)
        assert reply.status == 200
        assert "check" not in Page(reply.text).parts
    async with serving(tmp_path, factors) as served:
        page = await page_of(served, PATH)
        assert "check" not in page.parts
        assert "checked" not in page.parts
        reply = await press(served)
        assert (reply.status, reply.text) == (403, "disabled: web.enable_probe is false\n")


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, "refused: cross-site request\n"),
        ({"Origin": "https://elsewhere.example"}, "refused: cross-site request\n"),
        ({"Origin": "null"}, "refused: cross-site request\n"),
        (
            {"Host": "rebound.example"},
            'refused: the host "rebound.example" is not in web.allowed_hosts; add its name, or use an IP address\n',
        ),
    ],
)
async def test_other_sites_and_unknown_hosts_are_refused(tmp_path: Path, headers: dict[str, str], why: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        reply = await press(served, **headers)
        assert (reply.status, reply.text) == (403, why)
        assert served.daemon.engine.poller.first_fetches_pending == 1


async def test_a_paused_account_gets_no_request(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        account = served.daemon.engine.poller.accounts["main"]
        account._refusals.guard.pause(served.daemon.engine.clock.steady())
        reply = await press(served)
        assert reply.status == 503
        assert int(reply.headers["Retry-After"]) > 1
        page = Page(reply.text)
        assert page.parts["checked"] == "Not checked: the account main is paused. The status page says why."


async def test_too_many_at_once_and_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.probe.MOST_WAITING", 2)
    monkeypatch.setattr("exporter.web.check.DEFAULT_SECONDS", 1.0)
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        served.daemon.engine.poller.accounts["main"].in_flight_keys.add(served.key("one"))  # it never ends
        replies = await asyncio.gather(*(press(served) for _ in range(3)))
        texts = {reply.status: Page(reply.text).parts["checked"] for reply in replies}
        assert sorted(reply.status for reply in replies) == [503, 504, 504]
        assert texts[503].startswith("Not checked: ")
        assert "probes are waiting" in texts[503]
        assert texts[504] == (
            "No result within 1 s: the fetch is still in flight, or the account's budget had no slot for it."
        )


async def test_nothing_is_fetched_while_the_exporter_stops(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        served.daemon.engine.poller.accounts["main"].stop()
        reply = await press(served)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert Page(reply.text).parts["checked"].startswith("Not checked: the exporter is stopping")


async def test_a_factor_that_is_paused_meanwhile_is_not_polled(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", paused=True), web=OPEN) as served:
        reply = await press(served)
        assert reply.status == 200
        assert "Checked" not in reply.text


@pytest.mark.parametrize("path", [f"/factors/main/{SERVICE_SID}/none", f"/factors/none/{SERVICE_SID}/one"])
async def test_an_unknown_factor_is_404(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        reply = await press(served, path)
        assert reply.status == 404
        assert Page(reply.text).parts["headline"] == "No such factor"


async def test_a_factor_removed_meanwhile_is_404(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", "two"), web=OPEN) as served:
        engine, key = served.daemon.engine, served.key("one")
        engine.poller.accounts["main"].in_flight_keys.add(key)
        pending = asyncio.create_task(press(served))
        await becomes(lambda: engine.poller.accounts["main"].in_flight_keys._ends.get(key) is not None)
        engine.roster.list([watched for watched in engine.config.factors if watched.name == "two"])
        engine.poller.accounts["main"].in_flight_keys.discard(key)
        assert (await pending).status == 404


async def test_the_page_names_the_methods_that_it_has(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        served.apply("one", VERIFIED)
        reply = await served.request(PATH, "PUT")
        assert reply.status == 405
        assert set(reply.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
