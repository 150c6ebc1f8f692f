"""``plan``: what a configuration costs."""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import config_file
from exporter.cli.config_file import load_config
from exporter.cli.costs import AccountPlan, account_plans, assume, with_found
from exporter.cli.plan import exposition_size
from exporter.config import load
from exporter.config.values import format_duration
from exporter.exposition.factors import FactorExposition, FactorSamples
from exporter.exposition.pieces import Snapshot
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.verify.outcome import Answer, Outcome, Status
from exporter.watched import FactorKey, WatchedFactor
from tests.support.config_files import write_config
from tests.support.served_exporter import ACCOUNT_SID, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import Config
    from tests.support.commands import Ran

ROOT = Path(__file__).parents[2]
ACCOUNT = {"account_sid": ACCOUNT_SID, "password": "made-up"}
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
LABELS = st.dictionaries(st.sampled_from(["a", "bb", "team"]), st.text(st.characters(codec="utf-8"), max_size=20))
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


def squeezed(text: str) -> str:
    """Return a text with single spaces."""
    return re.sub(" {2,}", " ", text)


def planned(config: Config, entities: int | None = None, factors_per_entity: int = 1) -> list[AccountPlan]:
    """Return the plans of a configuration under these assumptions, with the usual latency."""
    assumptions = assume(config, entities, factors_per_entity)
    return account_plans(with_found(config, assumptions), assumptions, 0.3)


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

    one, two = planned(config)

    assert (one.factors, one.steady, one.stretch) == (0, 0, 1.0)
    assert (two.factors, two.budget) == (3, 0.001)
    assert two.steady == pytest.approx(0.01)
    assert two.stretch == pytest.approx(10.5)


def test_paused_factors_cause_no_requests(tmp_path: Path) -> None:
    (plan,) = planned(loaded(write(tmp_path, 3, paused=True)))

    assert (plan.factors, plan.steady, plan.worst, plan.longest_interval_seconds) == (0, 0, 0, 0)


def test_series_and_bytes_are_those_of_a_scrape(tmp_path: Path) -> None:
    config = loaded(write(tmp_path, 300))

    series, size = exposition_size(config)

    # verified, exists, up, three last times, since, duration, failures, created, updated, interval, info
    assert series == 300 * 13
    assert 300 * 13 * 100 < size < 300 * 13 * 300


def test_series_and_bytes_are_those_of_every_factor_rendered(tmp_path: Path) -> None:
    empty = loaded(write(tmp_path, 0))
    known = Answer(Status.VERIFIED, 1.7953979e9, 1.7953979e9, "passkeys", "YE" + "0" * 32, 1.7953979e9)

    @settings(max_examples=60)
    @given(st.lists(st.builds(_factor, NAMES, LABELS, st.sampled_from([1.0, 60.0, 300.0, 0.5]), st.booleans())))
    def check(alike: list[WatchedFactor]) -> None:
        ledger, exposition = Ledger(LedgerPolicy()), FactorExposition(FactorSamples())
        keys = [FactorKey(*factor.key[:2], f"YF{number:032x}") for number, factor in enumerate(alike)]
        factors = [replace(factor, key=key) for factor, key in zip(alike, keys, strict=True)]
        for watched in factors:
            record = ledger.watch(watched)
            if not watched.paused:
                ledger.apply(watched.key, Outcome(known, 0.123456), Moment(1.7953979497e9, 0.0))
                record.status_change_seen = True
            exposition.update(record)
        page = b"".join(Snapshot(exposition.columns(openmetrics=False)))
        samples = [line for line in page.splitlines() if not line.startswith(b"#")]
        assert exposition_size(replace(empty, factors=tuple(factors))) == (len(samples), len(page))

    check()


def _factor(name: str, labels: dict[str, str], interval_seconds: float, paused: bool) -> WatchedFactor:
    key = FactorKey("main", "VA" + "0" * 32, "YF" + "0" * 32)
    return WatchedFactor(key, name, "identity-1", interval_seconds, paused, tuple(sorted(labels.items())))


