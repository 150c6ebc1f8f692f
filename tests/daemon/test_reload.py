"""Hot reload: what changes at once, what stays with a factor, and what a refusal leaves as it was."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from exporter.config import ConfigError, load
from exporter.daemon.daemon import Daemon
from exporter.logs.output import LogOutput, Redactor, configure
from exporter.polling.roster import Difference
from exporter.simulator import Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scrape import Scrape

FACTOR_FAMILY = "twilio_verify_factor_"


def of_factor(page: Scrape, name: str) -> list[str]:
    """Return the lines of a factor."""
    return [
        line for line in page.text.splitlines() if line.startswith(FACTOR_FAMILY) and f'factor="{name}"' in line
    ]


@pytest.fixture
def quick_watch(monkeypatch: pytest.MonkeyPatch, brisk: None) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)


@pytest.fixture
def logged_output(log_restored: None) -> tuple[LogOutput, io.StringIO]:
    """The log of the process, as ``run`` configures it, and what it writes to."""
    stream = io.StringIO()
    return configure(level="info", style="logfmt", redact=Redactor(), stream=stream), stream


@pytest.mark.slow
async def test_factors_come_go_and_change_at_one_moment(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    accounts = {"main": account_of(simulator)}
    one, two, three, four = (simulator.add_factor() for _ in range(4))
    path = tmp_path / "config.toml"
    write_config(path, accounts, [entry("one", one), entry("two", two), entry("three", three)])
    async with running(path) as exporter:
        await exporter.shows(
            lambda page: page.counts() == {"verified": 3, "unverified": 0, "not_found": 0, "unknown": 0}
        )
        before = await exporter.scrape()
        write_config(
            path, accounts, [entry("one", one), entry("zwei", two, labels={"team": "ops"}), entry("four", four)]
        )
        assert await exporter.daemon.reload() == Difference(added=1, removed=1, changed=1)
        page = await exporter.scrape()
        assert of_factor(page, "two") == of_factor(page, "three") == []
        assert page.factor("verified", "zwei", team="ops") == 1
        newer, older = (
            of.factor("last_success_timestamp_seconds", n) for of, n in ((page, "zwei"), (before, "two"))
        )
        assert newer is not None
        assert older is not None
        assert newer >= older
        assert page.factor("fetch_failures_total", "zwei") == 0
        assert page.value("twilio_verify_exporter_watchlist_factors") == 3
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == 1
        taken = "twilio_verify_exporter_config_last_reload_success_timestamp_seconds"
        assert page.total(taken) > before.total(taken)
        assert page.samples("twilio_verify_exporter_config_hash_info") != before.samples(
            "twilio_verify_exporter_config_hash_info"
        )
        await exporter.shows(lambda page: page.factor("verified", "four") == 1)


async def test_counters_and_state_survive_a_new_name(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    factor = simulator.add_factor()
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [entry("old", factor)], polling={"max_attempts": 1})
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "old") == 1)
        simulator.faults.add(Fault(FaultKind.STATUS, status=500))
        failed = await exporter.shows(lambda page: page.factor("fetch_failures_total", "old") == 1)
        write_config(path, accounts, [entry("new", factor)], polling={"max_attempts": 1, "interval": "1h"})
        key = exporter.daemon.engine.config.factors[0].key
        due = exporter.daemon.engine.schedule.waiting(key) or 0.0
        await exporter.daemon.reload()
        page = await exporter.scrape()
        assert (page.factor("fetch_failures_total", "new") or 0) >= 1
        assert page.factor("verified", "new") == 1
        assert page.factor("up", "new") == 0
        for family in ("last_success_timestamp_seconds", "last_verified_timestamp_seconds"):
            assert page.factor(family, "new") == failed.factor(family, "old")
        assert page.factor("interval_seconds", "new") == 3600
        assert (exporter.daemon.engine.schedule.waiting(key) or 0.0) <= due + 1


async def test_a_late_answer_never_counts_for_a_removed_factor(
    simulator: Simulator, tmp_path: Path, brisk: None
) -> None:
    kept, gone = simulator.add_factor(), simulator.add_factor()
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [entry("kept", kept), entry("gone", gone)])
    slow = Fault(FaultKind.LATENCY, seconds=0.6, factor_sid=gone.sid)
    simulator.faults.add(slow)
    async with running(path) as exporter:
        await becomes(lambda: simulator.calls.by_factor[gone.sid] == 1)
        write_config(path, accounts, [entry("kept", kept)])
        assert await exporter.daemon.reload() == Difference(removed=1)
        fetches = (await exporter.scrape()).total("twilio_verify_fetches_total")
        write_config(path, accounts, [entry("kept", kept, interval="1h"), entry("gone", gone, interval="1h")])
        assert await exporter.daemon.reload() == Difference(added=1, changed=1)
        await becomes(lambda: exporter.daemon.engine.poller.accounts["main"].throttle.in_flight == 0)
        page = await exporter.scrape()
        assert page.factor("verified", "gone") is None, "the answer was for the one that was removed"
        assert page.factor("up", "gone") is None
        assert page.total("twilio_verify_fetches_total") <= fetches + 2
        assert simulator.calls.by_factor[gone.sid] == 1


async def test_an_answer_for_another_identity_is_dropped_and_the_factor_fetched_soon(
    simulator: Simulator, tmp_path: Path, brisk: None
) -> None:
    factor = simulator.add_factor()
    wrong = entry("one", factor) | {"identity": "nobody-at-all"}
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [wrong], polling={"interval": "10m"})
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        await exporter.shows(lambda page: page.factor("exists", "one") == 0)
        write_config(path, accounts, [entry("one", factor)], polling={"interval": "10m"})
        assert await exporter.daemon.reload() == Difference(changed=1)
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("[polling]\ninterval = 5\n", "polling.interval"),
        ("[accounts.main\n", r"config.toml:1:15: expected"),
        ('[accounts.main]\naccount_sid = "nonsense"\n', "account_sid"),
    ],
)
async def test_a_bad_configuration_is_refused_whole(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, brisk: None, bad: str, complaint: str
) -> None:
    accounts = {"main": account_of(simulator)}
    factor = simulator.add_factor()
    path = write_config(tmp_path / "config.toml", accounts, [entry("one", factor)])
    good = path.read_text()
    async with running(path) as exporter:
        before = await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        path.write_text(bad)
        with pytest.raises(ConfigError, match=complaint):
            await exporter.daemon.reload()
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == 0
        name = "twilio_verify_exporter_config_last_reload_success_timestamp_seconds"
        assert page.value(name) == before.value(name)
        assert page.samples("twilio_verify_exporter_config_hash_info") == before.samples(
            "twilio_verify_exporter_config_hash_info"
        )
        assert await exporter.status("/-/ready") == 200
        requests = simulator.calls.total
        await becomes(lambda: simulator.calls.total > requests)
        assert "configuration refused" in caplog.text
        assert any(complaint in str(getattr(line, "fields", {}).get("error")) for line in caplog.records)
        path.write_text(good)
        assert await exporter.daemon.reload() == Difference()
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == 1


async def test_changed_files_are_taken_by_themselves(
    simulator: Simulator, tmp_path: Path, quick_watch: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As a ConfigMap changes: another directory behind the same symlink."""
    caplog.set_level(logging.INFO)
    one, two = simulator.add_factor(), simulator.add_factor()
    accounts = {"main": account_of(simulator)}
    for name, factors in (("v1", [entry("one", one)]), ("v2", [entry("one", one), entry("two", two)])):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name / "config.toml", accounts, factors)
    link = tmp_path / "data"
    link.symlink_to("v1")
    async with running(link / "config.toml") as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").rename(link)
        await exporter.shows(lambda page: page.factor("verified", "two") == 1)
        assert caplog.text.count("configuration reloaded") == 1


