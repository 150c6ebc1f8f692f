"""``plan``: what a configuration costs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli.plan import account_plans, exposition_size
from exporter.config import load
from tests.support.config_files import write_config
from tests.support.served_exporter import ACCOUNT_SID, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import Config
    from tests.support.commands import Ran

ACCOUNT = {"account_sid": ACCOUNT_SID, "password": "made-up"}
FIVE_MINUTES = {"interval": "5m", "unverified_interval": "1m", "timeout": "10s"}


def write(
    path: Path, count: int, accounts: Mapping[str, Mapping[str, object]] | None = None, **keys: object
) -> str:
    """Write a configuration of so many factors; return its path."""
    factors = [entry | keys for entry in entries(*(f"factor-{number}" for number in range(count)))]
    return str(
        write_config(path / "config.toml", accounts or {"main": dict(ACCOUNT)}, factors, polling=FIVE_MINUTES)
    )


def loaded(path: str) -> Config:
    """Load a configuration as the command does."""
    return load(Path(path), environ={}, flags={})


def test_a_plan_within_budget(call: Callable[..., Ran], tmp_path: Path) -> None:
    ran = call("plan", "--config.file", write(tmp_path, 30))

    assert (ran.status, ran.err) == (0, "")
    head, main, *rest = ran.out.splitlines()
    assert re.split(r" {2,}", head) == ["ACCOUNT", "FACTORS", "STEADY", "WORST", "BUDGET"]
    assert re.split(r" {2,}", main) == ["main", "30", "0.10/s", "0.50/s", "10.00/s", "within budget"]
    assert "at most 5m2s if the first attempt succeeds," in "\n".join(rest)
    assert "at most 5m34s if a fetch needs all its attempts" in "\n".join(rest)


def test_over_budget_by_the_rate_is_status_1(call: Callable[..., Ran], tmp_path: Path) -> None:
    slow = {"main": ACCOUNT | {"requests_per_second": 0.05}}
    ran = call("plan", "--config.file", write(tmp_path, 30, slow))

    assert ran.status == 1
    assert "over budget: intervals are stretched by a factor of 2.10" in ran.out
    assert "at most 10m32s if the first attempt succeeds," in ran.out


def test_over_budget_only_while_all_are_unverified_is_status_0(call: Callable[..., Ran], tmp_path: Path) -> None:
    slow = {"main": ACCOUNT | {"requests_per_second": 0.25}}
    ran = call("plan", "--config.file", write(tmp_path, 30, slow))

    assert ran.status == 0
    assert "within budget; over budget, with stretched intervals, in the worst case" in ran.out


def test_the_budget_is_the_lesser_of_rate_and_concurrency_at_the_latency(
    call: Callable[..., Ran], tmp_path: Path
) -> None:
    path = write(tmp_path, 1)

    assert "  10.00/s" in call("plan", "--config.file", path).out
    assert "  2.00/s" in call("plan", "--config.file", path, "--latency", "2").out
    assert (
        "what max_concurrency allows at 2 s per request"
        in call("plan", "--config.file", path, "--latency", "2").out
    )


def test_each_account_has_its_own_budget(tmp_path: Path) -> None:
    accounts: dict[str, dict[str, object]] = {"one": {**ACCOUNT}, "two": {**ACCOUNT, "requests_per_second": 0.001}}
    config = loaded(write(tmp_path, 3, accounts, account="two"))

    one, two = account_plans(config, 0.3)

    assert (one.factors, one.steady, one.stretch) == (0, 0, 1.0)
    assert (two.factors, two.budget) == (3, 0.001)
    assert two.steady == pytest.approx(0.01)
    assert two.stretch == pytest.approx(10.5)


def test_paused_factors_cause_no_requests(tmp_path: Path) -> None:
    (plan,) = account_plans(loaded(write(tmp_path, 3, paused=True)), 0.3)

    assert (plan.factors, plan.steady, plan.worst, plan.longest_interval_seconds) == (0, 0, 0, 0)


def test_series_and_bytes_are_those_of_a_scrape(tmp_path: Path) -> None:
    config = loaded(write(tmp_path, 300))

    series, size = exposition_size(config)

    # verified, exists, up, both last times, duration, failures, created, updated, interval, info
    assert series == 300 * 11
    assert 300 * 11 * 100 < size < 300 * 11 * 300


def test_the_estimate_is_of_a_valid_exposition(tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("plan", "--config.file", write(tmp_path, 2))

    assert "factor series:      22 in 1 service\n" in ran.out
    assert list(text_string_to_metric_families(ran.out.partition("ACCOUNT")[0])) == []


def test_an_empty_watchlist_costs_nothing(call: Callable[..., Ran], tmp_path: Path) -> None:
    ran = call("plan", "--config.file", write(tmp_path, 0))

    assert ran.status == 0
    assert "factor series:      0 in 0 services" in ran.out
    assert "change visible" not in ran.out


@pytest.mark.parametrize("latency", ["0", "-1", "nan", "inf", "fast"])
def test_a_bad_latency_is_refused(call: Callable[..., Ran], tmp_path: Path, latency: str) -> None:
    ran = call("plan", "--config.file", write(tmp_path, 1), f"--latency={latency}")

    assert ran.status == 64
    assert f'argument --latency: "{latency}" is not a number of seconds above 0' in ran.err


def test_a_bad_configuration_is_status_64(call: Callable[..., Ran], tmp_path: Path) -> None:
    ran = call("plan", "--config.file", str(tmp_path / "none.toml"))

    assert (ran.status, ran.out) == (64, "")
    assert "none.toml" in ran.err


def test_listings_of_entities_are_included(call: Callable[..., Ran], tmp_path: Path) -> None:
    path = write(tmp_path, 30)
    entity = f'[[entities]]\nname = "ops"\nservice_sid = "VA{"0" * 32}"\nidentity = "made-up-identity"\n'
    Path(path).write_text(Path(path).read_text(encoding="utf-8") + entity, encoding="utf-8")
    before = account_plans(loaded(write(tmp_path, 30)), 0.3)[0]
    Path(path).write_text(Path(path).read_text(encoding="utf-8") + entity, encoding="utf-8")
    plan = account_plans(loaded(path), 0.3)[0]
    assert plan.steady == pytest.approx(before.steady + 1 / 900)
    assert plan.worst == pytest.approx(before.worst + 2 / 900), "its service may be in doubt, too"
    ran = call("plan", "--config.file", path)
    assert "entities:           1, listed every 15m; their factors are not included" in ran.out
    assert "made-up-identity" not in ran.out
