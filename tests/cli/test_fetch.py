"""``fetch``, against the simulator over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import pty
import re
import sys
import termios
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.cli.fetch import Pauses
from exporter.config import ConfigError, ErrorDetail
from exporter.exposition.catalogue import FACTOR_FAMILIES
from exporter.simulator import Fault, FaultKind
from exporter.verify.outcome import HINTS, Reason
from tests.support.config_files import account_of, app_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from exporter.simulator import Simulator
    from tests.support.commands import Ran

    Fetch = Callable[..., Awaitable[Ran]]

COMMAND = (sys.executable, "-m", "exporter")
PIPE = asyncio.subprocess.PIPE
ONE_ATTEMPT = {"max_attempts": 1}
ODD_NAMES = (
    "a name, with spaces",
    'quo"ted \\ back',
    "Zoë — 日本語",
    "<b>&amp;</b>",
    "{{ 7*7 }}",
    "-dash",
    "x" * 128,
)


def write(folder: Path, simulator: Simulator, *factors: dict[str, object], **polling: object) -> str:
    """Write a configuration for the simulator's account; return its path."""
    path = folder / "config.toml"
    accounts = {"main": account_of(simulator, requests_per_second=1000)}
    return str(write_config(path, accounts, factors, polling=ONE_ATTEMPT | polling))


