"""``check --live``: which requests it sends, and what it says about each response."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.cli.diagnosis import _MEANINGS, _permissions
from exporter.config import ConfigError, ErrorDetail, load
from exporter.config.sharding import Shard
from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import HINTS, Reason
from tests.support.config_files import account_of, app_of, entry, numbered_entry, write_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from exporter.simulator import SimulatedFactor, Simulator
    from exporter.simulator.factors import SimulatedEntity, SimulatedService
    from tests.support.commands import Ran

    Check = Callable[..., Awaitable[Ran]]

FACTOR_READ, FACTOR_LIST, ENTITY_LIST, SERVICE_READ = (
    "/twilio/verify/factor/read",
    "/twilio/verify/factor/list",
    "/twilio/verify/entity/list",
    "/twilio/verify/service/read",
)
NOTE = (
    f"without {SERVICE_READ}, a deleted service can't be told from deleted factors; "
    "these names are not from Twilio's documentation and may differ in the console"
)
EVIDENCE = re.compile(r"request RQ[0-9a-f]{32}, [0-9]+ ms")


def write(
    folder: Path,
    simulator: Simulator,
    *factors: dict[str, object],
    entities: Mapping[str, SimulatedEntity | SimulatedFactor] | None = None,
    polling: Mapping[str, object] | None = None,
    **account: object,
) -> str:
    accounts = {"main": account_of(simulator, **account)}
    path = write_config(folder / "config.toml", accounts, factors, polling=polling)
    with path.open("a") as file:
        for name, of in (entities or {}).items():
            file.write(f'[[entities]]\nname = "{name}"\nservice_sid = "{of.service_sid}"\n')
            file.write(f'identity = "{of.identity}"\n')
    return str(path)


def append(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text)


def plain(text: str) -> list[str]:
    """Return the lines of an output, with the request ID and the duration replaced."""
    return EVIDENCE.sub("RQ", text).splitlines()


async def findings(check: Check, path: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status and the findings of the JSON output, but those about the configuration."""
    ran = await check("check", "--live", "--output", "json", "--config.file", path)
    document = json.loads(ran.out)
    assert (document["live"], document["config_file"], document["exit_status"]) == (True, path, ran.status)
    assert ran.err == ""
    return ran.status, [found for found in document["findings"] if found["subject"] != "configuration"]


def brief(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(finding["subject"], finding["severity"]) for finding in found]


async def test_without_the_flag_no_request_is_sent(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()))
    ran = await call_beside("check", "--config.file", path)

    assert (ran.status, ran.out, ran.err) == (0, f"{path} is valid: 1 account, 1 factor\n", "")
    assert simulator.calls.total == 0