def _long_watchlist(path: Path) -> str:
    rows = (f"VA{0:032x},identity-{number:06d},YF{number:032x}\n" for number in range(2_500))
    (path / "w.csv").write_text("service_sid,identity,factor_sid\n" + "".join(rows), encoding="utf-8")
    return str(write_config(path / "config.toml", {"main": ACCOUNT}, [], watchlist={"files": ["w.csv"]}))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_much_of_a_long_watchlist_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config_file, "_QUIET_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    config = load_config(argparse.Namespace(config_file=_long_watchlist(tmp_path)))

    assert len(config.factors) == 2_500
    shown = terminal.getvalue().split("\r")
    assert "reading the watchlist: 1,000 entries" in [line.strip() for line in shown]
    assert not shown[-1].strip(), "the line is removed at the end"


def test_nothing_is_shown_without_a_terminal_or_before_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = _long_watchlist(tmp_path)
    monkeypatch.setattr(config_file, "_QUIET_SECONDS", 3_600)
    for terminal in (io.StringIO(), _Terminal()):
        monkeypatch.setattr(sys, "stderr", terminal)
        load_config(argparse.Namespace(config_file=path))
        assert not terminal.getvalue().strip()


@pytest.mark.parametrize("command", ["plan", "check"])
def test_without_requests_it_needs_no_client_web_server_or_scheduler(tmp_path: Path, command: str) -> None:
    code = f"""
import sys
from exporter.cli import main
status = main([{command!r}, "--config.file", {write(tmp_path, 1)!r}])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(status)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"aiohttp", "apscheduler", "httpx", "jinja2"} & set(ran.stderr.split()) == set()


def test_the_estimate_is_of_a_valid_exposition(tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("plan", "--config.file", write(tmp_path, 2))

    assert "factor series:      26 in 1 service\n" in ran.out
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


def with_entries(path: str, *entries: str) -> str:
    """Add ``[[entities]]`` and ``[[services]]`` entries, each given as its table and perhaps a line of keys."""
    with Path(path).open("a", encoding="utf-8") as file:
        for number, entry in enumerate(entries):
            table, _, keys = entry.partition(" ")
            file.write(f'[[{table}]]\nname = "{table}-{number}"\nservice_sid = "VA{number:032}"\n{keys}\n')
            if table == "entities":
                file.write(f'identity = "made-up-identity-{number}"\n')
    return path


def test_listings_and_found_factors_of_entities_are_included(call: Callable[..., Ran], tmp_path: Path) -> None:
    before = planned(loaded(write(tmp_path, 30)))[0]
    path = with_entries(write(tmp_path, 30), "entities")
    [plan] = planned(loaded(path))

    assert (plan.factors, plan.found) == (31, 1)
    assert plan.steady == pytest.approx(before.steady + 1 / 900 + 1 / 300)
    assert plan.worst == pytest.approx(before.worst + 2 / 900 + 1 / 60), "its service may be in doubt, too"
    ran = call("plan", "--config.file", path)
    assert "entities of main:   1, with 1 factor (--factors-per-entity)\n" in ran.out
    assert "listings of main:   1 request in 15m, 0.00/s\n" in ran.out
    assert "factor series:      403 in 2 services\n" in ran.out
    assert "made-up-identity" not in ran.out
    [plan] = planned(loaded(path), factors_per_entity=41)
    assert (plan.factors, plan.listing_requests) == (71, 3)


def test_a_service_is_left_out_until_its_entities_are_known(call: Callable[..., Ran], tmp_path: Path) -> None:
    path = with_entries(write(tmp_path, 30), "services")
    ran = call("plan", "--config.file", path)

    assert ran.status == 0
    assert "service services-0: left out; count its entities with --live, or give their number with" in squeezed(
        ran.out
    )
    assert "listings of main" not in ran.out
    document = json.loads(call("plan", "--config.file", path, "--output", "json").out)
    [account] = document["accounts"]
    assert account["services"] == [
        {
            "name": "services-0",
            "service_sid": "VA" + "0" * 32,
            "entities": None,
            "counted": False,
            "truncated": None,
        }
    ]
    assert account["factors"] == 30


def test_a_service_costs_its_listings_and_the_fetches_of_what_they_find(
    call: Callable[..., Ran], tmp_path: Path
) -> None:
    path = with_entries(write(tmp_path, 30), "services")
    [plan] = planned(loaded(path), 1000, 3)

    assert (plan.factors, plan.found, plan.listing_requests) == (3030, 3000, 20 + 1000)
    assert plan.fetches == pytest.approx(3030 / 300)
    assert (plan.over_budget, plan.budget) == (True, 10)
    [plan] = planned(loaded(path), 1000)
    assert plan.steady == pytest.approx(1030 / 300 + 1020 / 900)
    assert plan.listing_seconds == 900
    ran = call("plan", "--config.file", path, "--entities", "1000")
    assert ran.status == 0
    assert "service services-0: 1,000 entities, with 1,000 factors (--factors-per-entity)\n" in squeezed(ran.out)
    assert "listings of main: 1,020 requests in 15m, 1.13/s\n" in squeezed(ran.out)


def test_a_listing_takes_longer_than_its_interval_if_the_budget_requires_it(
    call: Callable[..., Ran], tmp_path: Path
) -> None:
    slow = {"main": ACCOUNT | {"requests_per_second": 5}}
    path = with_entries(write(tmp_path, 0, slow), "services", "entities")
    [plan] = planned(loaded(path), 1200)

    assert plan.listing_requests == 24 + 1200 + 1
    allowed = 0.25 + (5 - 0.25 - 1201 / 300) / 2
    assert plan.listings == pytest.approx(allowed)
    assert plan.listing_seconds == pytest.approx(1225 / allowed)
    assert plan.steady == pytest.approx(1201 / 300 + allowed)
    assert not plan.over_budget
    ran = call("plan", "--config.file", path, "--entities", "1200")
    assert ran.status == 0
    assert (
        "listings of main: 1,225 requests in 32m46s, 0.62/s: longer than polling.discovery_interval (15m), "
        "so that fetches keep to their intervals\n"
    ) in squeezed(ran.out)


def test_a_service_is_counted_up_to_max_entities_and_by_shards(call: Callable[..., Ran], tmp_path: Path) -> None:
    path = with_entries(write(tmp_path, 0), "services max_entities = 100")
    ran = call("plan", "--config.file", path, "--entities", "101")
    assert "service services-0: 100 entities (max_entities = 100), with 100 factors" in squeezed(ran.out)
    with Path(path).open("a", encoding="utf-8") as file:
        file.write('[sharding]\nshard = "0/3"\n')
    [plan] = planned(loaded(path), 100)
    assert (plan.found, plan.listing_requests) == (34, 2 + 34)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "limits", "entries", "entities"),
    [
        (30, {"requests_per_second": 0.05}, [], 0),
        (3000, {"max_concurrency": 1}, [], 0),
        (3000, {"max_concurrency": 1, "requests_per_second": 3}, ["entities", "services"], 500),
        (3, {"requests_per_second": 0.01}, ["services"], 1),
        (0, {"requests_per_second": 2}, ["services"], 999),
    ],
)
def test_over_budget_it_proposes_an_interval_and_limits_that_fit(
    call: Callable[..., Ran],
    tmp_path: Path,
    count: int,
    limits: dict[str, object],
    entries: list[str],
    entities: int,
) -> None:
    def run(interval: str = "5m", **changed: object) -> tuple[Ran, dict[str, Any]]:
        path = with_entries(write(tmp_path, count, {"main": ACCOUNT | limits | changed}), *entries)
        text = Path(path).read_text(encoding="utf-8")
        Path(path).write_text(text.replace('interval = "5m"', f'interval = "{interval}"', 1), encoding="utf-8")
        words = ("plan", "--config.file", path, "--entities", str(entities))
        return call(*words), json.loads(call(*words, "--output", "json").out)["accounts"][0]

    ran, account = run()
    fits = account["fits_with"]
    assert (ran.status, account["over_budget"]) == (1, True)
    interval = format_duration(fits["interval_seconds"])
    assert f'main fits its budget with polling.interval = "{interval}"; or with ' in ran.out
    longer, account = run(interval)
    assert (longer.status, account["over_budget"], account["fits_with"]) == (0, False, None)
    shorter, _ = run(format_duration(fits["interval_seconds"] * 0.9 // 1))
    assert shorter.status == 1
    wanted = {name: fits[name] for name in ("requests_per_second", "max_concurrency")}
    more, account = run(**wanted)
    assert (more.status, account["over_budget"]) == (0, False)
    before = {"max_concurrency": 4, "requests_per_second": 10} | limits
    for name, value in wanted.items():
        assert (f"{name} = {value:g}" in ran.out) == (value != before[name])


def test_own_intervals_are_multiplied_too(call: Callable[..., Ran], tmp_path: Path) -> None:
    slow = {"main": ACCOUNT | {"requests_per_second": 0.05}}
    ran = call("plan", "--config.file", write(tmp_path, 30, slow, interval="2m"))

    assert (
        'main fits its budget with polling.interval = "25m", and the factors\' own intervals 5 times as long; '
        "or with requests_per_second = 0.25, if Twilio allows that\n"
    ) in ran.out


def test_the_plan_as_json(call: Callable[..., Ran], tmp_path: Path) -> None:
    path = with_entries(write(tmp_path, 30), "entities", "services")
    ran = call("plan", "--config.file", path, "--entities", "9", "--output", "json")

    document = json.loads(ran.out)
    [account] = document.pop("accounts")
    assert (ran.status, ran.err) == (0, "")
    assert document == {
        "latency_seconds": 0.3,
        "factors_per_entity": 1,
        "watchlist_urls": [],
        "factor_series": 40 * 13,
        "bytes_per_scrape": document["bytes_per_scrape"],
        "change_visible_seconds": {"first_attempt": 301.3, "all_attempts": 334.0},
        "exit_status": 0,
    }
    assert account == {
        "account": "main",
        "factors": 40,
        "found_factors": 10,
        "steady": pytest.approx(40 / 300 + 11 / 900),
        "worst": pytest.approx(40 / 60 + 14 / 900),
        "budget": 10,
        "over_budget": False,
        "stretch": 1.0,
        "fetches": pytest.approx(40 / 300),
        "listings": {
            "requests": 11,
            "rate": pytest.approx(11 / 900),
            "wanted_rate": pytest.approx(11 / 900),
            "seconds": 900,
        },
        "entities": 1,
        "services": [
            {
                "name": "services-1",
                "service_sid": f"VA{1:032}",
                "entities": 9,
                "counted": False,
                "truncated": False,
            }
        ],
        "fits_with": None,
    }
    assert document["bytes_per_scrape"] > 40 * 13 * 100


@pytest.mark.parametrize("flag", ["--entities", "--factors-per-entity"])
@pytest.mark.parametrize("number", ["-1", "1.5", "many", "1000001", "²"])
def test_a_bad_number_is_refused(call: Callable[..., Ran], tmp_path: Path, flag: str, number: str) -> None:
    ran = call("plan", "--config.file", write(tmp_path, 1), f"{flag}={number}")

    assert ran.status == 64
    assert f'argument {flag}: "{number}" is not a whole number from 0 to 1,000,000' in ran.err


def test_the_example_in_the_documentation_is_right(call: Callable[..., Ran], tmp_path: Path) -> None:
    path = Path(with_entries(write(tmp_path, 30), "services"))
    path.write_text(path.read_text(encoding="utf-8").replace("services-0", "consumer"), encoding="utf-8")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [(words, output)] = re.findall(r"^\$ verify-factor-exporter (plan .*)\n((?:.*\n)+?)```", page, re.MULTILINE)

    assert call(*words.split(), "--config.file", str(path)).out == output
