"""``plan --live``: what it finds out by requests, against the simulator over a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.config.sharding import Shard
from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import HINTS, Reason
from tests.support.config_files import account_of, write_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.simulator import Simulator
    from exporter.simulator.factors import SimulatedService
    from tests.support.commands import Ran

    Plan = Callable[..., Awaitable[Ran]]


def write(
    folder: Path,
    simulator: Simulator,
    services: dict[str, SimulatedService],
    *lines: str,
    accounts: dict[str, dict[str, object]] | None = None,
    **keys: object,
) -> str:
    """Write a configuration with ``[[services]]`` entries, each with further ``keys``; return its path."""
    own = {"main": account_of(simulator, requests_per_second=1000)}
    path = write_config(folder / "config.toml", accounts or own, polling={"interval": "5m", "max_attempts": 2})
    with path.open("a", encoding="utf-8") as file:
        for name, of in services.items():
            table = {"name": name, "service_sid": of.sid, **keys}
            file.writelines(["[[services]]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in table.items())])
        file.writelines(f"{line}\n" for line in lines)
    return str(path)


def service_of(simulator: Simulator, entities: int) -> SimulatedService:
    service = simulator.add_service()
    for _ in range(entities):
        simulator.add_entity(service_sid=service.sid)
    return service


async def in_json(plan: Plan, path: str, *words: str) -> tuple[int, dict[str, Any], str]:
    ran = await plan("plan", "--live", "--config.file", path, "--output", "json", *words)
    document: dict[str, Any] = json.loads(ran.out)
    return ran.status, document, ran.err


def counts(document: dict[str, Any]) -> dict[str, tuple[int | None, bool, bool | None]]:
    services = [service for account in document["accounts"] for service in account["services"]]
    return {of["name"]: (of["entities"], of["counted"], of["truncated"]) for of in services}


async def test_the_entities_of_every_service_are_counted(
    call_beside: Plan, simulator: Simulator, tmp_path: Path
) -> None:
    services = {"consumer": service_of(simulator, 120), "empty": service_of(simulator, 0)}
    path = write(tmp_path, simulator, services)
    status, document, err = await in_json(call_beside, path, "--factors-per-entity", "2")
    ran = await call_beside("plan", "--live", "--config.file", path)

    assert (status, err) == (0, "")
    assert counts(document) == {"consumer": (120, True, False), "empty": (0, True, False)}
    [account] = document["accounts"]
    assert account["found_factors"] == 240
    assert account["listings"]["requests"] == 3 + 120 + 1
    assert "service consumer:   120 entities, with 120 factors (--factors-per-entity)\n" in ran.out
    assert simulator.calls.by_operation() == {"list_entities": {"200": 2 * (3 + 1)}}
    assert not any(entity.identity in ran.out for entity in simulator.world.entities.values())


@pytest.mark.parametrize(("most", "counted"), [(119, (119, True, True)), (120, (120, True, False))])
async def test_a_service_is_counted_up_to_max_entities(
    call_beside: Plan, simulator: Simulator, tmp_path: Path, most: int, counted: tuple[int, bool, bool]
) -> None:
    path = write(tmp_path, simulator, {"consumer": service_of(simulator, 120)}, max_entities=most)
    status, document, _ = await in_json(call_beside, path)

    assert (status, counts(document)) == (0, {"consumer": counted})


async def test_a_shard_lists_its_own_entities(call_beside: Plan, simulator: Simulator, tmp_path: Path) -> None:
    service = service_of(simulator, 60)
    path = write(tmp_path, simulator, {"consumer": service}, "[sharding]", 'shard = "1/3"')
    _, document, _ = await in_json(call_beside, path)

    own = sum(Shard(1, 3).holds("main", service.sid, of.identity) for of in simulator.world.entities.values())
    assert 0 < own < 60
    assert counts(document) == {"consumer": (own, True, False)}
    assert document["accounts"][0]["listings"]["requests"] == 2 + own


async def test_a_page_that_fails_once_is_requested_again(
    call_beside: Plan, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST_ENTITIES, times=1))
    status, document, _ = await in_json(
        call_beside, write(tmp_path, simulator, {"consumer": service_of(simulator, 70)})
    )

    assert (status, counts(document)) == (0, {"consumer": (70, True, False)})


async def test_what_cannot_be_counted_is_left_out_and_named(
    call_beside: Plan, simulator: Simulator, tmp_path: Path
) -> None:
    services = {"good": service_of(simulator, 3), "bad": service_of(simulator, 3)}
    simulator.faults.add(Fault(operation=Endpoint.LIST_ENTITIES, service_sid=services["bad"].sid))
    path = write(tmp_path, simulator, services)
    status, document, err = await in_json(call_beside, path)
    ran = await call_beside("plan", "--live", "--config.file", path)

    assert (status, document["exit_status"]) == (1, 1)
    assert "service bad:        left out; its entities could not be counted\n" in ran.out
    assert counts(document) == {"good": (3, True, False), "bad": (None, False, None)}
    assert err == (
        f'main: service "bad" ({services["bad"].sid}): not counted: HTTP 503, Twilio error 20503; '
        f"{HINTS[Reason.SERVER_ERROR]}\n"
    )


async def test_a_listing_that_does_not_end(call_beside: Plan, simulator: Simulator, tmp_path: Path) -> None:
    following = "https://verify.twilio.com/v2/Services/VA/Entities?PageSize=50&Page=1&PageToken=again"
    body = json.dumps({"entities": [], "meta": {"key": "entities", "next_page_url": following}})
    simulator.faults.add(Fault(FaultKind.BODY, operation=Endpoint.LIST_ENTITIES, body=body))
    services = {"consumer": simulator.add_service()}
    status, _, err = await in_json(call_beside, write(tmp_path, simulator, services))

    assert status == 1
    assert "not counted: the listing did not end after" in err
    assert simulator.calls.total <= 3
    status, _, err = await in_json(call_beside, write(tmp_path, simulator, services, max_entities=1))
    assert status == 1
    assert "not counted: the listing did not end after" in err


async def test_refused_credentials_end_the_counting_of_their_account_alone(
    call_beside: Plan, simulator: Simulator, tmp_path: Path
) -> None:
    accounts = {"good": account_of(simulator), "refused": account_of(simulator, password="wrong")}
    path = write(tmp_path, simulator, {}, accounts=accounts)
    with Path(path).open("a", encoding="utf-8") as file:  # noqa: ASYNC230 - a test's file
        for number in range(9):
            sid, account = service_of(simulator, 1).sid, "good" if number == 4 else "refused"
            file.write(f'[[services]]\nname = "n{number}"\nservice_sid = "{sid}"\naccount = "{account}"\n')
    status, document, err = await in_json(call_beside, path)

    found = counts(document)
    assert status == 1
    assert found.pop("n4") == (1, True, False)
    assert set(found.values()) == {(None, False, None)}
    assert len(err.splitlines()) >= 8
    assert err.count(f"not counted: HTTP 401, Twilio error 20003; {HINTS[Reason.AUTH]}\n") == 8
    assert simulator.calls.total <= 6


async def test_a_number_of_entities_is_not_counted(call_beside: Plan, simulator: Simulator, tmp_path: Path) -> None:
    path = write(tmp_path, simulator, {"consumer": service_of(simulator, 3)})
    status, document, _ = await in_json(call_beside, path, "--entities", "7")

    assert (status, counts(document)) == (0, {"consumer": (7, False, False)})
    assert simulator.calls.total == 0
