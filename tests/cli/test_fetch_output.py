"""What ``fetch`` prints beside the table: filters, the summary, expositions, and what Ctrl-C leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.cli import fetched as printed
from exporter.cli.fetched import NOT_IN_TEXTFILES, Fetched, NotListed, OutputFormat
from exporter.config.loader import load
from exporter.exposition.catalogue import FACTOR_FAMILIES
from exporter.simulator import Endpoint, Fault, FaultKind
from tests.support.config_files import account_of, append_entries, entry, numbered_entry, write_config
from tests.support.list_server import ListServer
from tests.support.misbehaving_servers import then_stalls
from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.running_exporter import becomes
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.simulator import Simulator
    from tests.support.commands import Ran

    Fetch = Callable[..., Awaitable[Ran]]

COMMAND = (sys.executable, "-m", "exporter", "fetch")
PIPE = asyncio.subprocess.PIPE
OUTPUTS = ("table", "json", "openmetrics", "prometheus")


def world(folder: Path, simulator: Simulator) -> Path:
    """Write a configuration with a factor of every status; return its path."""
    gone, failing = simulator.add_factor(), simulator.add_factor()
    simulator.delete(gone.sid)
    simulator.faults.add(Fault(FaultKind.STATUS, status=503, factor_sid=failing.sid))
    factors = [
        entry("good", simulator.add_factor()),
        entry("fine", simulator.add_factor()),
        entry("new", simulator.add_factor(status="unverified")),
        entry("gone", gone),
        entry("failing", failing),
        entry("idle", simulator.add_factor(), paused=True),
    ]
    return write(folder, simulator, *factors)


def write(folder: Path, simulator: Simulator, *factors: dict[str, object], **polling: object) -> Path:
    accounts = {"main": account_of(simulator, requests_per_second=1000)}
    return write_config(folder / "config.toml", accounts, factors, polling={"max_attempts": 1, **polling})


def first_cells(table: str) -> list[str]:
    return [line.split()[0] for line in table.splitlines()]


# Filters and the summary


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--status", "unverified"], ["new"]),
        (["--status=verified"], ["fine", "good"]),
        (["--status", "unverified,not_found"], ["gone", "new"]),
        (["--status", "not_found", "--status", " undetermined , paused"], ["gone", "failing", "idle"]),
        (["--status", "unverified,unverified", "--status", "unverified"], ["new"]),
    ],
)
async def test_only_factors_with_a_status_are_shown_and_all_count(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, flags: list[str], shown: list[str]
) -> None:
    path = str(world(tmp_path, simulator))
    table = await call_beside("fetch", "--config.file", path, *flags)
    document = await call_beside("fetch", "--config.file", path, *flags, "--output", "json")
    openmetrics = await call_beside("fetch", "--config.file", path, *flags, "--output", "openmetrics")
    textfile = await call_beside("fetch", "--config.file", path, *flags, "--output", "prometheus")

    assert {ran.status for ran in (table, document, openmetrics, textfile)} == {2}  # that of all six
    assert first_cells(table.out) == ["FACTOR", *shown]
    assert [of["factor"] for of in json.loads(document.out)["factors"]] == shown
    for scrape in (Scrape(openmetrics.out, openmetrics=True), Scrape(textfile.out)):
        info = scrape.samples("twilio_verify_factor_info")
        assert [sample.labels["factor"] for sample in info] == shown
    assert table.err.startswith(f"{len(shown)} of 6 factors shown in ")
    assert ": 1 not_found, 1 unverified, 1 undetermined (1 server_error), 2 verified, 1 paused\n" in table.err
    assert document.err == openmetrics.err == textfile.err == ""


async def test_a_status_that_no_factor_has(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    path = str(write(tmp_path, simulator, entry("good", simulator.add_factor())))
    ran = await call_beside("fetch", "--config.file", path, "--status", "unverified")

    assert (ran.status, first_cells(ran.out)) == (0, ["FACTOR"])
    assert re.fullmatch(r"0 of 1 factor shown in [0-9.]+ s: 1 verified\n", ran.err)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("verifed", '"verifed" is not one of STATUSES; did you mean "verified"?'),
        ("verified,", '"" is not one of STATUSES'),
        ("verified,gone", '"gone" is not one of STATUSES'),
        ("", '"" is not one of STATUSES'),
    ],
)
def test_an_unknown_status_names_those_that_exist(call: Callable[..., Ran], value: str, problem: str) -> None:
    ran = call("fetch", "--status", value)

    assert (ran.status, ran.out) == (64, "")
    statuses = "not_found, unverified, undetermined, verified, paused"
    assert f"argument --status: {problem.replace('STATUSES', statuses)}" in ran.err


async def test_the_summary_of_the_json_output(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    path = str(world(tmp_path, simulator))
    ran = await call_beside("fetch", "--config.file", path, "--output", "json", "--status", "unverified")

    document = json.loads(ran.out)
    assert document["interrupted"] is False
    assert document["summary"].pop("duration_seconds") > 0
    assert document["summary"] == {
        "factors": 6,
        "not_found": 1,
        "unverified": 1,
        "undetermined": 1,
        "verified": 2,
        "paused": 1,
        "failures": {"server_error": 1},
        "not_listed": 0,
    }


async def test_what_a_refused_account_left_out_is_not_fetched(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = str(write(tmp_path, simulator, *(entry(f"f{n}", simulator.add_factor()) for n in range(20))))
    simulator.password = "another-one"
    ran = await call_beside("fetch", "--config.file", path)

    pattern = r"20 factors in [0-9.]+ s: 20 undetermined \(([0-9]+) auth, ([0-9]+) not fetched\)"
    counted = re.fullmatch(pattern, ran.err.splitlines()[-1])
    assert counted is not None, ran.err
    assert int(counted[1]) + int(counted[2]) == 20


@pytest.mark.parametrize("statuses", [[], ["--status", "verified"], ["--status", "undetermined"]])
async def test_what_could_not_be_listed_is_never_left_out(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, statuses: list[str]
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST))
    entity = simulator.add_entity()
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()))
    append_entries(
        path, "entities", {"name": "ops", "service_sid": entity.service_sid, "identity": entity.identity}
    )
    ran = await call_beside("fetch", "--config.file", str(path), *statuses)
    document = await call_beside("fetch", "--config.file", str(path), *statuses, "--output", "json")

    assert (ran.status, document.status) == (2, 2)
    assert (ran.out + ran.err).count('entity "ops" not listed: HTTP 503, Twilio error 20503; ') == 1
    assert ('"ops" not listed' in ran.out) is (statuses != ["--status", "verified"])
    assert ran.err.endswith(": 1 verified; 1 entity not listed\n")
    assert [failed["name"] for failed in json.loads(document.out)["failures"]] == ["ops"]


def empty(folder: Path, **fields: Any) -> Fetched:
    """Return what a run found that fetched nothing."""
    config = load(
        write_config(
            folder / "config.toml",
            {"main": {"account_sid": "AC" + "1" * 32, "password": "made-up"}},
            [numbered_entry(1)],
        ),
        environ={},
        flags={},
    )
    values: dict[str, Any] = {"engine": None, "failures": (), "undetermined": (), "named": False, "seconds": 0.0}
    return Fetched(config=config, records=[], views=[], **values | fields)


def test_the_words_of_a_summary(tmp_path: Path) -> None:
    failures = [
        NotListed("entity", "a", "", ""),
        NotListed("entity", "b", "", ""),
        NotListed("watchlist", "w", "", ""),
    ]

    def summary(seconds: float, *failed: NotListed) -> str:
        return empty(tmp_path, failures=failed, seconds=seconds).summary(0)

    assert summary(0.04) == "0 factors in 0.0 s"
    assert summary(59.94) == "0 factors in 59.9 s"
    assert summary(3725.2, *failures) == "0 factors in 1h2m5s: 2 entities not listed, 1 watchlist not loaded"


# Exit statuses


@pytest.mark.parametrize("kind", ["good", "new", "failing", "nothing"])
async def test_exit_zero_is_for_statuses_of_factors(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, kind: str
) -> None:
    factor = simulator.add_factor(status="unverified" if kind == "new" else "verified")
    if kind == "failing":
        simulator.faults.add(Fault(FaultKind.BAD_JSON, factor_sid=factor.sid))
    path = str(write(tmp_path, simulator, entry("one", factor, paused=kind == "nothing")))
    plain = await call_beside("fetch", "--config.file", path)
    zero = await call_beside("fetch", "--config.file", path, "--exit-zero")

    assert plain.status == {"good": 0, "new": 1, "failing": 2, "nothing": 2}[kind]
    assert zero.status == 0
    assert first_cells(zero.out) == first_cells(plain.out)


async def test_exit_zero_hides_no_wrong_usage(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    path = str(write(tmp_path, simulator, entry("good", simulator.add_factor())))

    assert (await call_beside("fetch", "--config.file", path, "--exit-zero", "unknown")).status == 64
    assert (await call_beside("fetch", "--config.file", str(tmp_path / "none.toml"), "--exit-zero")).status == 64


# For the textfile collector


async def test_a_textfile_has_what_one_run_observed(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = str(world(tmp_path, simulator))
    ran = await call_beside("fetch", "--config.file", path, "--output", "prometheus")
    scrape = Scrape(ran.out)

    assert (ran.status, ran.err) == (2, "")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", ran.out, re.MULTILINE))
    assert set(types.values()) == {"gauge"}
    assert types.keys() == {family.name for family in FACTOR_FAMILIES if family not in NOT_IN_TEXTFILES} | {
        "twilio_verify_factors",
        "twilio_verify_entity_last_listed_timestamp_seconds",
        "twilio_verify_credentials_valid",
        "twilio_verify_exporter_watchlist_source_up",
    }
    names = ("good", "new", "gone", "failing", "idle")
    for family, values in {
        "verified": (1, 0, None, None, None),
        "exists": (1, 1, 0, None, None),
        "up": (1, 1, 1, 0, None),
        "info": (1, 1, 1, 1, 1),
    }.items():
        assert tuple(scrape.factor(family, name) for name in names) == values, family
    assert scrape.factor("last_success_timestamp_seconds", "failing") is None
    assert scrape.counts() == {"verified": 2, "unverified": 1, "not_found": 1, "unknown": 1}
    assert scrape.value("twilio_verify_credentials_valid", account="main") == 1
    for family in ("interval_seconds", "last_verified_timestamp_seconds", "fetch_failures_total"):
        assert f"twilio_verify_factor_{family}" not in ran.out


async def test_a_textfile_says_what_was_listed(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    broken = simulator.add_service()
    simulator.faults.add(Fault(operation=Endpoint.LIST, service_sid=broken.sid))
    good = simulator.add_factor()
    path = write(tmp_path, simulator)
    bad = simulator.add_entity(service_sid=broken.sid)
    entities = {
        name: {"name": name, "service_sid": of.service_sid, "identity": of.identity}
        for name, of in (("good", good), ("bad", bad))
    }
    append_entries(path, "entities", *entities.values())
    ran = await call_beside("fetch", "--config.file", str(path), "--output", "prometheus")
    scrape = Scrape(ran.out)

    assert ran.status == 2
    listed = scrape.samples("twilio_verify_entity_last_listed_timestamp_seconds")
    assert [sample.labels["entity"] for sample in listed] == ["good"]
    assert ran.err.startswith('main: entity "bad" not listed: ')
    assert good.identity not in ran.out
    assert bad.identity not in ran.out


async def test_a_textfile_of_named_factors_does_not_count_all(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = str(world(tmp_path, simulator))
    ran = await call_beside("fetch", "--config.file", path, "--output", "prometheus", "good")
    scrape = Scrape(ran.out)

    assert (ran.status, scrape.factor("verified", "good")) == (0, 1)
    assert scrape.samples("twilio_verify_factors") == []


async def test_a_textfile_tells_of_watchlist_urls(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    async with ListServer() as server, ListServer() as broken:
        server.lists(entry("one", simulator.add_factor()))
        path = write(tmp_path, simulator, entry("own", simulator.add_factor()))
        sources = [{"name": "good", "url": server.url}, {"name": "bad", "url": broken.url}]
        append_entries(path, "watchlist.http", *sources)
        ran = await call_beside("fetch", "--config.file", str(path), "--output", "prometheus")
        by_name = await call_beside("fetch", "--config.file", str(path), "--output", "prometheus", "own")
    scrape = Scrape(ran.out)

    assert (ran.status, by_name.status) == (2, 0)
    up = scrape.samples("twilio_verify_exporter_watchlist_source_up")
    assert {sample.labels["source"]: sample.value for sample in up} == {"good": 1, "bad": 0}
    assert Scrape(by_name.out).samples("twilio_verify_exporter_watchlist_source_up") == []  # not loaded


async def test_refused_credentials_are_in_a_textfile(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = str(write(tmp_path, simulator, *(entry(f"f{n}", simulator.add_factor()) for n in range(5))))
    simulator.password = "another-one"
    ran = await call_beside("fetch", "--config.file", path, "--output", "prometheus")

    assert ran.status == 2
    assert Scrape(ran.out).value("twilio_verify_credentials_valid") == 0
    assert "another-one" not in ran.out


@pytest.mark.parametrize("output", ["openmetrics", "prometheus"])
async def test_an_exposition_is_utf_8_whatever_the_terminal_has(
    simulator: Simulator, tmp_path: Path, output: str
) -> None:
    path = write(tmp_path, simulator, entry("Zoë — 日本語", simulator.add_factor()))
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    status, out, _ = await output_of(*COMMAND, "--config.file", str(path), "--output", output, env=environment)

    assert status == 0
    assert Scrape(out.decode(), openmetrics=output == "openmetrics").factor("verified", "Zoë — 日本語") == 1


async def test_the_script_of_the_documentation(simulator: Simulator, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", page, re.DOTALL)
    path, file = world(tmp_path, simulator), tmp_path / "twilio_verify.prom"
    for place, real in (
        ("/etc/verify-factor-exporter/config.toml", path),
        ("/var/lib/prometheus/node-exporter/twilio_verify.prom", file),
        ("verify-factor-exporter fetch", f"{sys.executable} -m exporter fetch"),
    ):
        assert script.count(place) == 1
        script = script.replace(place, str(real))

    assert (await output_of("sh", "-c", script))[::2] == (0, b"")
    written = file.read_text()
    assert Scrape(written).factor("verified", "good") == 1
    path.write_text("[pollling]\n")
    status, out, err = await output_of("sh", "-c", script)
    assert (status, out) == (64, b"")
    assert b"pollling" in err
    assert file.read_text() == written
    assert sorted(tmp_path.iterdir()) == [path, file]  # noqa: ASYNC240  a test's folder


# Ctrl-C


async def interrupted(path: Path, when: Callable[[], object], *words: str) -> tuple[int | None, str, str]:
    """Run the command, and interrupt it on a condition; return its exit status and output."""
    async with (
        spawned(*COMMAND, "--config.file", str(path), *words, stdout=PIPE, stderr=PIPE) as process,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await becomes(when)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def factors_in(output: str, text: str) -> list[str]:
    """Return the names of the factors that a valid output shows."""
    match output:
        case "table":
            return sorted(first_cells(text)[1:])
        case "json":
            document: dict[str, Any] = json.loads(text)
            assert document["interrupted"] is True
            return sorted(shown["factor"] for shown in document["factors"])
    info = Scrape(text, openmetrics=output == "openmetrics").samples("twilio_verify_factor_info")
    return sorted(sample.labels["factor"] for sample in info)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("zero", [False, True])
async def test_control_c_prints_what_was_fetched(
    simulator: Simulator, tmp_path: Path, output: str, zero: bool
) -> None:
    body = json.dumps({"status": "verified", "factor_type": "push"})
    simulator.faults.add(Fault(FaultKind.BODY, body=body, times=2))
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))  # the third request and all others
    factors = {f"f{number}": simulator.add_factor() for number in range(5)}
    entries = [entry(name, factor) for name, factor in factors.items()]
    accounts = {"main": account_of(simulator, requests_per_second=1000, max_concurrency=1)}
    idle = entry("idle", simulator.add_factor(), paused=True)
    path = write_config(tmp_path / "config.toml", accounts, [*entries, idle])
    status, out, err = await interrupted(
        path,
        lambda: simulator.calls.total == 3,  # the first two have ended for the command, too
        f"--output={output}",
        *(["--exit-zero"] if zero else []),
    )

    assert status == 130, (out, err)
    first, _, rest = err.partition("\n")
    assert first == "interrupted: 2 of 5 factors fetched; this output is incomplete"
    ended = {ended.factor_sid for ended in simulator.calls.log if ended.code == "200"}
    assert factors_in(output, out) == sorted(name for name, factor in factors.items() if factor.sid in ended)
    if output == "table":
        assert re.fullmatch(r"2 factors in [0-9.]+ s: 2 verified\n", rest)
    else:
        assert rest == ""
    assert "twilio_verify_factors{" not in out


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("wanted", "progress"), [(1, "0 of 1 factor fetched"), (None, "not everything was listed yet")]
)
def test_an_interruption_is_said_beside_every_format(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, output: str, wanted: int | None, progress: str
) -> None:
    fetched = empty(tmp_path, interrupted=True, wanted=wanted)
    printed.write(fetched, OutputFormat(output), ())
    out, err = capsys.readouterr()

    assert fetched.exit_status() == 130
    assert err.splitlines()[0] == f"interrupted: {progress}; this output is incomplete"
    assert factors_in(output, out) == []


@pytest.mark.parametrize("operation", [Endpoint.LIST_ENTITIES, Endpoint.LIST])
@pytest.mark.parametrize("output", OUTPUTS)
async def test_control_c_during_a_listing(
    simulator: Simulator, tmp_path: Path, output: str, operation: Endpoint
) -> None:
    factor = simulator.add_factor()
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, operation=operation))
    path = write(tmp_path, simulator, entry("listed", factor), timeout="60s")
    append_entries(path, "services", {"name": "consumer", "service_sid": factor.service_sid})
    status, out, err = await interrupted(path, lambda: simulator.calls.in_flight, f"--output={output}")

    assert status == 130, (out, err)
    said = "interrupted: not everything was listed yet; this output is incomplete\n"
    assert err.startswith(said)
    assert factors_in(output, out) == []
    assert "Traceback" not in err


async def test_control_c_while_a_watchlist_loads(simulator: Simulator, tmp_path: Path) -> None:
    async with ListServer() as server:
        server.behave = then_stalls()
        path = write(tmp_path, simulator, entry("own", simulator.add_factor()))
        append_entries(path, "watchlist.http", {"name": "slow", "url": server.url})
        status, out, err = await interrupted(path, lambda: server.requests, "--output=json")

    assert (status, factors_in("json", out)) == (130, [])
    assert err == "interrupted: not everything was listed yet; this output is incomplete\n"
    assert simulator.calls.total == 0