async def test_refused_content_is_logged_once_and_the_refusal_ends_when_it_is_restored(
    simulator: Simulator, tmp_path: Path, quick_watch: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, [entry("one", simulator.add_factor())]
    )
    good = path.read_text()
    async with running(path) as exporter:
        path.write_text(good + "\n[pollin]\n")
        name = "twilio_verify_exporter_config_last_reload_successful"
        await exporter.shows(lambda page: page.value(name) == 0)
        await asyncio.sleep(0.5)
        assert caplog.text.count("configuration refused") == 1
        path.write_text(good)
        await exporter.shows(lambda page: page.value(name) == 1)


async def test_accounts_and_services_come_and_go_with_all_their_series(
    simulator: Simulator, tmp_path: Path, brisk: None
) -> None:
    main = account_of(simulator)
    one, two = simulator.add_factor(), simulator.add_factor(service_sid="VA" + "0" * 32)
    path = write_config(tmp_path / "config.toml", {"main": main}, [entry("one", one)])
    async with running(path) as exporter:
        before = await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        names = {line.split("{")[0] for line in before.text.splitlines() if 'account="main"' in line}
        write_config(
            path,
            {"main": main, "second": main},
            [entry("one", one, account="main"), entry("two", two, account="second")],
        )
        assert await exporter.daemon.reload() == Difference(added=1)
        page = await exporter.shows(lambda page: page.factor("verified", "two", account="second") == 1)
        assert {line.split("{")[0] for line in page.text.splitlines() if 'account="second"' in line} == names
        write_config(path, {"main": main}, [entry("one", one)])
        simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, factor_sid=two.sid))
        assert await exporter.daemon.reload() == Difference(removed=1)
        page = await exporter.scrape()
        assert 'account="second"' not in page.text
        assert page.counts() == {"verified": 1, "unverified": 0, "not_found": 0, "unknown": 0}
        await becomes(lambda: not exporter.daemon.engine.background)
        assert 'account="second"' not in (await exporter.scrape()).text


