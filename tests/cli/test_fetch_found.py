"""``fetch`` of factors that listings find, against the simulator over a real socket."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.logs.output import REDACTED
from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import HINTS, Reason
from tests.support.config_files import account_of, entry, write_config
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from exporter.simulator import SimulatedFactor, Simulator
    from exporter.simulator.factors import SimulatedEntity, SimulatedService
    from tests.support.commands import Ran

    Fetch = Callable[..., Awaitable[Ran]]
    Entities = Mapping[str, SimulatedFactor | SimulatedEntity]

GONE = "VA" + "9" * 32


def write(
    folder: Path,
    simulator: Simulator,
    entities: Entities,
    *factors: dict[str, object],
    accounts: dict[str, dict[str, object]] | None = None,
    **keys: object,
) -> str:
    """Write a configuration with entities, each with further ``keys``; return its path."""
    own = {"main": account_of(simulator, requests_per_second=1000)}
    path = write_config(folder / "config.toml", accounts or own, factors, polling={"max_attempts": 1})
    with path.open("a", encoding="utf-8") as file:
        for name, of in entities.items():
            table = {"name": name, "service_sid": of.service_sid, "identity": of.identity, **keys}
            file.writelines(["[[entities]]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in table.items())])
    return str(path)


def short(entity: str, factor: SimulatedFactor) -> str:
    return f"{entity}-{factor.sid[-8:]}"


def operations(simulator: Simulator) -> dict[str, int]:
    """Return the number of requests by operation."""
    counts = simulator.calls.by_operation()
    return {operation: sum(by_code.values()) for operation, by_code in counts.items()}


async def in_json(fetch: Fetch, path: str, *words: str) -> tuple[int, dict[str, Any], str]:
    ran = await fetch("fetch", "--config.file", path, "--output", "json", *words)
    document: dict[str, Any] = json.loads(ran.out)
    return ran.status, document, ran.err


def names(document: dict[str, Any]) -> list[str]:
    return [shown["factor"] for shown in document["factors"]]


async def test_listed_and_found_factors_are_fetched(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    alone = simulator.add_factor()
    first = simulator.add_factor(status="unverified")
    others = [simulator.add_factor(identity=first.identity) for _ in range(24)]
    labels: dict[str, Any] = {"labels.team": "ops"}
    path = write(tmp_path, simulator, {"ops": first}, entry("alone", alone), **labels)
    status, document, err = await in_json(call_beside, path)

    assert (status, err, document["failures"]) == (1, "", [])
    assert names(document)[0] == short("ops", first)
    assert set(names(document)) == {"alone", *(short("ops", factor) for factor in (first, *others))}
    assert document["factors"][0]["labels"] == {"team": "ops"}
    assert operations(simulator) == {"fetch": 26, "list": 2}
    assert set(simulator.calls.by_factor.values()) == {1}
    assert first.identity not in json.dumps(document)


async def test_the_outputs_of_found_factors(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    path = write(tmp_path, simulator, {"ops": factor})
    table = await call_beside("fetch", "--config.file", path)
    exposition = await call_beside("fetch", "--config.file", path, "--output", "openmetrics")

    assert (table.status, exposition.status) == (0, 0)
    assert [line.split()[:3] for line in table.out.splitlines()[1:]] == [[short("ops", factor), "main", "verified"]]
    assert Scrape(exposition.out, openmetrics=True).factor("verified", short("ops", factor)) == 1


async def test_a_factor_that_is_listed_and_found_is_the_listed_one(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    both = simulator.add_factor()
    path = write(tmp_path, simulator, {"ops": both}, entry("payments", both))
    status, document, _ = await in_json(call_beside, path)
    named, by_other_name, _ = await in_json(call_beside, path, short("ops", both))

    assert (status, names(document)) == (0, ["payments"])
    assert (named, names(by_other_name)) == (0, ["payments"])


async def test_a_listed_name_needs_no_listing(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    factors = [simulator.add_factor() for _ in range(3)]
    entries = [entry(f"listed-{number}", factor) for number, factor in enumerate(factors)]
    path = write(tmp_path, simulator, {"ops": factors[0]}, *entries)
    status, document, _ = await in_json(call_beside, path, "listed-1")

    assert (status, names(document)) == (0, ["listed-1"])
    assert operations(simulator) == {"fetch": 1}


async def test_a_found_name_needs_the_listing_of_its_entity_alone(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    factors = {name: simulator.add_factor() for name in ("ops", "ops-night", "sales")}
    more = simulator.add_factor(identity=factors["ops-night"].identity)
    path = write(tmp_path, simulator, factors, entry("listed", simulator.add_factor()))
    wanted = short("ops-night", factors["ops-night"])
    status, document, _ = await in_json(call_beside, path, wanted)

    assert (status, names(document)) == (0, [wanted])
    assert operations(simulator) == {"fetch": 1, "list": 1}
    assert simulator.calls.by_factor.get(more.sid) is None
    status, document, _ = await in_json(call_beside, path, "listed", wanted)
    assert (status, sorted(names(document))) == (0, ["listed", wanted])


async def test_a_found_factor_has_a_short_and_a_long_name(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    twins = [simulator.add_factor(factor_sid=f"YF{number}{'a' * 31}", identity="made-up-twins") for number in "12"]
    path = write(tmp_path, simulator, {"ops": twins[0]})
    long = [f"ops-{factor.sid}" for factor in twins]

    for name, shown in (("ops-aaaaaaaa", long), (long[1], long[1:])):
        status, document, _ = await in_json(call_beside, path, name)
        assert (status, sorted(names(document))) == (0, shown)
    other = simulator.add_factor(identity="made-up-twins")
    status, document, _ = await in_json(call_beside, path, f"ops-{other.sid}")
    assert (status, names(document)) == (0, [short("ops", other)])


async def test_an_unknown_name_that_no_entity_can_have_sends_no_request(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    factor = simulator.add_factor()
    path = write(tmp_path, simulator, {"ops-oncall": factor}, entry("listed", simulator.add_factor()))
    wanted = short("ops-oncall", factor)
    misspelt = wanted.replace("oncall", "oncal")
    ran = await call_beside("fetch", "--config.file", path, misspelt, "ops-oncall", factor.identity)

    assert (ran.status, ran.out) == (64, "")
    assert ran.err.splitlines() == [
        f'no watched factor is named "{misspelt}"; did you mean "{wanted}"?',
        (
            'no watched factor is named "ops-oncall"; the factors of this entity are named "ops-oncall-" and the '
            "last 8 digits of their SID"
        ),
        f'no watched factor is named "{REDACTED}"',
    ]
    assert simulator.calls.total == 0


async def test_an_unknown_name_that_a_listing_does_not_find(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    factor = simulator.add_factor(factor_sid="YF" + "a" * 32)
    path = write(tmp_path, simulator, {"ops": factor})
    ran = await call_beside("fetch", "--config.file", path, "ops-aaaaaaab")

    assert (ran.status, ran.out) == (64, "")
    assert ran.err == 'no watched factor is named "ops-aaaaaaab"; did you mean "ops-aaaaaaaa"?\n'
    assert operations(simulator) == {"list": 1}
    assert factor.identity not in ran.err


async def test_an_entity_that_cannot_be_listed_is_undetermined(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    broken = simulator.add_service()
    simulator.faults.add(Fault(operation=Endpoint.LIST, service_sid=broken.sid))
    entities: Entities = {
        "good": simulator.add_factor(),
        "bad": simulator.add_entity(service_sid=broken.sid, identity="made-up-identity"),
    }
    path = write(tmp_path, simulator, entities)
    table = await call_beside("fetch", "--config.file", path)
    status, document, _ = await in_json(call_beside, path)
    exposition = await call_beside("fetch", "--config.file", path, "--output", "openmetrics")

    detail, hint = "HTTP 503, Twilio error 20503", HINTS[Reason.SERVER_ERROR]
    assert {table.status, status, exposition.status} == {2}
    assert re.split(r" {2,}", table.out.splitlines()[1]) == [
        "bad-*",
        "main",
        "undetermined",
        f'entity "bad" not listed: {detail}; {hint}',
    ]
    assert document["failures"] == [
        {
            "kind": "entity",
            "account": "main",
            "service_sid": broken.sid,
            "name": "bad",
            "reason": "server_error",
            "detail": detail,
            "hint": hint,
        }
    ]
    assert exposition.err == f'main: entity "bad" not listed: {detail}; {hint}\n'
    assert len(document["factors"]) == 1
    assert "made-up-identity" not in table.out + exposition.err + json.dumps(document)


async def test_what_a_good_page_shows_is_fetched(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    listed = [{"sid": factor.sid, "factor_type": factor.factor_type}]
    following = "https://verify.twilio.com/v2/Factors?PageSize=20&Page=1&PageToken=none"
    body = json.dumps({"factors": listed, "meta": {"key": "factors", "next_page_url": following}})
    simulator.faults.add(Fault(FaultKind.BODY, operation=Endpoint.LIST, body=body, times=1))
    status, document, _ = await in_json(call_beside, write(tmp_path, simulator, {"ops": factor}))

    assert (status, names(document)) == (2, [short("ops", factor)])
    assert [(failed["name"], failed["reason"]) for failed in document["failures"]] == [("ops", "bad_request")]


async def test_a_name_that_may_be_in_an_entity_that_cannot_be_listed_is_undetermined(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST))
    path = write(tmp_path, simulator, {"ops": simulator.add_factor()}, entry("listed", simulator.add_factor()))
    status, document, err = await in_json(call_beside, path, "ops-1a2b3c4d", "listed")

    assert (status, names(document)) == (2, ["listed"])
    assert err == 'no factor named "ops-1a2b3c4d" was found, but not everything could be listed\n'


async def test_an_entity_without_factors_is_nothing_to_fetch(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, {"ops": simulator.add_entity()})
    status, document, err = await in_json(call_beside, path)

    assert (status, err) == (2, "nothing to fetch\n")
    assert (document["factors"], document["failures"], document["summary"]["factors"]) == ([], [], 0)


@pytest.mark.parametrize("listed", [True, False])
async def test_refused_credentials_end_the_listings_of_their_account_alone(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path, listed: bool
) -> None:
    accounts = {"good": account_of(simulator), "refused": account_of(simulator, password="wrong")}
    of_good = entry("good-one", simulator.add_factor(), account="good")
    of_refused = [entry("refused-one", simulator.add_factor(), account="refused")] if listed else []
    entities = {f"ops-{number}": simulator.add_entity() for number in range(30)}
    path = write(tmp_path, simulator, entities, of_good, *of_refused, accounts=accounts, account="refused")
    status, document, _ = await in_json(call_beside, path)

    assert status == 2
    assert {shown["factor"]: shown["status"] for shown in document["factors"]} == {
        "good-one": "verified",
        **({"refused-one": "unknown"} if listed else {}),
    }
    failures = document["failures"]
    assert sorted(failed["name"] for failed in failures) == sorted(entities)
    assert {failed["reason"] for failed in failures} == {"auth"}
    assert simulator.calls.total <= 8
    assert "wrong" not in json.dumps(document)


async def test_a_factor_that_confirms_a_refused_listing_is_fetched_once(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST, status=403))
    factors = [simulator.add_factor() for _ in range(3)]
    entries = [entry(f"listed-{number}", factor) for number, factor in enumerate(factors)]
    status, document, _ = await in_json(call_beside, write(tmp_path, simulator, {"ops": factors[0]}, *entries))

    assert (status, {shown["status"] for shown in document["factors"]}) == (2, {"verified"})
    assert [failed["reason"] for failed in document["failures"]] == ["forbidden"]
    assert set(simulator.calls.by_factor.values()) == {1}


def service_of(simulator: Simulator, entities: int) -> tuple[SimulatedService, list[SimulatedFactor]]:
    """Return a new service with so many entities of one factor each."""
    service = simulator.add_service()
    return service, [simulator.add_factor(service_sid=service.sid) for _ in range(entities)]


def with_services(path: str, **services: SimulatedService) -> str:
    """Add these ``[[services]]`` entries by name; return the path."""
    with Path(path).open("a", encoding="utf-8") as file:
        for name, service in services.items():
            file.writelines(["[[services]]\n", f'name = "{name}"\n', f'service_sid = "{service.sid}"\n'])
    return path


async def test_the_factors_of_a_service_are_fetched(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    service, factors = service_of(simulator, 60)
    listed = simulator.add_factor(service_sid=service.sid)
    path = with_services(write(tmp_path, simulator, {}, entry("listed", listed)), consumer=service)
    status, document, err = await in_json(call_beside, path)

    assert (status, err, document["failures"]) == (0, "", [])
    assert set(names(document)) == {"listed", *(short("consumer", factor) for factor in factors)}
    assert operations(simulator) == {"fetch": 61, "list": 61, "list_entities": 2}
    assert not any(factor.identity in json.dumps(document) for factor in factors)


async def test_a_name_of_a_service_ends_the_listing_as_soon_as_it_is_found(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    service, factors = service_of(simulator, 400)
    other, _ = service_of(simulator, 3)
    path = with_services(write(tmp_path, simulator, {}), consumer=service, staff=other)
    for wanted in (short("consumer", factors[0]), f"consumer-{factors[1].sid}"):
        simulator.calls.clear()
        status, document, err = await in_json(call_beside, path, wanted)

        assert (status, err, document["failures"]) == (0, "", [])
        assert [shown["factor"][-8:] for shown in document["factors"]] == [wanted[-8:]]
        assert operations(simulator)["fetch"] == 1
        assert operations(simulator)["list"] < 200
        assert simulator.calls.by_factor.total() == 1


async def test_an_unknown_name_of_a_service(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    service, _ = service_of(simulator, 5)
    path = with_services(write(tmp_path, simulator, {}), consumer=service)
    ran = await call_beside("fetch", "--config.file", path, "consumer-00000000")
    alone = await call_beside("fetch", "--config.file", path, "consumer")

    assert (ran.status, ran.out) == (alone.status, alone.out) == (64, "")
    assert ran.err.startswith('no watched factor is named "consumer-00000000"')
    assert 'the factors of this service are named "consumer-" and the last 8 digits of their SID' in alone.err
    assert operations(simulator) == {"list": 5, "list_entities": 1}


async def test_a_service_that_cannot_be_listed_is_undetermined(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    service, _ = service_of(simulator, 5)
    simulator.faults.add(Fault(operation=Endpoint.LIST_ENTITIES))
    path = with_services(write(tmp_path, simulator, {}), consumer=service)
    status, document, _ = await in_json(call_beside, path)
    table = await call_beside("fetch", "--config.file", path, short("consumer", simulator.add_factor()))

    [failed] = document["failures"]
    assert (status, table.status) == (2, 2)
    assert (failed["kind"], failed["name"], failed["service_sid"]) == ("service", "consumer", service.sid)
    assert failed["reason"] == "server_error"
    row = re.split(r" {2,}", table.out.splitlines()[1])
    assert row[:3] == ["consumer-*", "main", "undetermined"]
    assert row[3].startswith('service "consumer" not listed: HTTP 503, Twilio error 20503; ')


async def test_entities_of_a_service_that_cannot_be_listed_are_one_row(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    service, factors = service_of(simulator, 9)
    simulator.faults.add(Fault(operation=Endpoint.LIST, times=7))
    path = with_services(write(tmp_path, simulator, {}), consumer=service)
    table = await call_beside("fetch", "--config.file", path)
    simulator.faults.add(Fault(operation=Endpoint.LIST, times=7))
    status, document, _ = await in_json(call_beside, path)

    lines = [re.split(r" {2,}", line) for line in table.out.splitlines()[1:]]
    assert (table.status, status) == (2, 2)
    assert lines[0][:3] == ["consumer-*", "main", "undetermined"]
    assert lines[0][3].startswith("7 entities not listed: HTTP 503, ")
    assert [line[2] for line in lines[1:]] == ["verified", "verified"]
    assert len(document["failures"]) == 7
    assert {failed["kind"] for failed in document["failures"]} == {"entity"}
    assert all(re.fullmatch("consumer-[0-9a-f]{8}", failed["name"]) for failed in document["failures"])
    assert not any(factor.identity in table.out + json.dumps(document) for factor in factors)


async def test_a_service_with_more_than_max_entities_is_named(
    call_beside: Fetch, simulator: Simulator, tmp_path: Path
) -> None:
    service, _ = service_of(simulator, 5)
    path = with_services(write(tmp_path, simulator, {}), consumer=service)
    with Path(path).open("a", encoding="utf-8") as file:  # noqa: ASYNC230 - a test's file
        file.write("max_entities = 4\n")
    status, document, err = await in_json(call_beside, path)

    assert (status, len(document["factors"])) == (0, 4)
    assert (
        err
        == 'warning: main: service "consumer" has more than 4 entities (max_entities); the rest is not watched\n'
    )


async def test_a_rate_limit_delays_a_listing(call_beside: Fetch, simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST, status=429, retry_after=1, times=1))
    path = write(tmp_path, simulator, {"ops": simulator.add_factor()})
    config = (tmp_path / "config.toml").read_text().replace("max_attempts = 1", "max_attempts = 2")
    (tmp_path / "config.toml").write_text(config)
    status, document, err = await in_json(call_beside, path)

    assert (status, len(document["factors"])) == (0, 1)
    assert err == "main: rate limited by the API (HTTP 429); waiting 1 s\n"
