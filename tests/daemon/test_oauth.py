"""Accounts with an OAuth app, against the simulator's token endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.config import load
from exporter.daemon.parts import redactor_of
from exporter.simulator import Endpoint, Fault, FaultKind
from tests.support.config_files import account_of, app_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.scrape import Scrape

REQUESTS = "twilio_verify_api_requests_total"


def configured(folder: Path, simulator: Simulator, count: int = 4, **keys: object) -> Path:
    """Write a configuration whose account has the simulator's app."""
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(count)]
    return write_config(folder / "config.toml", {"main": app_of(simulator, **keys)}, entries)


def tokens(page: Scrape, code: str = "200") -> float | None:
    return page.value(REQUESTS, operation="token", code=code)


@pytest.mark.usefixtures("brisk")
async def test_factors_are_fetched_with_one_token(simulator: Simulator, tmp_path: Path) -> None:
    async with running(configured(tmp_path, simulator)) as exporter:
        page = await exporter.shows(lambda page: page.counts()["verified"] == 4)
        assert tokens(page) == simulator.oauth.issued == 1
        assert page.value("twilio_verify_api_request_duration_seconds_count", operation="token") == 1
        assert page.value("twilio_verify_credentials_valid", account="main") == 1
        assert page.failures() == {}
        assert simulator.calls.by_code["fetch", "401"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("brisk")
async def test_a_wrong_secret_pauses_the_account_until_its_file_is_corrected(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not-the-secret\n")
    path = configured(tmp_path, simulator, client_secret=None, client_secret_file="secret")
    log = logged(redactor_of(load(path, environ={}, flags={})))
    async with running(path) as exporter:
        page = await exporter.shows(lambda page: page.value("twilio_verify_credentials_valid") == 0)
        assert page.failures().keys() <= {"auth"}
        assert tokens(page, "401") == 1
        assert simulator.calls.by_code["fetch", "401"] == 0
        _, text = await exporter.get("/")
        assert "a changed password_file or client_secret_file is tried" in text
        secret.write_text(simulator.oauth.client_secret)
        page = await exporter.shows(lambda page: page.counts()["verified"] == 4)
        assert page.value("twilio_verify_credentials_valid") == 1

    (paused,) = (line for line in log.getvalue().splitlines() if " level=error " in line)
    assert "account paused for refused credentials" in paused
    assert 'detail="token endpoint: HTTP 401, Twilio error 322402"' in paused
    assert "check client_id and client_secret of the account's OAuth app" in paused
    assert "client secret file changed" in log.getvalue()
    assert "account resumed" in log.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("brisk")
async def test_a_revoked_token_is_renewed_and_fails_no_fetch(simulator: Simulator, tmp_path: Path) -> None:
    clock = LeapingClock()
    async with running(configured(tmp_path, simulator), clock=clock) as exporter:
        await exporter.shows(lambda page: page.counts()["verified"] == 4)
        # A fetch in flight would be due again after the leap, and so have no retry.
        await becomes(lambda: exporter.daemon.engine.poller.accounts["main"].throttle.in_flight == 0)
        clock.leap(120)
        assert simulator.oauth.revoke() == 1
        await becomes(lambda: simulator.oauth.issued == 2)
        fetches = simulator.calls.by_code["fetch", "200"]
        await becomes(lambda: simulator.calls.by_code["fetch", "200"] > fetches + 4)
        page = await exporter.scrape()
        assert page.failures() == {}
        assert page.value("twilio_verify_credentials_valid") == 1
        assert 1 <= simulator.calls.by_code["fetch", "401"] <= 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(FaultKind.STATUS, status=503, operation=Endpoint.TOKEN), "server_error"),
        (Fault(FaultKind.BAD_JSON, operation=Endpoint.TOKEN), "decode"),
        (Fault(FaultKind.HTML, status=401, operation=Endpoint.TOKEN), "decode"),
        (Fault(FaultKind.REDIRECT, operation=Endpoint.TOKEN), "bad_request"),
        (Fault(FaultKind.GARBAGE, operation=Endpoint.TOKEN), "connect"),
        (Fault(FaultKind.STALL_IN_BODY, operation=Endpoint.TOKEN), "timeout"),
    ],
    ids=lambda of: of.kind if isinstance(of, Fault) else of,
)
@pytest.mark.usefixtures("brisk")
async def test_while_the_endpoint_fails_fetches_fail_for_its_reason_and_then_recover(
    simulator: Simulator, tmp_path: Path, fault: Fault, reason: str
) -> None:
    clock = LeapingClock()
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(4)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": app_of(simulator)},
        entries,
        polling={"timeout": "400ms" if reason == "timeout" else "60s", "interval": "2s"},
    )
    simulator.faults.add(fault)
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        page = await exporter.shows(lambda page: sum(page.failures().values()) >= 4)
        assert page.failures().keys() == {reason}
        assert page.value("twilio_verify_credentials_valid") is None, "the API did not answer yet"
        assert simulator.calls.by_operation().keys() == {"token"}
        simulator.faults.clear()
        clock.leap(300)
        page = await exporter.shows(lambda page: page.counts()["verified"] == 4)
        assert page.value("twilio_verify_credentials_valid") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("brisk")
async def test_a_reload_changes_from_a_password_to_an_app_and_back(simulator: Simulator, tmp_path: Path) -> None:
    factor = entry("factor", simulator.add_factor())
    path = tmp_path / "config.toml"
    write_config(path, {"main": account_of(simulator)}, [factor])
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        await exporter.shows(lambda page: page.counts()["verified"] == 1)
        assert simulator.oauth.issued == 0
        write_config(path, {"main": app_of(simulator)}, [factor])
        await exporter.daemon.reload()
        await becomes(lambda: simulator.oauth.issued == 1)
        fetches = simulator.calls.by_code["fetch", "200"]
        await becomes(lambda: simulator.calls.by_code["fetch", "200"] > fetches + 1)
        write_config(path, {"main": account_of(simulator)}, [factor])
        await exporter.daemon.reload()
        simulator.oauth.revoke()
        fetches = simulator.calls.by_code["fetch", "200"]
        await becomes(lambda: simulator.calls.by_code["fetch", "200"] > fetches + 1)
        assert (await exporter.scrape()).failures() == {}
        write_config(path, {"other": app_of(simulator)}, [factor])
        await exporter.daemon.reload()
        await exporter.shows(lambda page: page.value(REQUESTS, account="other", operation="token") == 1)
        assert simulator.oauth.issued == 2