async def test_everything_is_well(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    idle, first = simulator.add_factor(), simulator.add_factor(status="unverified")
    other = simulator.add_service()
    path = write(
        tmp_path,
        simulator,
        entry("idle", idle, paused=True),
        entry("first", first),
        entry("second", simulator.add_factor()),
        entry("asleep", simulator.add_factor(service_sid=other.sid), paused=True),
        entities={"ops": first},
    )
    ran = await call_beside("check", "--live", "--config.file", path)

    sid = first.service_sid
    assert (ran.status, ran.err) == (0, "")
    assert plain(ran.out) == [
        f"{path} is valid: 1 account, 4 factors, 1 entity",
        "main: credentials: accepted",
        f"main: service {sid}: exists (HTTP 200, RQ)",
        f'main: factor "first" ({sid}): unverified (HTTP 200, RQ)',
        f"main: service {other.sid}: exists (HTTP 200, RQ)",
        f'main: entity "ops" ({sid}): 1 factor listed (HTTP 200, RQ)',
        f"main: permissions: a restricted API key needs {FACTOR_READ}, {FACTOR_LIST}; {NOTE}",
    ]
    assert dict(simulator.calls.by_factor) == {first.sid: 1}
    assert simulator.calls.total == 4


async def test_one_page_of_a_long_list_is_enough(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    entity = simulator.add_entity()
    for _ in range(21):
        simulator.add_factor(identity=entity.identity)
    status, found = await findings(call_beside, write(tmp_path, simulator, entities={"ops": entity}))

    assert (status, simulator.calls.total) == (0, 3)
    assert found[2]["seen"].startswith("20 factors listed, and more (HTTP 200, ")
    assert (found[2]["name"], found[2]["service_sid"]) == ("ops", entity.service_sid)


async def test_every_account_s_permissions_are_named_also_where_its_credentials_are_refused(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    accounts = {"good": account_of(simulator), "refused": account_of(simulator, password="a-wrong-secret")}
    factors = [entry(f"{name}-one", simulator.add_factor(), account=name) for name in accounts]
    _, found = await findings(call_beside, str(write_config(tmp_path / "config.toml", accounts, factors)))

    needed = [finding for finding in found if finding["subject"] == "permissions"]
    assert [finding["account"] for finding in needed] == ["good", "refused"]
    for finding in needed:
        assert (finding["seen"], finding["meaning"]) == (f"a restricted API key needs {FACTOR_READ}", NOTE)
        assert finding["permissions"] == [FACTOR_READ, SERVICE_READ]
        assert finding["optional_permissions"] == [SERVICE_READ]


@pytest.mark.parametrize(
    ("account", "required"),
    [
        ("listed", [FACTOR_READ]),
        ("with-entity", [FACTOR_READ, FACTOR_LIST]),
        ("with-service", [FACTOR_READ, FACTOR_LIST, ENTITY_LIST]),
    ],
)
@pytest.mark.parametrize("oauth", [False, True])
def test_the_permissions_are_those_that_the_account_s_entries_need(
    tmp_path: Path, account: str, required: list[str], oauth: bool
) -> None:
    sid, table = f"AC{'1' * 32}", {"client_id": f"OQ{'1' * 32}", "client_secret": "made-up"}
    credentials = {"oauth": table} if oauth else {"password": "made-up"}
    names = ("listed", "with-entity", "with-service")
    accounts = {name: {"account_sid": sid, **credentials} for name in names}
    path = write_config(tmp_path / "config.toml", accounts, [numbered_entry(1, account="listed")])
    with path.open("a") as file:
        for array, more in (
            ("entities", 'account = "with-entity"\nidentity = "made-up-one"\n'),
            ("services", 'account = "with-service"\n'),
        ):
            file.write(f'[[{array}]]\nname = "ops"\nservice_sid = "VA{"1" * 32}"\n{more}')
    found = _permissions(load(path, environ={}, flags={}), account)

    assert found.seen == f"{'an OAuth app' if oauth else 'a restricted API key'} needs {', '.join(required)}"
    assert found.permissions == (*required, SERVICE_READ)
    assert found.optional_permissions == (SERVICE_READ,)
    assert found.meaning == NOTE


async def test_a_service_without_listed_factors_is_tested_with_one_that_a_page_shows(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    empty, entity = simulator.add_entity(), simulator.add_entity(identity="identity-of-a-person")
    factors = [simulator.add_factor(identity=entity.identity) for _ in range(3)]
    path = write(tmp_path, simulator, entities={"empty": empty, "ops": entity})
    ran = await call_beside("check", "--live", "--config.file", path)

    sid, first = entity.service_sid, factors[0]
    shown = plain(ran.out)
    assert (ran.status, ran.err) == (0, "")
    assert shown[3:-1] == [
        f'main: entity "empty" ({sid}): 0 factors listed (HTTP 200, RQ)',
        f'main: entity "ops" ({sid}): 3 factors listed (HTTP 200, RQ)',
        f'main: factor "ops-{first.sid[-8:]}" ({sid}): verified (HTTP 200, RQ)',
    ]
    assert "identity-of-a-person" not in ran.out


def with_services(path: str, *lines: str, **services: SimulatedService) -> str:
    """Add these ``[[services]]`` entries by name, then these lines; return the path."""
    with Path(path).open("a", encoding="utf-8") as file:
        for name, service in services.items():
            file.writelines(["[[services]]\n", f'name = "{name}"\n', f'service_sid = "{service.sid}"\n'])
        file.writelines(f"{line}\n" for line in lines)
    return path


async def test_the_first_page_of_a_service_and_what_it_shows(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    service, other = simulator.add_service(), simulator.add_service()
    factors = [simulator.add_factor(service_sid=service.sid) for _ in range(60)]
    path = with_services(write(tmp_path, simulator), consumer=service, empty=other)
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.err) == (0, "")
    shown = plain(ran.out)
    assert shown[:2] == [f"{path} is valid: 1 account, 0 factors, 2 services", "main: credentials: accepted"]
    assert shown[2:6] == [
        f"main: service {service.sid}: exists (HTTP 200, RQ)",
        f"main: service {other.sid}: exists (HTTP 200, RQ)",
        f'main: entities of "consumer" ({service.sid}): 50 entities listed, and more (HTTP 200, RQ)',
        f'main: entities of "empty" ({other.sid}): 0 entities listed (HTTP 200, RQ)',
    ]
    entity, factor = shown[6:8]
    assert re.fullmatch(
        rf'main: entity "consumer-[0-9a-f]{{8}}" \({service.sid}\): 1 factor listed \(HTTP 200, RQ\)', entity
    )
    assert re.fullmatch(
        rf'main: factor "consumer-[0-9a-f]{{8}}" \({service.sid}\): verified \(HTTP 200, RQ\)', factor
    )
    assert simulator.calls.total == 6
    assert not any(factor.identity in ran.out for factor in factors)


async def test_an_entity_that_no_request_can_name(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    service = simulator.add_service()
    simulator.add_factor(service_sid=service.sid)
    strange = simulator.add_entity(service_sid=service.sid, identity="x" * 256)
    path = with_services(write(tmp_path, simulator), consumer=service)
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    (line,) = [line for line in plain(ran.out + ran.err) if "entities of" in line]
    assert "the identity of 1 entity can't be part of a path, so its factors aren't watched" in line
    assert strange.sid in line
    assert "xxxx" not in ran.out + ran.err


async def test_the_entities_of_a_service_can_be_of_another_shard(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    shards = (Shard(0, 2), Shard(1, 2))
    factors = [simulator.add_factor() for _ in range(12)]
    held = [{of.identity for of in factors if shard.holds("main", of.service_sid, of.identity)} for shard in shards]
    service = next(iter(simulator.world.services.values()))
    path = with_services(write(tmp_path, simulator), "[sharding]", 'shard = "1/2"', consumer=service)
    assert all(held)
    status, _ = await findings(call_beside, path)

    fetched = [of for of in factors if of.sid in simulator.calls.by_factor]
    assert (status, len(fetched)) == (0, 1)
    assert fetched[0].identity in held[1]


@pytest.mark.parametrize(
    ("endpoint", "permission", "subject", "sent"),
    [
        (Endpoint.LIST_ENTITIES, ENTITY_LIST, "entities", 2),
        (Endpoint.LIST, FACTOR_LIST, "entity", 3),
        (Endpoint.FETCH, FACTOR_READ, "factor", 4),
    ],
)
async def test_a_permission_that_a_service_needs_is_named(
    call_beside: Check,
    simulator: Simulator,
    tmp_path: Path,
    endpoint: Endpoint,
    permission: str,
    subject: str,
    sent: int,
) -> None:
    simulator.add_factor()
    simulator.faults.add(Fault(operation=endpoint, status=403))
    service = next(iter(simulator.world.services.values()))
    status, found = await findings(call_beside, with_services(write(tmp_path, simulator), consumer=service))

    [refused] = [finding for finding in found if finding["severity"] == "error"]
    assert (status, refused["subject"], refused["permissions"]) == (1, subject, [permission])
    assert refused["hint"] == f"give the API key or the OAuth app the permission {permission}"
    assert simulator.calls.total == sent


async def test_a_404_for_the_list_of_a_service(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    gone, odd, untold = simulator.add_service(), simulator.add_service(), simulator.add_service()
    simulator.delete_service(gone.sid)
    simulator.faults.add(Fault(operation=Endpoint.LIST_ENTITIES, status=404))
    simulator.faults.add(Fault(operation=Endpoint.SERVICE, service_sid=untold.sid, status=403))
    path = with_services(write(tmp_path, simulator), gone=gone, odd=odd, untold=untold)
    status, found = await findings(call_beside, path)

    listed = {finding["name"]: finding for finding in found if finding["subject"] == "entities"}
    assert status == 1
    assert {finding["severity"] for finding in listed.values()} == {"error"}
    assert {name: finding["meaning"] for name, finding in listed.items()} == {
        "gone": "its service does not exist",
        "odd": "the service exists, but this address has no list of its entities",
        "untold": "this account has no such service",
    }


@pytest.mark.parametrize("shard", ["0/2", "1/2"])
def test_the_permissions_are_those_of_all_shards(tmp_path: Path, shard: str) -> None:
    account = {"account_sid": f"AC{'1' * 32}", "password": "made-up"}
    path = write_config(tmp_path / "config.toml", {"main": account}, sharding={"shard": shard})
    with path.open("a") as file:
        file.write(f'[[entities]]\nname = "ops"\nservice_sid = "VA{"1" * 32}"\nidentity = "made-up-one"\n')
    found = _permissions(load(path, environ={}, flags={}), "main")

    assert found.permissions == (FACTOR_READ, FACTOR_LIST, SERVICE_READ)


async def test_a_url_that_was_not_loaded_may_need_another_permission(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("first", simulator.add_factor()))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        append(path, f'[[watchlist.http]]\nname = "users"\nurl = "{url}"\n')
        _, found = await findings(call_beside, path)

    assert found[-1]["permissions"] == [FACTOR_READ, SERVICE_READ]
    assert found[-1]["hint"] == f"if a URL that was not loaded lists entities, {FACTOR_LIST} is needed, too"


async def test_a_404_for_a_factor_of_a_service_that_exists(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    gone = simulator.add_factor()
    simulator.delete(gone.sid)
    path = write(tmp_path, simulator, entry("gone", gone))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    assert plain(ran.err) == [
        (
            f'main: factor "gone" ({gone.service_sid}): not found (HTTP 404, Twilio error 20404, RQ); '
            "the service exists, but the factor does not exist, or belongs to another entity; "
            "check identity and factor_sid, and whether it was deleted"
        )
    ]


async def test_a_service_that_does_not_exist(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    simulator.delete_service(factor.service_sid)
    path = write(tmp_path, simulator, entry("gone", factor), entities={"ops": factor})
    ran = await call_beside("check", "--live", "--config.file", path)

    sid = factor.service_sid
    assert ran.status == 1
    assert plain(ran.err) == [
        (
            f"main: service {sid}: not found (HTTP 404, Twilio error 20404, RQ); this account has no such service; "
            "check service_sid, and that the service was not deleted and belongs to this account"
        ),
        (
            f'main: factor "gone" ({sid}): not found (HTTP 404, Twilio error 20404, RQ); '
            "its service does not exist; correct the service first"
        ),
        (
            f'main: entity "ops" ({sid}): not found (HTTP 404, Twilio error 20404: no such service or entity, RQ); '
            "its service does not exist; correct the service first"
        ),
    ]
    assert "main: credentials: accepted" in ran.out


async def test_an_entity_that_does_not_exist(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST, status=404))
    entity = simulator.add_entity()
    path = write(tmp_path, simulator, entities={"ops": entity})
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    assert "the service exists, but the entity does not exist, or has no factor yet; check identity" in ran.err


async def test_the_permission_for_fetch_service_is_no_must(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.SERVICE, status=403))
    gone, good = simulator.add_factor(), simulator.add_factor()
    path = write(tmp_path, simulator, entry("good", good))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 0
    assert plain(ran.err) == [
        (
            f"warning: main: service {good.service_sid}: refused (HTTP 403, Twilio error 20403, RQ); the "
            "credentials lack a permission; without it, a deleted service can't be told from deleted factors; "
            f"give the API key or the OAuth app the permission {SERVICE_READ}"
        )
    ]
    simulator.delete(gone.sid)
    status, found = await findings(call_beside, write(tmp_path, simulator, entry("gone", gone)))
    assert (status, brief(found)) == (
        1,
        [("credentials", "ok"), ("service", "warning"), ("factor", "error"), ("permissions", "info")],
    )
    assert found[1]["permissions"] == [SERVICE_READ]
    assert found[2]["meaning"] == (
        "the factor does not exist, or belongs to another entity, or its service doesn't"
    )


async def test_a_403_for_fetch_service_is_an_error_where_nothing_else_is_answered(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.SERVICE, status=403))
    idle = entry("idle", simulator.add_factor(), paused=True)
    status, found = await findings(call_beside, write(tmp_path, simulator, idle))

    assert (status, brief(found)) == (
        1,
        [("credentials", "error"), ("service", "error"), ("permissions", "info")],
    )


@pytest.mark.parametrize(
    ("operation", "permission", "subject"),
    [(Endpoint.FETCH, FACTOR_READ, "factor"), (Endpoint.LIST, FACTOR_LIST, "entity")],
)
async def test_a_permission_that_is_needed_is_named(
    call_beside: Check,
    simulator: Simulator,
    tmp_path: Path,
    operation: Endpoint,
    permission: str,
    subject: str,
) -> None:
    simulator.faults.add(Fault(operation=operation, status=403))
    factor = simulator.add_factor()
    path = write(tmp_path, simulator, entry("first", factor), entities={"ops": factor})
    status, found = await findings(call_beside, path)

    [refused] = [finding for finding in found if finding["severity"] == "error"]
    assert (status, refused["subject"], refused["reason"]) == (1, subject, "forbidden")
    assert refused["permissions"] == [permission]
    assert refused["hint"] == f"give the API key or the OAuth app the permission {permission}"
    assert (refused["http_status"], refused["twilio_code"]) == (403, 20403)
    assert simulator.calls.total == 3


async def test_refused_credentials_are_sent_once(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    entities = {f"ops-{number}": simulator.add_entity() for number in range(8)}
    path = write(tmp_path, simulator, entry("first", factor), entities=entities, password="a-wrong-secret")
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    assert plain(ran.err) == [
        f"main: credentials: refused (HTTP 401, Twilio error 20003, RQ); {HINTS[Reason.AUTH]}",
        (
            f"main: service {factor.service_sid}: refused (HTTP 401, Twilio error 20003, RQ); "
            f"Twilio refuses the credentials; {HINTS[Reason.AUTH]}"
        ),
        (
            "main: requests: 9 of 10 requests not sent, because Twilio refused an earlier one; "
            "fix that first, then check again"
        ),
    ]
    assert simulator.calls.total == 1


@pytest.mark.parametrize(("code", "hint"), [(20003, "username and password"), (20005, "the account is not active")])
async def test_a_403_may_refuse_the_credentials_too(
    call_beside: Check, simulator: Simulator, tmp_path: Path, code: int, hint: str
) -> None:
    body = {"code": code, "message": "m", "more_info": "", "status": 403}
    simulator.faults.add(Fault(FaultKind.BODY, status=403, body=json.dumps(body)))
    factors = [entry(f"factor-{number}", simulator.add_factor()) for number in range(3)]
    status, found = await findings(call_beside, write(tmp_path, simulator, *factors))

    assert (status, simulator.calls.total) == (1, 1)
    assert brief(found)[:2] == [("credentials", "error"), ("service", "error")]
    assert all(hint in finding["hint"] for finding in found[:2])


async def test_a_rate_limit_ends_the_requests_of_the_account(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.LIST, status=429, retry_after=60))
    entities = {f"ops-{number}": simulator.add_entity() for number in range(8)}
    path = write(tmp_path, simulator, entities=entities, max_concurrency=1, requests_per_second=1000)
    status, found = await findings(call_beside, path)

    assert (status, simulator.calls.total) == (1, 2)
    assert brief(found)[:3] == [("credentials", "ok"), ("service", "ok"), ("entity", "error")]
    assert found[3]["seen"] == "7 of 9 requests not sent, because Twilio refused an earlier one"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            Fault(status=503),
            (
                "failed (HTTP 503, Twilio error 20503, RQ); the API failed; "
                "Twilio's API has a problem; check Twilio's status page"
            ),
        ),
        (
            Fault(FaultKind.HTML),
            "failed (HTTP 200, but the body is not JSON, RQ); the response is not one of the Verify API; ",
        ),
        (
            Fault(FaultKind.STALL_IN_BODY),
            "failed (no complete answer in time, ",
        ),
        (
            Fault(FaultKind.HTML, status=404),
            "failed (HTTP 404, but the body is not a Twilio error, RQ); the response is not one of the ",
        ),
        (
            Fault(FaultKind.HTML, status=407),
            "failed (HTTP 407, RQ); the response is not one of the Verify API; a proxy requires a user name",
        ),
    ],
)
async def test_other_failures_are_errors_with_their_hint(
    call_beside: Check, simulator: Simulator, tmp_path: Path, fault: Fault, words: str
) -> None:
    simulator.faults.add(fault)
    factor = simulator.add_factor()
    polling = {"timeout": "400ms"} if fault.kind is FaultKind.STALL_IN_BODY else None
    path = write(tmp_path, simulator, entry("first", factor), polling=polling)
    ran = await call_beside("check", "--live", "--config.file", path)

    credentials, service, first = plain(ran.err)
    assert ran.status == 1
    assert credentials == (
        "main: credentials: not known, because no request got an answer of the Verify API; see the other errors"
    )
    assert service.startswith(f"main: service {factor.service_sid}: {words}")
    assert first.startswith(f'main: factor "first" ({factor.service_sid}): {words}')
    assert simulator.calls.total == 2


async def test_a_404_with_another_code_is_no_missing_factor_entity_or_service(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    body = {"code": 60399, "message": "m", "more_info": "", "status": 404}
    simulator.faults.add(Fault(FaultKind.BODY, status=404, body=json.dumps(body)))
    factor = simulator.add_factor()
    path = write(tmp_path, simulator, entry("first", factor), entities={"ops": factor})
    status, found = await findings(call_beside, path)

    assert (status, brief(found)[1:4]) == (1, [(subject, "error") for subject in ("service", "factor", "entity")])
    for finding in found[1:4]:
        assert finding["seen"].startswith("failed (HTTP 404, Twilio error 60399, ")
        assert (finding["reason"], finding["meaning"]) == ("bad_request", "Twilio can't answer the request")


async def test_a_403_for_everything_may_be_more_than_a_permission(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(status=403))
    factor = simulator.add_factor()
    status, found = await findings(call_beside, write(tmp_path, simulator, entry("first", factor)))

    assert (status, brief(found)[:3]) == (
        1,
        [(subject, "error") for subject in ("credentials", "service", "factor")],
    )
    assert found[0]["seen"].startswith(
        "not known, because Twilio refused every request that it answered (HTTP 403, Twilio error 20403, request RQ"
    )
    assert (found[0]["http_status"], found[0]["twilio_code"]) == (403, 20403)
    assert (
        found[2]["meaning"] == "the credentials lack a permission, or they are not those of this service's account"
    )
    assert found[2]["hint"] == (
        f"give the API key or the OAuth app the permission {FACTOR_READ}, "
        "and check its account, which may be suspended"
    )


async def test_a_403_among_failures_is_an_answer(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(Fault(status=500, operation=Endpoint.SERVICE))
    simulator.faults.add(Fault(status=403, operation=Endpoint.FETCH))
    factor = simulator.add_factor()
    status, found = await findings(call_beside, write(tmp_path, simulator, entry("first", factor)))

    assert (status, brief(found)[0]) == (1, ("credentials", "error"))
    assert "because Twilio refused every request that it answered (HTTP 403, " in found[0]["seen"]


async def test_nothing_listens(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        path = write(tmp_path, simulator, entry("first", factor), base_url=base_url)
        status, found = await findings(call_beside, path)

    assert status == 1
    assert found[1]["seen"].startswith("failed (the connection failed: connection refused, ")
    assert found[1]["hint"] == "check the network, the firewall and the proxy"
    assert "http_status" not in found[1]


async def test_every_account_has_its_findings_and_one_failure_is_enough(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    accounts = {
        "empty": account_of(simulator),
        "good": account_of(simulator),
        "refused": account_of(simulator, password="wrong"),
    }
    factors = [
        entry("refused-one", simulator.add_factor(), account="refused"),
        entry("good-one", simulator.add_factor(), account="good"),
    ]
    path = str(write_config(tmp_path / "config.toml", accounts, factors))
    status, found = await findings(call_beside, path)

    assert status == 1
    assert [(finding["account"], finding["subject"], finding["severity"]) for finding in found] == [
        ("empty", "credentials", "warning"),
        *(("good", subject, "ok") for subject in ("credentials", "service", "factor")),
        ("good", "permissions", "info"),
        *(("refused", subject, "error") for subject in ("credentials", "service", "requests")),
        ("refused", "permissions", "info"),
    ]


async def test_an_account_without_factors_is_no_failure(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    ran = await call_beside("check", "--live", "--config.file", write(tmp_path, simulator))

    assert ran.status == 0
    assert (
        "warning: main: credentials: not checked, because it has no factor, entity or service to watch\n" in ran.err
    )


async def test_the_rate_limit_and_the_concurrency_of_the_account_apply(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.latency_seconds = 0.05
    entities = {f"ops-{number}": simulator.add_entity() for number in range(6)}
    path = write(tmp_path, simulator, entities=entities, max_concurrency=2, requests_per_second=20)
    status, _found = await findings(call_beside, path)

    began = [call.time for call in simulator.calls.log]
    assert (status, len(began)) == (0, 7)
    assert simulator.calls.max_in_flight <= 2
    assert max(began) - min(began) >= 6 / 20 - 0.02


async def test_an_account_whose_client_cannot_be_made(
    call_beside: Check, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_config: object, name: str, **_parts: object) -> None:
        raise ConfigError([ErrorDetail(f"accounts.{name}", "ca.pem: no certificate", "replace it")])

    monkeypatch.setattr("exporter.cli.diagnosis.client_of", fail)
    path = write(tmp_path, simulator, entry("first", simulator.add_factor()))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.err) == (1, "accounts.main: ca.pem: no certificate; replace it\n")


def test_every_reason_has_a_meaning() -> None:
    assert _MEANINGS.keys() == set(Reason)


async def test_a_bad_configuration_is_reported_without_a_request(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("first", simulator.add_factor()), max_concurrency=0)
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.out) == (1, "")
    assert simulator.calls.total == 0


@pytest.mark.parametrize("output", ["text", "json", "github"])
async def test_neither_identity_nor_password_is_shown(
    call_beside: Check, simulator: Simulator, tmp_path: Path, output: str
) -> None:
    factor = simulator.add_factor(identity="identity-of-a-person")
    simulator.faults.add(Fault(FaultKind.STATUS, status=400))
    path = write(tmp_path, simulator, entry("first", factor), entities={"ops": factor})
    ran = await call_beside("check", "--live", "--output", output, "--config.file", path)

    assert ran.status == 1
    assert "identity-of-a-person" not in ran.out + ran.err
    assert simulator.password not in ran.out + ran.err
    assert "HTTP 400" in ran.out + ran.err


async def test_github_shows_problems_as_annotations(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(operation=Endpoint.SERVICE, status=403))
    good, gone = simulator.add_factor(), simulator.add_factor()
    simulator.delete(gone.sid)
    path = write(tmp_path, simulator, entry("100 %, gone", gone), entities={"ops": good})
    ran = await call_beside("check", "--live", "--output", "github", "--config.file", path)

    lines = plain(ran.out)
    assert (ran.status, ran.err) == (1, "")
    assert lines[:2] == [f"{path} is valid: 1 account, 1 factor, 1 entity", "main: credentials: accepted"]
    assert lines[2].startswith(
        f"::warning title=verify-factor-exporter%3A service::main: service {good.service_sid}: refused (HTTP 403, "
    )
    assert lines[3].startswith(
        f'::error title=verify-factor-exporter%3A factor::main: factor "100 %25, gone" ({good.service_sid}): not '
    )
    assert not any(line.startswith("::") for line in lines[4:])


# OAuth


def with_app(folder: Path, simulator: Simulator, *factors: dict[str, object], **keys: object) -> str:
    accounts = {"main": app_of(simulator, **keys)}
    return str(write_config(folder / "config.toml", accounts, factors))


async def test_an_app_gets_one_token_for_all_requests(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    factor = simulator.add_factor()
    path = with_app(tmp_path, simulator, entry("good", factor))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.err) == (0, "")
    assert plain(ran.out) == [
        f"{path} is valid: 1 account, 1 factor",
        "main: credentials: accepted",
        f"main: service {factor.service_sid}: exists (HTTP 200, RQ)",
        f'main: factor "good" ({factor.service_sid}): verified (HTTP 200, RQ)',
        f"main: permissions: an OAuth app needs {FACTOR_READ}; {NOTE}",
    ]
    assert simulator.calls.by_operation() == {"fetch": {"200": 1}, "service": {"200": 1}, "token": {"200": 1}}


async def test_a_refused_app_is_refused_credentials(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    path = with_app(tmp_path, simulator, entry("good", simulator.add_factor()), client_secret="wrong")
    status, found = await findings(call_beside, path)

    assert status == 1
    assert brief(found) == [("credentials", "error"), ("requests", "error"), ("permissions", "info")]
    assert found[0]["seen"].startswith("refused (token endpoint: HTTP 401, Twilio error 322402, request RQ")
    assert found[0]["hint"].startswith("check client_id and client_secret of the account's OAuth app")
    assert (found[0]["http_status"], found[0]["twilio_code"], found[0]["reason"]) == (401, 322402, "auth")
    assert found[1]["seen"] == "2 of 2 requests not sent, because there is no access token"
    assert simulator.calls.by_operation() == {"token": {"401": 1}}


async def test_a_token_endpoint_that_fails_says_nothing_about_the_credentials(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(FaultKind.REDIRECT, operation=Endpoint.TOKEN, location="https://login.example.com/"))
    path = with_app(tmp_path, simulator, entry("good", simulator.add_factor()))
    status, found = await findings(call_beside, path)

    assert status == 1
    assert found[0]["seen"].startswith("not known, because there is no access token (token endpoint: HTTP 307")
    assert "redirects to login.example.com" in found[0]["hint"]
    assert found[0]["reason"] == "bad_request"
    assert simulator.calls.by_operation() == {"token": {"307": 1}}


async def test_an_app_without_a_permission_is_told_which_one(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Fault(FaultKind.STATUS, status=403, operation=Endpoint.FETCH))
    path = with_app(tmp_path, simulator, entry("good", simulator.add_factor()))
    status, found = await findings(call_beside, path)

    assert status == 1
    assert brief(found)[:3] == [("credentials", "ok"), ("service", "ok"), ("factor", "error")]
    assert found[2]["permissions"] == [FACTOR_READ]