async def test_a_service_without_factors_leaves_nothing(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    one, two = simulator.add_factor(), simulator.add_factor(service_sid="VA" + "0" * 32)
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [entry("one", one), entry("two", two)])
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.counts()["verified"] == 2)
        write_config(path, accounts, [entry("one", one)])
        await exporter.daemon.reload()
        assert two.service_sid not in (await exporter.scrape()).text


async def test_new_credentials_end_a_pause(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    factor = simulator.add_factor()
    path = tmp_path / "config.toml"
    write_config(path, {"main": account_of(simulator, password="wrong")}, [entry("one", factor)])
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.value("twilio_verify_credentials_valid") == 0)
        write_config(path, {"main": account_of(simulator)}, [entry("one", factor)])
        await exporter.daemon.reload()
        page = await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        assert page.value("twilio_verify_credentials_valid") == 1


@pytest.mark.slow
async def test_another_address_takes_over_and_what_the_old_one_still_says_is_dropped(
    simulator: Simulator, tmp_path: Path, brisk: None
) -> None:
    factor = simulator.add_factor()
    path = tmp_path / "config.toml"
    write_config(path, {"main": account_of(simulator)}, [entry("one", factor)])
    async with Simulator(seed=7) as other, running(path) as exporter:
        other.add_factor(service_sid=factor.service_sid, identity=factor.identity, factor_sid=factor.sid)
        other.set_status(factor.sid, "unverified")
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        simulator.faults.add(Fault(FaultKind.LATENCY, seconds=0.7))
        requests = simulator.calls.total
        await becomes(lambda: simulator.calls.total > requests)
        write_config(
            path, {"main": account_of(other)}, [entry("one", factor)], polling={"unverified_interval": "1s"}
        )
        await exporter.daemon.reload()
        await exporter.shows(lambda page: page.factor("verified", "one") == 0)
        for _ in range(10):
            assert (await exporter.scrape()).factor("verified", "one") == 0
            await asyncio.sleep(0.1)


