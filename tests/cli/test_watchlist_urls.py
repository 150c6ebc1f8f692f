"""``fetch``, ``plan`` and ``check`` with watchlists behind URLs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from exporter.config import ConfigError, ErrorDetail
from exporter.logs.output import REDACTED
from tests.support.config_files import account_of, entry, write_config
from tests.support.list_server import ListServer, document, source_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from exporter.simulator import SimulatedFactor, Simulator
    from tests.support.commands import Ran

    Run = Callable[..., Awaitable[Ran]]

NAME = "identity-service"
PLACE = f'watchlist.http "{NAME}"'
EMPTY = b'{"factors": []}'


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with ListServer() as running:
        yield running


def write(folder: Path, simulator: Simulator, *parts: str, factors: tuple[dict[str, object], ...] = ()) -> str:
    """Write a configuration that ends with these tables; return its path."""
    accounts = {"main": account_of(simulator, requests_per_second=1000)}
    polling = {"interval": "5m", "max_attempts": 1}
    path = write_config(folder / "config.toml", accounts, factors, polling=polling)
    path.write_text(path.read_text(encoding="utf-8") + "".join(parts), encoding="utf-8")
    return str(path)


def source(server: ListServer, name: str = NAME) -> str:
    return source_table(name, server.url, timeout="60s")


def entity_of(name: str, factor: SimulatedFactor) -> dict[str, object]:
    return {"name": name, "service_sid": factor.service_sid, "identity": factor.identity}


async def in_json(run: Run, path: str, *words: str) -> tuple[int, Any, str]:
    ran = await run(*words, "--config.file", path, "--output", "json")
    return ran.status, json.loads(ran.out), ran.err


def names(fetched: dict[str, Any]) -> list[str]:
    return sorted(shown["factor"] for shown in fetched["factors"])


async def test_fetch_loads_them_first(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    own, one, found = (simulator.add_factor() for _ in range(3))
    server.answers(document([entry("one", one)], [entity_of("ops", found)]))
    path = write(tmp_path, simulator, source(server), factors=(entry("own", own),))
    found_name = f"ops-{found.sid[-8:]}"
    status, fetched, err = await in_json(call_beside, path, "fetch")

    assert (status, err, names(fetched), fetched["failures"]) == (0, "", ["one", found_name, "own"], [])
    for name in ("one", found_name):
        status, fetched, _ = await in_json(call_beside, path, "fetch", name)
        assert (status, names(fetched)) == (0, [name])
    assert len(server.requests) == 3


async def test_fetch_by_a_name_in_a_file_needs_none(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, source(server), factors=(entry("own", simulator.add_factor()),))
    status, fetched, err = await in_json(call_beside, path, "fetch", "own")

    assert (status, err, names(fetched)) == (0, "", ["own"])
    assert server.requests == []


async def test_fetch_by_an_unknown_name(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    server.lists(entry("payments", simulator.add_factor()))
    ran = await call_beside("fetch", "payment", "--config.file", write(tmp_path, simulator, source(server)))

    assert (ran.status, ran.out) == (64, "")
    assert ran.err == 'no watched factor is named "payment"; did you mean "payments"?\n'


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "can't be loaded: "),
        (b"<html>", "is HTML or XML, not JSON"),
        (json.dumps({"factors": [{"name": "bad", "identity": "made-up-identity"}] * 2}).encode(), "factors[0]"),
    ],
)
async def test_fetch_names_one_that_can_not_be_used(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path, answer: bytes | None, problem: str
) -> None:
    if answer is None:
        server.dies()
    else:
        server.answers(answer)
    own = simulator.add_factor()
    path = write(tmp_path, simulator, source(server), factors=(entry("own", own),))
    status, fetched, _ = await in_json(call_beside, path, "fetch")
    table = await call_beside("fetch", "--config.file", path)
    exposition = await call_beside("fetch", "--config.file", path, "--output", "openmetrics")
    named, by_name, err = await in_json(call_beside, path, "fetch", "own", "elsewhere", own.identity)

    [failed] = fetched["failures"]
    assert {status, table.status, exposition.status, named} == {2}
    assert (failed["kind"], failed["name"], failed["account"], failed["reason"]) == ("watchlist", NAME, None, None)
    assert failed["detail"].startswith(PLACE)
    assert problem in failed["detail"]
    row = re.split(r" {2,}", table.out.splitlines()[1])
    assert row[:2] == ["*", "undetermined"]
    assert row[2].startswith(f'watchlist "{NAME}" not loaded: {failed["detail"]}')
    assert exposition.err == f"{row[2]}\n"
    assert names(fetched) == names(by_name) == ["own"]
    assert err.splitlines() == [
        f'no factor named "{name}" was found, but not everything could be listed'
        for name in ("elsewhere", REDACTED)
    ]
    assert "made-up-identity" not in json.dumps(fetched) + table.out + exposition.err


async def test_fetch_with_an_empty_list_has_nothing_to_fetch(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    server.answers(EMPTY)
    ran = await call_beside("fetch", "--config.file", write(tmp_path, simulator, source(server)))

    assert ran.status == 2
    assert ran.err.endswith("nothing to fetch\n")


async def test_plan_loads_them_only_if_told_so(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    server.lists(*(entry(f"factor-{number}", simulator.add_factor()) for number in range(30)))
    path = write(tmp_path, simulator, source(server))
    without = await call_beside("plan", "--config.file", path)
    status, plan, _ = await in_json(call_beside, path, "plan")

    assert (without.status, server.requests) == (0, [])
    assert re.search(rf"^watchlist {NAME}: +left out; load it with --live$", without.out, re.MULTILINE)
    assert (status, plan["watchlist_urls"]) == (0, [{"name": NAME, "entries": None}])
    live = await call_beside("plan", "--live", "--config.file", path)
    status, plan, _ = await in_json(call_beside, path, "plan", "--live")
    assert (live.status, status) == (0, 0)
    assert re.search(rf"^watchlist {NAME}: +30 entries$", live.out, re.MULTILINE)
    assert plan["watchlist_urls"] == [{"name": NAME, "entries": 30}]
    assert plan["accounts"][0]["factors"] == 30
    assert plan["accounts"][0]["steady"] == pytest.approx(30 / 300)
    assert simulator.calls.total == 0


async def test_plan_names_one_that_can_not_be_used(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    server.answers(b"{}")
    path = write(tmp_path, simulator, source(server), factors=(entry("own", simulator.add_factor()),))
    status, plan, err = await in_json(call_beside, path, "plan", "--live")

    ran = await call_beside("plan", "--live", "--config.file", path)
    assert re.search(rf"^watchlist {NAME}: +left out; it could not be loaded$", ran.out, re.MULTILINE)
    assert (status, plan["exit_status"]) == (1, 1)
    assert plan["watchlist_urls"] == [{"name": NAME, "entries": None}]
    assert err.startswith(f'{PLACE}: has neither "factors" nor "entities"')
    assert plan["accounts"][0]["factors"] == 1


async def test_check_counts_them_and_loads_them_only_live(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    factor = simulator.add_factor()
    server.lists(entry("one", factor))
    path = write(tmp_path, simulator, source(server))
    ran = await call_beside("check", "--config.file", path)

    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"{path} is valid: 1 account, 0 factors, 1 watchlist URL\n"
    assert server.requests == []
    live = await call_beside("check", "--live", "--config.file", path)
    lines = live.out.splitlines()
    assert (live.status, live.err) == (0, "")
    assert lines[1] == f"{PLACE}: 1 entry listed"
    assert f'main: factor "one" ({factor.service_sid}): verified' in live.out
    assert factor.identity not in live.out


@pytest.mark.parametrize("output", ["text", "json", "github"])
async def test_check_live_says_what_is_wrong_with_one(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path, output: str
) -> None:
    good = entry("own", simulator.add_factor())
    server.answers(document([{**good, "name": "two", "service_sid": "VA12"}, {**good, "interval": "soon"}]))
    path = write(tmp_path, simulator, source(server), factors=(good,))
    ran = await call_beside("check", "--live", "--config.file", path, "--output", output)

    assert ran.status == 1
    shown = ran.out + ran.err
    assert f'{PLACE}: factors[0].service_sid of "two"'.replace('"', '\\"' if output == "json" else '"') in shown
    assert "accepted" in shown, "the factor of the file is tested all the same"
    assert str(good["identity"]) not in shown
    if output == "json":
        found = [of for of in json.loads(ran.out)["findings"] if of["subject"] == "watchlist"]
        assert {(of["name"], of["severity"]) for of in found} == {(NAME, "error")}
        assert len(found) >= 2


async def test_check_live_says_which_answers_not(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path
) -> None:
    server.answers(b"no", status="404 Not Found")
    ran = await call_beside("check", "--live", "--config.file", write(tmp_path, simulator, source(server)))

    assert ran.status == 1
    assert f"{PLACE}: answers HTTP 404; check the URL\n" in ran.err


async def test_check_live_reports_a_configuration_that_can_not_be_completed(
    call_beside: Run, simulator: Simulator, server: ListServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_config: object) -> None:
        raise ConfigError([ErrorDetail("config.toml", "is not what it was", "look again")])

    monkeypatch.setattr("exporter.cli.live.with_first_answers", fail)
    ran = await call_beside("check", "--live", "--config.file", write(tmp_path, simulator, source(server)))

    assert (ran.status, ran.err) == (1, "config.toml: is not what it was; look again\n")
    assert simulator.calls.total == 0
