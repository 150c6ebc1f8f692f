"""Credentials that are refused: loud once, patient after, and over by itself."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from exporter.config import load
from exporter.daemon.parts import redactor_of
from exporter.simulator import Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from exporter.simulator import SimulatedFactor, Simulator

FACTORS = 10_000
DAY_SECONDS = 86_400
WATCH_SECONDS = 5.0  # how often password files are looked at


def write_csv(path: Path, factors: Iterable[SimulatedFactor]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("service_sid", "identity", "factor_sid"))
        writer.writerows((factor.service_sid, factor.identity, factor.sid) for factor in factors)


@pytest.mark.slow
async def test_a_wrong_password_pauses_the_account_until_its_file_is_corrected(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO]
) -> None:
    write_csv(tmp_path / "many.csv", [simulator.add_factor() for _ in range(FACTORS)])
    password = tmp_path / "password"
    password.write_text("not-the-password\n")
    path = write_config(
        tmp_path / "config.toml",
        {
            "main": account_of(
                simulator, password=None, password_file="password", max_concurrency=8, requests_per_second=1000
            )
        },
        polling={"interval": "1m"},
        watchlist={"files": ["many.csv"]},
        metrics={"factor_families": []},
    )
    config = load(path, environ={}, flags={})
    log = logged(redactor_of(config))
    async with running(config) as exporter:
        page = await exporter.shows(lambda page: (page.value("twilio_verify_exporter_queue_length") or 0) > 600)
        assert page.value("twilio_verify_credentials_valid") == 0
        assert page.value("twilio_verify_api_paused") == 1
        assert page.failures().keys() == {"auth"}
        assert page.counts()["unknown"] == FACTORS
        refused = simulator.calls.by_code["fetch", "401"]
        assert 1 <= refused <= 8 + 2, (
            "those in flight together, one that starts as the first ends, one that confirms"
        )
        assert simulator.calls.total == refused
        assert page.failures()["auth"] == refused, "a fetch that waits is not a failure"
        loud = [line for line in log.getvalue().splitlines() if " level=error " in line]
        assert len(loud) == 1, loud
        assert "account paused for refused credentials" in loud[0]
        assert "account=main" in loud[0]

        password.write_text(simulator.password)
        page = await exporter.shows(lambda page: page.value("twilio_verify_credentials_valid") == 1)
        assert page.value("twilio_verify_api_paused") == 0
        assert simulator.calls.by_code["fetch", "401"] == refused
        page = await exporter.shows(lambda page: page.counts()["verified"] > 100)
        assert page.failures() == {"auth": refused}

    lines = log.getvalue().splitlines()
    assert len([line for line in lines if " level=error " in line]) == 1
    assert sum("account resumed" in line for line in lines) == 1
    assert "Traceback" not in log.getvalue()
    assert simulator.password not in log.getvalue()


@pytest.mark.usefixtures("brisk")
async def test_a_rotation_in_progress_fails_no_fetch(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO]
) -> None:
    """Requests sent with the old password are sent again with the new one."""
    log = logged()
    names = [f"factor-{number}" for number in range(4)]
    factors = [simulator.add_factor() for _ in names]
    clock = LeapingClock()
    password = tmp_path / "password"
    password.write_text(simulator.password)
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, password=None, password_file="password")},
        [entry(name, factor) for name, factor in zip(names, factors, strict=True)],
        polling={"interval": "1d", "not_found_interval": "2d"},
    )
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        await exporter.shows(lambda page: page.counts()["verified"] == len(names))
        simulator.latency_seconds = 0.3
        clock.leap(DAY_SECONDS)
        await becomes(lambda: simulator.calls.in_flight == len(names))
        simulator.password = "the-new-password"
        password.write_text("the-new-password")

        await becomes(lambda: simulator.calls.by_code["fetch", "200"] == 2 * len(names))
        page = await exporter.shows(lambda page: page.total("twilio_verify_fetches_total") == 2 * len(names))
        assert simulator.calls.by_code["fetch", "401"] == len(names)
        assert page.failures() == {}
        assert page.value("twilio_verify_credentials_valid") == 1
        assert page.value("twilio_verify_api_paused") == 0
        for name in names:
            assert page.factor("interval_seconds", name) == DAY_SECONDS
            assert page.factor("up", name) == 1
    assert "level=error" not in log.getvalue()


@pytest.mark.usefixtures("brisk")
async def test_a_password_file_that_vanishes_is_logged_once_and_fails_no_fetch(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    log = logged()
    password = tmp_path / "password"
    password.write_text(simulator.password)
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, password=None, password_file="password")},
        [entry("watched", simulator.add_factor())],
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(1)
        password.unlink()
        await becomes(lambda: "level=error" in log.getvalue())
        calls = simulator.calls.by_code
        await becomes(lambda: calls["fetch", "200"] >= 1)
        [line] = [line for line in log.getvalue().splitlines() if " level=error " in line]
        assert "password file not read and previous password kept" in line
        assert f"file={password}" in line

        simulator.password = "the-new-password"
        password.write_text("the-new-password")
        answered = calls["fetch", "200"]
        await becomes(lambda: calls["fetch", "200"] > answered)
        page = await exporter.scrape()
        assert page.failures() == {}
        assert page.factor("up", "watched") == 1
    assert log.getvalue().count("password file changed") == 1
    assert log.getvalue().count(" level=error ") == 1


@pytest.mark.slow
async def test_one_factor_that_is_forbidden_stops_nobody(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO]
) -> None:
    log = logged()
    forbidden = simulator.add_factor()
    others = [simulator.add_factor() for _ in range(4)]
    simulator.faults.add(Fault(FaultKind.STATUS, status=403, factor_sid=forbidden.sid))
    entries = [entry(f"other-{number}", factor) for number, factor in enumerate(others)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("forbidden", forbidden), *entries],
        polling={"not_found_interval": "7m"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(1)
        page = await exporter.shows(lambda page: page.counts()["verified"] == 4 and page.failures())
        assert page.failures() == {"forbidden": 1}
        assert page.factor("up", "forbidden") == 0
        assert page.factor("interval_seconds", "forbidden") == 7 * 60
        calls, before = simulator.calls.by_factor, simulator.calls.by_factor.copy()
        await becomes(lambda: all(calls[factor.sid] >= before[factor.sid] + 2 for factor in others))
        page = await exporter.scrape()
        assert page.value("twilio_verify_credentials_valid") == 1
        assert page.value("twilio_verify_api_paused") == 0
        assert page.failures() == {"forbidden": 1}
        assert calls[forbidden.sid] == 1, "it is not fetched again soon"
        for number in range(len(others)):
            assert page.factor("interval_seconds", f"other-{number}") == 1
            assert page.factor("up", f"other-{number}") == 1
    assert "level=error" not in log.getvalue()