def summary(line: str) -> str:
    """Return the summary, which is one line, without the duration."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    return re.sub(r" in [0-9]+\.[0-9] s", "", line[:-1])


def rows(table: str) -> dict[str, list[str]]:
    """Return the cells of each line by its first one."""
    lines = [re.split(r" {2,}", line) for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines}


async def test_the_table_shows_problems_first(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    gone = simulator.add_factor()
    simulator.delete(gone.sid)
    failing = simulator.add_factor()
    simulator.faults.add(Fault(FaultKind.STATUS, status=503, factor_sid=failing.sid))
    path = write(
        tmp_path,
        simulator,
        entry("good", simulator.add_factor(factor_type="push")),
        entry("new", simulator.add_factor(status="unverified")),
        entry("gone", gone),
        entry("failing", failing),
    )
    ran = await call_beside("fetch", "--config.file", path)

    assert ran.status == 2
    assert summary(ran.err) == ("4 factors: 1 not_found, 1 unverified, 1 undetermined (1 server_error), 1 verified")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == ["FACTOR", "gone", "new", "failing", "good"]
    assert re.split(r" {2,}", lines[0]) == [
        *("FACTOR", "ACCOUNT", "STATUS", "TYPE", "DURATION", "HTTP", "CODE", "REQUEST ID", "DETAILS"),
    ]
    assert not any(line != line.rstrip() for line in lines)
    found = rows(ran.out)
    assert found["good"][:3] == ["main", "verified", "push"]
    assert re.fullmatch(r"[0-9]+ ms", found["good"][3])
    assert found["good"][4] == "200"
    assert found["gone"][3:5] == ["404", "20404"]
    assert found["failing"][3:5] == ["503", "20503"]
    assert all(re.fullmatch(r"RQ[0-9a-f]{32}", found[name][5]) for name in ("good", "gone", "failing"))
    assert found["new"][:3] == ["main", "unverified", "totp"]
    assert found["gone"][:2] == ["main", "not_found"]
    assert found["failing"][:2] == ["main", "undetermined"]
    assert (
        found["failing"][-1]
        == "HTTP 503, Twilio error 20503; Twilio's API has a problem; check Twilio's status page"
    )
    assert simulator.calls.total == 4


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (["good"], 0),
        (["good", "good"], 0),
        (["good", "new"], 1),
        (["gone"], 1),
        (["good", "failing"], 2),
        (["new", "failing", "gone"], 2),
        (["failing"], 2),
    ],
)
async def test_the_exit_status_is_the_worst(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, kinds: list[str], status: int
) -> None:
    entries = []
    for number, kind in enumerate(kinds):
        factor = simulator.add_factor(status="unverified" if kind == "new" else "verified")
        if kind == "gone":
            simulator.delete(factor.sid)
        if kind == "failing":
            simulator.faults.add(Fault(FaultKind.BAD_JSON, factor_sid=factor.sid))
        entries.append(entry(f"{kind}-{number}", factor))
    ran = await call_beside("fetch", "--config.file", write(tmp_path, simulator, *entries))

    assert ran.status == status


async def test_json_is_what_the_api_shows(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor(factor_type="push")
    path = write(tmp_path, simulator, entry("good", factor, labels={"team": "payments"}))
    ran = await call_beside("fetch", "--output", "json", "--config.file", path)

    assert ran.status == 0
    document = json.loads(ran.out)
    [shown] = document["factors"]
    assert (document.keys(), document["failures"]) == ({"factors", "failures", "summary", "interrupted"}, [])
    assert (shown["factor"], shown["status"], shown["up"], shown["factor_sid"]) == (
        "good",
        "verified",
        True,
        factor.sid,
    )
    assert shown["labels"] == {"team": "payments"}
    assert shown["last_fetch_attempts"] == 1
    assert (shown["last_fetch_http_status"], shown["last_fetch_twilio_code"]) == (200, None)
    assert re.fullmatch(r"RQ[0-9a-f]{32}", shown["last_fetch_request_id"])
    assert factor.identity not in ran.out


async def test_openmetrics_is_the_factor_families(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    new = simulator.add_factor(status="unverified")
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()), entry("new", new))
    ran = await call_beside("fetch", "--config.file", path, "--output=openmetrics")

    assert ran.status == 1
    assert ran.out.endswith("# EOF\n")
    families = list(read_openmetrics(ran.out))
    assert [family.name for family in families] == [family.base_name for family in FACTOR_FAMILIES]
    assert [family.documentation for family in families] == [family.help for family in FACTOR_FAMILIES]
    scrape = Scrape(ran.out, openmetrics=True)
    assert scrape.factor("verified", "good") == 1
    assert scrape.factor("verified", "new") == 0
    assert scrape.factor("created_timestamp_seconds", "new") == int(new.date_created)


async def test_the_configuration_chooses_the_families(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()))
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123, ASYNC230  a test's file
        file.write('[metrics]\nfactor_families = ["verified", "fetch_*"]\n')
    ran = await call_beside("fetch", "--config.file", path, "--output=openmetrics")

    assert [family.name for family in read_openmetrics(ran.out)] == [
        "twilio_verify_factor_verified",
        "twilio_verify_factor_fetch_duration_seconds",
        "twilio_verify_factor_fetch_failures",
    ]


async def test_only_named_factors_are_fetched(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    path = write(tmp_path, simulator, *(entry(name, simulator.add_factor()) for name in names))
    ran = await call_beside("fetch", "--config.file", path, "three", "one", "one")

    assert ran.status == 0
    assert list(rows(ran.out)) == ["FACTOR", "one", "three"]
    assert simulator.calls.total == 2


async def test_an_unknown_name_is_refused_with_a_suggestion(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("payments-oncall", simulator.add_factor()))
    ran = await call_beside("fetch", "--config.file", path, "payments-oncal", "payments-oncall", "zzz")

    assert (ran.status, ran.out) == (64, "")
    assert ran.err.splitlines() == [
        'no watched factor is named "payments-oncal"; did you mean "payments-oncall"?',
        'no watched factor is named "zzz"',
    ]
    assert simulator.calls.total == 0


@pytest.mark.parametrize("output", ["table", "json"])
async def test_a_wrong_password_ends_it_soon(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, output: str
) -> None:
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(60)]
    path = write(tmp_path, simulator, *entries, interval="1h", max_attempts=3)
    simulator.password = "another-one"
    loop = asyncio.get_running_loop()
    began = loop.time()
    ran = await call_beside("fetch", "--config.file", path, "--output", output)

    assert ran.status == 2
    assert loop.time() - began < 10
    assert simulator.calls.total <= 6
    assert "another-one" not in ran.out + ran.err
    if output == "json":
        shown = json.loads(ran.out)["factors"]
        assert {factor["status"] for factor in shown} == {"unknown"}
        assert {factor["last_failure_reason"] for factor in shown} == {"auth", None}
    else:
        found = rows(ran.out)
        remarks = {cells[-1] for cells in found.values()}
        assert len(found) == 61
        assert "not fetched: the account's credentials were refused" in remarks
        assert f"HTTP 401, Twilio error 20003; {HINTS[Reason.AUTH]}" in remarks


async def test_one_account_s_refusal_does_not_end_the_others(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    accounts = {"good": account_of(simulator), "refused": account_of(simulator, password="wrong")}
    factors = [
        entry(f"{account}-{number}", simulator.add_factor(), account=account)
        for account in accounts
        for number in range(6)
    ]
    path = write_config(tmp_path / "config.toml", accounts, factors, polling={"interval": "1h"})
    ran = await call_beside("fetch", "--config.file", str(path), "--output", "json")

    assert ran.status == 2
    by_account = {(factor["account"], factor["status"]) for factor in json.loads(ran.out)["factors"]}
    assert by_account == {("good", "verified"), ("refused", "unknown")}


async def test_a_retry_may_come_after_the_interval(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(FaultKind.STATUS, status=429, retry_after=1, times=1))
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()), max_attempts=2)
    ran = await call_beside("fetch", "--config.file", path, "--output", "json")

    assert ran.status == 0
    assert json.loads(ran.out)["factors"][0]["last_fetch_attempts"] == 2
    assert ran.err == "main: rate limited by the API (HTTP 429); waiting 1 s\n"


@pytest.mark.slow
@pytest.mark.parametrize("on_a_terminal", [True, False])
async def test_a_pause_is_reported_once_beside_the_progress_bar(
    simulator: Simulator, tmp_path: Path, on_a_terminal: bool
) -> None:
    simulator.faults.add(Fault(FaultKind.STATUS, status=429, retry_after=2, times=4))
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(6)]
    path = write(tmp_path, simulator, *entries, max_attempts=3)
    if on_a_terminal:
        status, out, err = await on_terminal("fetch", "--config.file", path)
        assert "\rmain: rate limited by the API (HTTP 429); waiting 2 s\r\n" in err
        assert "| 0/6 [" in err
    else:
        status, out, err = await in_pipes("fetch", "--config.file", path)
        said, _, line = err.partition("\n")
        assert said == "main: rate limited by the API (HTTP 429); waiting 2 s"
        assert summary(line) == "6 factors: 6 verified"

    assert err.count("rate limited") == 1
    assert (status, len(out.splitlines())) == (0, 7)


def test_which_pauses_are_reported() -> None:
    def reported(now: float, **paused_until: float) -> list[str]:
        return [f"{line.partition(':')[0]} {line.split()[-2]}" for line in pauses.begun(now, paused_until)]

    pauses = Pauses()
    assert reported(0, a=-math.inf, b=-math.inf) == []
    assert reported(1, a=1.3, b=31) == ["b 30"]  # the first pause is too short to report
    assert reported(1.1, a=61.05, b=31) == ["a 60"]
    assert reported(30, a=61.05, b=45) == []  # prolonged
    assert reported(44, a=61.05, b=45) == []
    assert reported(45, a=61.05, b=45) == []  # over
    assert reported(45.02, a=61.05, b=50) == ["b 5"]


async def test_unusual_names_are_printed_unchanged(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, *(entry(name, simulator.add_factor()) for name in ODD_NAMES))
    table = await call_beside("fetch", "--config.file", path)
    shown = await call_beside("fetch", "--config.file", path, "--output=json")
    exposition = await call_beside("fetch", "--config.file", path, "--output=openmetrics")
    named = await call_beside("fetch", "--config.file", path, "--", "-dash", 'quo"ted \\ back')

    assert {table.status, shown.status, exposition.status, named.status} == {0}
    assert len(table.out.splitlines()) == 1 + len(ODD_NAMES)
    assert all(name in table.out for name in ODD_NAMES)
    assert {factor["factor"] for factor in json.loads(shown.out)["factors"]} == set(ODD_NAMES)
    scrape = Scrape(exposition.out, openmetrics=True)
    assert [scrape.factor("verified", name) for name in ODD_NAMES] == [1] * len(ODD_NAMES)
    assert set(rows(named.out)) == {"FACTOR", "-dash", 'quo"ted \\ back'}


async def test_the_same_name_in_two_services_is_two_factors(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    other = simulator.add_service()
    twins = (simulator.add_factor(), simulator.add_factor(service_sid=other.sid))
    path = write(tmp_path, simulator, *(entry("twin", factor) for factor in twins))
    ran = await call_beside("fetch", "--config.file", path, "twin", "--output=json")

    shown = json.loads(ran.out)["factors"]
    assert {factor["service_sid"] for factor in shown} == {factor.service_sid for factor in twins}


async def test_paused_factors_are_listed_and_not_fetched(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    good, idle = simulator.add_factor(), simulator.add_factor()
    path = write(tmp_path, simulator, entry("good", good), entry("idle", idle, paused=True))
    everything = await call_beside("fetch", "--config.file", path)
    shown = await call_beside("fetch", "--config.file", path, "--output=json")
    exposition = await call_beside("fetch", "--config.file", path, "--output=openmetrics")
    named = await call_beside("fetch", "--config.file", path, "idle")

    assert everything.status == shown.status == exposition.status == 0
    assert rows(everything.out)["idle"] == ["main", "paused", "not fetched: paused in the watchlist"]
    assert [(factor["factor"], factor["paused"]) for factor in json.loads(shown.out)["factors"]] == [
        ("good", False),
        ("idle", True),
    ]
    scrape = Scrape(exposition.out, openmetrics=True)
    assert scrape.factor("info", "idle") == 1
    assert scrape.factor("verified", "idle") is None
    assert named.status == 2  # requested by name, and unknown
    assert list(rows(named.out)) == ["FACTOR", "idle"]
    assert simulator.calls.by_factor.get(idle.sid, 0) == 0
    assert simulator.calls.by_factor[good.sid] == 3


async def test_an_empty_watchlist_is_reported(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    ran = await call_beside("fetch", "--config.file", write(tmp_path, simulator))

    assert ran.status == 2
    assert ran.err.startswith("warning: ")
    assert "the watchlist is empty, so nothing is fetched" in ran.err
    assert ran.err.endswith("\nnothing to fetch\n")
    assert ran.out == "FACTOR  ACCOUNT  STATUS  TYPE  DURATION  HTTP  CODE  REQUEST ID  DETAILS\n"


async def test_paused_factors_alone_are_nothing_to_fetch(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("idle", simulator.add_factor(), paused=True))
    ran = await call_beside("fetch", "--config.file", path)

    assert (ran.status, ran.err) == (2, "nothing to fetch\n")
    assert simulator.calls.total == 0


def test_a_bad_configuration_is_status_64(call: Callable[..., Ran], tmp_path: Path) -> None:
    ran = call("fetch", "--config.file", str(tmp_path / "none.toml"))

    assert (ran.status, ran.out) == (64, "")
    assert "none.toml" in ran.err


async def test_an_account_whose_client_cannot_be_made(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise ConfigError([ErrorDetail("accounts.main", "ca.pem: no certificate", "replace it")])

    monkeypatch.setattr("exporter.daemon.engine.client_of", fail)
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()))
    ran = await call_beside("fetch", "--config.file", path)

    assert (ran.status, ran.out) == (64, "")
    assert "accounts.main: ca.pem: no certificate; replace it\n" in ran.err


def test_an_invalid_choice(call: Callable[..., Ran]) -> None:
    ran = call("fetch", "--output", "yaml")

    assert ran.status == 64
    assert "argument --output: invalid choice: 'yaml'" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("on_a_terminal", [True, False])
async def test_a_progress_bar_is_for_terminals(simulator: Simulator, tmp_path: Path, on_a_terminal: bool) -> None:
    simulator.latency_seconds = 0.05
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(12)]
    path = write(tmp_path, simulator, *entries)
    if on_a_terminal:
        status, out, err = await on_terminal("fetch", "--config.file", path)
        assert "| 0/12 [" in err
        assert "factor" in err
        assert "Traceback" not in err
    else:
        status, out, err = await in_pipes("fetch", "--config.file", path)
        assert summary(err) == "12 factors: 12 verified"

    assert status == 0
    assert len(out.splitlines()) == 13


@pytest.mark.slow
async def test_the_progress_of_a_listing_is_the_number_of_factors(simulator: Simulator, tmp_path: Path) -> None:
    simulator.latency_seconds = 0.05
    service = simulator.add_service()
    for _ in range(40):
        simulator.add_factor(service_sid=service.sid)
    path = write(tmp_path, simulator)
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123, ASYNC230  a test's file
        file.write(f'[[services]]\nname = "consumer"\nservice_sid = "{service.sid}"\n')
    status, out, err = await on_terminal("fetch", "--config.file", path)

    assert (status, len(out.splitlines())) == (0, 41)
    assert "| 0/1 [" in err
    assert re.search(r", [1-9][0-9]* factors?\]", err)
    assert "/40 [" in err


def read_openmetrics(text: str) -> Iterator[Metric]:
    families: Iterator[Metric] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # the library is untyped
    return families


async def in_pipes(*words: str) -> tuple[int | None, str, str]:
    status, out, err = await output_of(*COMMAND, *words)
    return status, out.decode(), err.decode()


async def on_terminal(*words: str) -> tuple[int | None, str, str]:
    """Run a command whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    try:
        async with (
            spawned(*COMMAND, *words, stdout=PIPE, stderr=theirs) as process,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            os.close(theirs)
            reading = asyncio.create_task(asyncio.to_thread(read_to_end, ours))
            out, _ = await process.communicate()
            shown = await reading
    finally:
        os.close(ours)
    return process.returncode, out.decode(), shown.decode()


def read_to_end(descriptor: int) -> bytes:
    """Read a terminal until nobody is at its other end."""
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while piece := os.read(descriptor, 4096):
            shown += piece
    return shown


MODULES_OF_A_FETCH = """
import sys
from exporter.cli import main
status = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(status)
"""


async def test_a_fetch_needs_no_web_server_scheduler_or_templates(simulator: Simulator, tmp_path: Path) -> None:
    path = write(tmp_path, simulator, entry("watched", simulator.add_factor()))
    status, out, err = await output_of(
        sys.executable, "-c", MODULES_OF_A_FETCH, "fetch", "--config.file", path, "--output", "json"
    )
    assert (status, json.loads(out)["factors"][0]["status"]) == (0, "verified"), err
    modules = err.decode().split()
    assert "exporter.daemon.engine" in modules
    assert set(modules) & {"aiohttp.web", "apscheduler", "jinja2"} == set()


# OAuth


async def test_an_app_gets_one_token_for_all_fetches(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    factors = [entry(f"factor-{number}", simulator.add_factor()) for number in range(12)]
    path = write_config(tmp_path / "config.toml", {"main": app_of(simulator)}, factors)
    ran = await call_beside("fetch", "--config.file", str(path))
    assert ran.status == 0
    assert simulator.calls.by_operation() == {"fetch": {"200": 12}, "token": {"200": 1}}


async def test_a_refused_app_is_reported_once_per_fetch_that_waited_for_it(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    factors = [entry(f"factor-{number}", simulator.add_factor()) for number in range(12)]
    path = write_config(tmp_path / "config.toml", {"main": app_of(simulator, client_secret="wrong")}, factors)
    ran = await call_beside("fetch", "--config.file", str(path))
    assert ran.status == 2
    assert "token endpoint: HTTP 401, Twilio error 322402; check client_id and client_secret" in ran.out
    assert "not fetched: the account's credentials were refused" in ran.out
    assert simulator.calls.by_operation() == {"token": {"401": 1}}
