"""``/-/verified``: what it takes to pass, and what the lines say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import make_mocked_request

from exporter.simulator import Fault, FaultKind, Simulator
from exporter.verify.outcome import Failure, Reason
from exporter.web.verified import Verified
from tests.support.config_files import account_of, append_entries, entry, write_config
from tests.support.https_exporter import get
from tests.support.passwords import HASHED, PASSWORD, header
from tests.support.running_exporter import LeapingClock, running, until
from tests.support.served_exporter import (
    ACCOUNT_SID,
    IDENTITY,
    NOT_FOUND,
    SERVICE_SID,
    UNVERIFIED,
    VERIFIED,
    entries,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.polling.refusals import CredentialGuard
    from tests.support.served_exporter import ServedExporter

ENTITY = {"name": "some", "account": "main", "service_sid": SERVICE_SID, "identity": IDENTITY}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as started:
        yield started


def guard(served: ServedExporter, account: str = "main") -> CredentialGuard:
    return served.daemon.engine.poller.accounts[account]._refusals.guard


async def verified(served: ServedExporter) -> tuple[int, list[str]]:
    reply = await served.request("/-/verified")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-store"
    return reply.status, reply.text.splitlines()


async def test_an_account_passes_when_one_factor_is_found_with_good_credentials(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("a", "b", "c", "d")) as served:
        nothing = await verified(served)
        served.apply("a", VERIFIED)
        without_credentials = await verified(served)
        guard(served).heard(404)
        served.apply("a", NOT_FOUND, code=404)
        missing = await verified(served)
        served.apply("b", UNVERIFIED)
        found = await verified(served)
        served.apply("c", VERIFIED)
        served.apply("d", Failure(Reason.TIMEOUT), code=0)
        mixed = await verified(served)
        served.apply("b", Failure(Reason.FORBIDDEN), code=403)
        served.apply("c", Failure(Reason.SERVER_ERROR), code=500)
        failing = await verified(served)

    shard = "shard 0/1: 4 of 4 listed factors"
    fails, passes = "account main fails: credentials", "account main passes: credentials accepted"
    assert nothing == (
        503,
        [f"{fails} not confirmed yet, 0 of 4 factors found, 4 without a current answer", shard],
    )
    assert without_credentials[0] == 503
    assert missing == (
        503,
        [f"{fails} accepted, 0 of 4 factors found, 1 not found, 3 without a current answer", shard],
    )
    assert found == (200, [f"{passes}, 1 of 4 factors found, 1 not found, 2 without a current answer", shard])
    assert mixed == (200, [f"{passes}, 2 of 4 factors found, 1 not found, 1 failed", shard])
    assert failing == (503, [f"{fails} accepted, 0 of 4 factors found, 1 not found, 3 failed", shard])


async def test_every_account_must_pass(tmp_path: Path) -> None:
    other = {**entries("two")[0], "account": "other"}
    async with serving(tmp_path, [*entries("one"), other], accounts=("main", "other")) as served:
        for account, name in (("main", "one"), ("other", "two")):
            guard(served, account).heard(200)
            status, lines = await verified(served)
            assert status == 503
            assert (
                f"account {account} fails: credentials accepted, 0 of 1 factors found, 1 without a current answer"
                in lines
            )
            served.apply(name, VERIFIED)
        assert await verified(served) == (
            200,
            [
                "account main passes: credentials accepted, 1 of 1 factors found",
                "account other passes: credentials accepted, 1 of 1 factors found",
                "shard 0/1: 2 of 2 listed factors",
            ],
        )


async def test_paused_factors_neither_help_nor_hinder(tmp_path: Path) -> None:
    watched = [*entries("one"), *({**item, "paused": True} for item in entries("", "paused")[1:])]
    async with serving(tmp_path, watched) as served:
        guard(served).heard(200)
        served.apply("paused", VERIFIED)  # before it was paused
        alone = await verified(served)
        served.apply("one", VERIFIED)
        both = await verified(served)

    assert alone[0] == 503
    assert both == (
        200,
        ["account main passes: credentials accepted, 1 of 1 factors found", "shard 0/1: 2 of 2 listed factors"],
    )


async def test_an_account_without_a_factor_here_passes_and_claims_nothing(tmp_path: Path) -> None:
    paused = [{**item, "account": "idle", "paused": True} for item in entries("", "paused")[1:]]
    async with serving(
        tmp_path, [*entries("one"), *paused], accounts=("main", "idle"), sharding={"shard": "1/2"}
    ) as served:
        assert [record.watched.name for record in served.daemon.engine.ledger] == ["paused"]
        assert await verified(served) == (
            200,
            [
                "account main passes: no unpaused factor here, so its credentials were not used",
                "account idle passes: no unpaused factor here, so its credentials were not used",
                "shard 1/2: 1 of 2 listed factors",
            ],
        )


async def test_refused_credentials_fail_with_factors_and_without(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), accounts=("main", "idle")) as served:
        guard(served).heard(200)
        served.apply("one", VERIFIED)
        good = await verified(served)
        guard(served).pause(served.daemon.engine.clock.steady())
        refused = await verified(served)
        guard(served).resume()
        guard(served, "idle").pause(served.daemon.engine.clock.steady())
        idle = await verified(served)

    assert good[0] == 200
    assert refused[0] == idle[0] == 503
    hint = "fails: credentials refused; correct them or their permissions"
    assert [line for line in refused[1] if "fails" in line] == [f"account main {hint}"]
    assert [line for line in idle[1] if "fails" in line] == [f"account idle {hint}"]


@pytest.mark.parametrize("array", ["entities", "services"])
async def test_an_account_of_listings_needs_an_answer(tmp_path: Path, array: str) -> None:
    keys = {name: value for name, value in ENTITY.items() if array == "entities" or name != "identity"}
    async with serving(tmp_path, entries("other", account="idle"), accounts=("main", "idle")) as served:
        path = append_entries(tmp_path / "config.toml", array, keys)
        assert path.exists()
        await served.daemon.reload()
        guard(served, "idle").heard(200)
        served.apply("other", VERIFIED)
        before = await verified(served)
        guard(served).heard(200)
        after = await verified(served)

    assert before[0] == 503
    assert before[1][0] == "account main fails: credentials not confirmed yet, no unpaused factor here"
    assert after[0] == 200
    assert after[1][0] == "account main passes: credentials accepted, no unpaused factor here"


async def test_what_became_stale_is_not_found_any_more(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("one"), clock=clock) as served:
        guard(served).heard(200)
        served.apply("one", VERIFIED)
        fresh = await verified(served)
        clock.leap(3 * 300 + 1)
        stale = await verified(served)

    assert fresh[0] == 200
    assert stale[0] == 503
    assert stale[1][0].endswith("0 of 1 factors found, 1 without a current answer")


async def test_only_answers_with_the_present_credentials_count(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("one", "two"), clock=clock) as served:
        guard(served).heard(200)
        served.apply("one", VERIFIED)
        served.apply("two", VERIFIED)
        before = await verified(served)
        clock.leap(1)
        served.daemon.engine.poller.accounts["main"].credentials_changed()
        changed = await verified(served)
        clock.leap(1)
        served.apply("one", VERIFIED)
        after = await verified(served)

    assert before[0] == 200
    assert changed[0] == 503
    assert changed[1][0] == (
        "account main fails: credentials not confirmed yet, 0 of 2 factors found, 2 without a current answer"
    )
    assert after[0] == 200
    assert "1 of 2 factors found, 1 without a current answer" in after[1][0]


async def test_a_pause_for_a_429_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), clock=LeapingClock()) as served:
        now = served.daemon.engine.clock.steady()
        served.daemon.engine.poller.accounts["main"].throttle.rate_limited(now, started=now, pause_seconds=60.0)
        status, lines = await verified(served)

    assert status == 503
    assert lines[0].startswith("account main fails: credentials not confirmed yet, paused by HTTP 429, 0 of 1 ")


async def test_the_answer_names_accounts_but_no_secret_identity_or_factor(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("payments")) as served:
        for state in ("", "accepted", "refused"):
            if state == "accepted":
                guard(served).heard(200)
            if state == "refused":
                guard(served).pause(0.0)
            served.apply("payments", VERIFIED)
            text = (await served.request("/-/verified")).text
            assert state in text
            assert "account main " in text
            for kept in ("made-up", ACCOUNT_SID, IDENTITY, SERVICE_SID, "payments", "127.0.0.1"):
                assert kept not in text


async def test_basic_authentication_applies(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  reader: {HASHED}\n", encoding="utf-8")
    async with serving(tmp_path, entries("one"), web={"config_file": "web.yml"}) as served:
        refused = await served.request("/-/verified")
        wrong = await served.request("/-/verified", Authorization=header("reader", "wrong"))
        good = await served.request("/-/verified", Authorization=header("reader", PASSWORD))
        open_ = await served.request("/-/ready")

    assert (refused.status, wrong.status, good.status) == (401, 401, 503)
    assert "account" not in refused.text + wrong.text
    assert good.text.startswith("account main fails: ")
    assert open_.status != 401


async def test_probes_do_not_get_it(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web={"health_listen_address": "127.0.0.1:0"}) as served:
        health = served.daemon.health_server
        await health.start(served.daemon.engine.config.settings.web.listen_address)
        try:
            assert (await get(f"{health.addresses[0]}/-/verified"))[0] == 404
        finally:
            await health.stop()


async def test_other_tasks_run_while_many_factors_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, entries(*(f"f{number}" for number in range(3001)))) as served:
        engine = served.daemon.engine
        guard(served).heard(200)
        served.apply("f0", VERIFIED)
        handler = Verified(served.daemon.view)
        counting = asyncio.create_task(handler.answer(make_mocked_request("GET", "/-/verified")))
        steps = 0
        while not counting.done():
            await asyncio.sleep(0)
            steps += 1
            engine.ledger.forget(served.key(f"f{steps}"))  # a reload may do so meanwhile
        text = (await counting).text or ""

    assert steps >= 4
    assert text.startswith("account main passes: credentials accepted, 1 of 3001 factors found, 3000 without")


# Against a simulated API


async def test_a_restored_status_proves_nothing(simulator: Simulator, tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("one", simulator.add_factor())],
        polling={"interval": "10m", "unverified_interval": "10m"},
        state={"file": "state.jsonl"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        good = await until(lambda: exporter.get("/-/verified"), lambda reply: reply[0] == 200)
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))
    later = LeapingClock(clock.steady() + 20)
    later.stop()
    async with running(path, clock=later) as exporter:
        page = await exporter.scrape()
        restored = await exporter.get("/-/verified")

    assert good[1].startswith("account main passes: credentials accepted, 1 of 1 factors found\n")
    assert page.counts()["verified"] == 1
    assert restored[0] == 503
    assert restored[1].startswith(
        "account main fails: credentials not confirmed yet, 0 of 1 factors found, 1 without a current answer\n"
    )


async def test_a_wrong_key_is_named_by_its_account_only(simulator: Simulator, tmp_path: Path) -> None:
    factors = [simulator.add_factor() for _ in range(2)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator), "other": account_of(simulator, password="wrong-key")},
        [entry(name, factor, account=name) for name, factor in zip(("main", "other"), factors, strict=True)],
    )
    async with running(path) as exporter:
        status, text = await until(
            lambda: exporter.get("/-/verified"), lambda reply: "main passes" in reply[1] and "refused" in reply[1]
        )

    assert status == 503
    assert text.splitlines() == [
        "account main passes: credentials accepted, 1 of 1 factors found",
        "account other fails: credentials refused; correct them or their permissions",
        "shard 0/1: 2 of 2 listed factors",
    ]
    for kept in ("wrong-key", simulator.password, simulator.account_sid, *(factor.identity for factor in factors)):
        assert kept not in text