async def test_settings_take_effect_without_a_restart(
    simulator: Simulator, tmp_path: Path, brisk: None, caplog: pytest.LogCaptureFixture
) -> None:
    factor = simulator.add_factor(status="unverified")
    accounts = {"main": account_of(simulator)}
    path = write_config(
        tmp_path / "config.toml",
        accounts,
        [entry("one", factor)],
        polling={"interval": "10m"},
        metrics={"identity": "plain"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        page = await exporter.shows(lambda page: page.factor("verified", "one") == 0)
        assert page.factor("info", "one", identity=factor.identity) == 1
        assert page.factor("interval_seconds", "one") == 1
        write_config(
            path,
            {"main": account_of(simulator, max_concurrency=2, requests_per_second=3)},
            [entry("one", factor)],
            polling={"interval": "10m", "unverified_interval": "2m"},
            metrics={"identity": "none", "factor_families": ["verified", "info", "interval_seconds"]},
            web={"listen_address": "127.0.0.1:0", "telemetry_path": "/elsewhere"},
            log={"level": "error"},
        )
        try:
            await exporter.daemon.reload()
            page = await exporter.scrape()
            assert page.factor("interval_seconds", "one") == 120
            assert page.factor("info", "one") == 1
            assert {line.split("{")[0] for line in of_factor(page, "one")} == {
                FACTOR_FAMILY + name for name in ("verified", "info", "interval_seconds")
            }
            assert page.value("twilio_verify_api_concurrency_limit") == 2
            assert page.value("twilio_verify_api_budget_requests_per_second") == 3
            assert logging.getLogger("exporter").level == logging.ERROR
            assert "restart needed for changed keys" in caplog.text
        finally:
            logging.getLogger("exporter").setLevel(logging.NOTSET)
            logging.getLogger().setLevel(logging.WARNING)


async def test_a_reload_changes_the_style_of_the_log(
    simulator: Simulator, tmp_path: Path, logged_output: tuple[LogOutput, io.StringIO]
) -> None:
    output, stream = logged_output
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts)
    async with running(path, log_output=output) as exporter:
        write_config(path, accounts, log={"format": "json"})
        await exporter.daemon.reload()
        line = json.loads(stream.getvalue().splitlines()[-1])
        assert line["msg"] == "configuration reloaded"


async def test_a_reload_does_not_make_it_start_again(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    accounts = {"main": account_of(simulator)}
    one, two = simulator.add_factor(), simulator.add_factor()
    path = write_config(tmp_path / "config.toml", accounts, [entry("one", one)])
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        assert await exporter.status("/-/ready") == 200
        simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, factor_sid=two.sid))
        write_config(path, accounts, [entry("one", one), entry("two", two)])
        await exporter.daemon.reload()
        assert exporter.daemon.engine.poller.first_fetches_pending == 1
        assert await exporter.status("/-/ready") == 200


@pytest.mark.slow
async def test_a_paused_factor_shows_its_info_alone_and_comes_back(
    simulator: Simulator, tmp_path: Path, brisk: None
) -> None:
    factor = simulator.add_factor()
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [entry("one", factor)])
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        write_config(path, accounts, [entry("one", factor, paused=True)])
        assert await exporter.daemon.reload() == Difference(changed=1)
        page = await exporter.scrape()
        assert [line.split("{")[0] for line in of_factor(page, "one")] == [FACTOR_FAMILY + "info"]
        assert page.value("twilio_verify_exporter_watchlist_factors") == 0
        requests = simulator.calls.total
        await asyncio.sleep(1.3)
        assert simulator.calls.total <= requests + 1
        write_config(path, accounts, [entry("one", factor)])
        await exporter.daemon.reload()
        page = await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        assert page.counts() == {"verified": 1, "unverified": 0, "not_found": 0, "unknown": 0}
        requests = simulator.calls.total
        await becomes(lambda: simulator.calls.total > requests)


async def test_a_reload_that_ends_after_the_stop_began_is_not_applied(
    simulator: Simulator, tmp_path: Path, brisk: None
) -> None:
    accounts = {"main": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [entry("one", simulator.add_factor())])
    async with running(path) as exporter:
        write_config(
            path,
            accounts | {"other": account_of(simulator)},
            [entry("two", simulator.add_factor(), account="main")],
        )
        exporter.daemon.readiness.draining = True
        with pytest.raises(ConfigError, match="the exporter is stopping"):
            await exporter.daemon.reload()
        assert exporter.daemon.engine.poller.accounts.keys() == {"main"}


async def test_without_a_file_a_signal_says_so(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, [])
    daemon = Daemon(load(path, environ={}, flags={}))
    daemon.request_reload()
    assert "reload ignored" in caplog.text
    with pytest.raises(ConfigError, match="not read from a file"):
        await daemon.reload()
    await daemon.engine.poller.drain(0)
