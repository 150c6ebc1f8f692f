"""The API goes away and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.scrape import Scrape

CLAIMS = (
    "verified", "exists", "created_timestamp_seconds", "updated_timestamp_seconds",
    "last_approved_timestamp_seconds",
)  # fmt: skip


@pytest.mark.slow
async def test_an_outage_is_reported_and_survived(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO]
) -> None:
    log = logged()
    names = ("one", "two")
    factors = [simulator.add_factor(factor_type="passkeys") for _ in names]
    for factor in factors:
        simulator.approve(factor.sid)
    entries = [entry(name, factor) for name, factor in zip(names, factors, strict=True)]
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, entries, polling={"stale_after": 30}
    )

    def failed(page: Scrape, times: int) -> bool:
        return all((page.factor("fetch_failures_total", name) or 0) >= times for name in names)

    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(1)
        before = await exporter.shows(lambda page: page.counts()["verified"] == 2)
        assert before.failures() == {}
        assert None not in [before.factor(claim, name) for name in names for claim in CLAIMS]

        await simulator.stop()
        kept_page = await exporter.shows(lambda page: failed(page, 1))
        for name in names:
            assert kept_page.factor("up", name) == 0
            assert [kept_page.factor(claim, name) for claim in CLAIMS] == [
                before.factor(claim, name) for claim in CLAIMS
            ]
        assert kept_page.counts()["verified"] == 2
        assert kept_page.value("twilio_verify_credentials_valid") == 1, (
            "a failed connection says nothing about the credentials"
        )
        assert kept_page.value("twilio_verify_api_paused") == 0

        clock.leap(30)
        stale = await exporter.shows(
            lambda page: (
                page.counts()["unknown"] == 2 and page.failures()["connect"] > kept_page.failures()["connect"]
            )
        )
        assert stale.counts() == {"verified": 0, "unverified": 0, "not_found": 0, "unknown": 2}
        assert stale.failures().keys() == {"connect"}
        assert stale.failures()["connect"] == sum(stale.factor("fetch_failures_total", name) or 0 for name in names)
        assert (stale.value("twilio_verify_api_requests_total", code="none") or 0) >= stale.failures()["connect"]
        for name in names:
            assert [stale.factor(claim, name) for claim in CLAIMS] == [None] * len(CLAIMS)
            assert stale.factor("up", name) == 0
            for kept in ("last_success_timestamp_seconds", "last_verified_timestamp_seconds"):
                assert stale.factor(kept, name) == kept_page.factor(kept, name), kept
            assert stale.factor("info", name) == 1
            assert stale.factor("interval_seconds", name) == 1, "the cadence is kept"

        await simulator.start(port=urlsplit(simulator.base_url).port or 0)
        back = await exporter.shows(lambda page: page.counts()["verified"] == 2)
        for name in names:
            assert [back.factor(claim, name) for claim in CLAIMS] == [
                before.factor(claim, name) for claim in CLAIMS
            ]
            assert back.factor("up", name) == 1
            last_verified = back.factor("last_verified_timestamp_seconds", name)
            assert last_verified is not None
            assert last_verified > (stale.factor("last_verified_timestamp_seconds", name) or 0)
        assert back.total("twilio_verify_factor_status_changes_total") == 0
        assert exporter.daemon.readiness.healthy()

    def lines(message: str) -> int:
        return log.getvalue().count(f' msg="{message}" ')

    assert lines("fetch failed") == 2, "the first failure of each factor is new, the others are not"
    assert lines("stale status withdrawn") == 2
    assert lines("fetches recovered") == 1
    assert "Traceback" not in log.getvalue()


@pytest.mark.usefixtures("brisk")
async def test_a_first_fetch_in_an_outage_claims_no_status(simulator: Simulator, tmp_path: Path) -> None:
    entries = [entry("never", simulator.add_factor())]
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, entries)
    await simulator.stop()
    async with running(path) as exporter:
        page = await exporter.scrape()
        assert page.factor("up", "never") is None
        assert page.value("twilio_verify_credentials_valid") is None
        page = await exporter.shows(lambda page: page.factor("up", "never") == 0)
        for claim in (*CLAIMS, "last_success_timestamp_seconds", "last_verified_timestamp_seconds"):
            assert page.factor(claim, "never") is None
        assert page.counts()["unknown"] == 1
        assert page.value("twilio_verify_credentials_valid") is None
        assert await exporter.status("/-/ready") == 200, "the first fetch has ended, with a failure"
