"""What the API answers when nothing goes wrong, read from the socket."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import FactorType, Simulator
from tests.support.raw_client import basic, fetch_path, get, list_path, open_to, parse, send_request, settled

if TYPE_CHECKING:
    from tests.simulator.conftest import Clock


@pytest.mark.parametrize("factor_type", list(FactorType))
@pytest.mark.parametrize("status", ["verified", "unverified"])
async def test_a_factor_is_fetched(simulator: Simulator, factor_type: str, status: str) -> None:
    factor = simulator.add_factor(
        identity="ops-oncall", factor_type=factor_type, status=status, friendly_name="Pager 1"
    )
    reply = await get(simulator, fetch_path(factor))

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == {
        "sid": factor.sid,
        "account_sid": simulator.account_sid,
        "service_sid": factor.service_sid,
        "entity_sid": factor.entity_sid,
        "identity": "ops-oncall",
        "date_created": "2026-01-01T00:00:00Z",
        "date_updated": "2026-01-01T00:00:00Z",
        "friendly_name": "Pager 1",
        "status": status,
        "factor_type": factor_type,
        "config": factor.config,
        "metadata": factor.metadata,
        "url": simulator.base_url + fetch_path(factor),
    }


async def test_a_change_shows_at_once(simulator: Simulator, clock: Clock) -> None:
    factor = simulator.add_factor()
    first = await get(simulator, fetch_path(factor))
    clock.now += 61
    simulator.set_status(factor.sid, "unverified")
    second = await get(simulator, fetch_path(factor))

    assert (first.json["status"], second.json["status"]) == ("verified", "unverified")
    assert second.json["date_updated"] == "2026-01-01T00:01:01Z"


async def test_a_deleted_factor_is_not_found(simulator: Simulator) -> None:
    factor = simulator.add_factor()
    simulator.delete(factor.sid)
    reply = await get(simulator, fetch_path(factor))

    path = fetch_path(factor).removeprefix("/v2")
    assert reply.status == 404
    assert reply.json == {
        "code": 20404,
        "message": f"The requested resource {path} was not found",
        "more_info": "https://www.twilio.com/docs/errors/20404",
        "status": 404,
    }


async def test_sids_are_taken_in_any_case_and_identities_are_decoded(simulator: Simulator) -> None:
    factor = simulator.add_factor(identity="Ä b/c?d")
    path = f"/v2/Services/{factor.service_sid.upper()}/Entities/%C3%84%20b%2Fc%3Fd/Factors/{factor.sid.lower()}"
    reply = await get(simulator, path)

    assert reply.status == 200
    assert reply.json["identity"] == "Ä b/c?d"
    assert reply.json["url"].endswith(f"/Entities/%C3%84%20b%2Fc%3Fd/Factors/{factor.sid}")


async def test_a_factor_is_found_only_under_its_own_service_and_identity(simulator: Simulator) -> None:
    factor = simulator.add_factor()
    other = simulator.add_factor(service_sid=simulator.add_service(friendly_name="Other").sid)
    for path in (
        f"{list_path(other)}/{factor.sid}",
        fetch_path(factor).replace(factor.service_sid, other.service_sid),
        fetch_path(factor).replace(factor.identity, other.identity),
    ):
        assert (await get(simulator, path)).status == 404


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/Services/VA12", 400, 60363),
        ("/v2/Services/{va}", 404, 20404),
        ("/v2/Services/{va}/Entities/someone-new/Factors", 404, 20404),
        ("/v2/Services/VA12/Entities/someone-new/Factors", 400, 60363),
        ("/v2/Services/{va}/Entities/short/Factors", 400, 60366),
        ("/v2/Services/{va}/Entities/someone_new/Factors/{yf}", 400, 60366),
        ("/v2/Services/{va}/Entities/someone-new/Factors/YF12", 400, 60362),
        ("/v2/Services/{va}/Entities/someone-new/Factors/", 400, 60362),
        ("/v2/Services/{va}/Entities/someone-new/Factors/{yf}", 404, 20404),
        ("/v2/Services", 404, 20404),
        ("/v3/Services/{va}", 404, 20404),
        ("/v2", 404, 20404),
    ],
)
async def test_unknown_and_malformed_paths_have_their_documented_codes(
    simulator: Simulator, path: str, status: int, code: int
) -> None:
    reply = await get(simulator, path.format(va="VA" + "f" * 32, yf="YF" + "f" * 32))

    assert (reply.status, reply.json["status"], reply.json["code"]) == (status, status, code)
    assert set(reply.json) == {"code", "message", "more_info", "status"}


async def test_only_get_is_simulated(simulator: Simulator) -> None:
    reply = await get(simulator, fetch_path(simulator.add_factor()), method="DELETE")

    assert (reply.status, reply.json["code"]) == (405, 20004)


async def test_key_and_account_sid_are_both_accepted(simulator: Simulator) -> None:
    path = fetch_path(simulator.add_factor())
    assert simulator.username != simulator.account_sid
    for username in (simulator.username, simulator.account_sid):
        header = basic(username, simulator.password)
        assert (await get(simulator, path, authorization=header)).status == 200
        header = header.replace("Basic", "bASIC")
        assert (await get(simulator, path, authorization=header)).status == 200


@pytest.mark.parametrize("authorization", ["x", "Bearer abc", "Basic !", "Basic /w==", "Basic eDp5", "Basic"])
async def test_other_credentials_are_refused(simulator: Simulator, authorization: str) -> None:
    reply = await get(simulator, fetch_path(simulator.add_factor()), authorization=authorization)

    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    assert reply.json == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


async def test_a_rotated_password_is_effective_immediately(simulator: Simulator) -> None:
    path = fetch_path(simulator.add_factor())
    old = basic(simulator.username, simulator.password)
    simulator.password = "new"

    assert (await get(simulator, path, authorization=old)).status == 401
    assert (await get(simulator, path)).status == 200
    with pytest.raises(ValueError, match=r"^password: must not be empty"):
        simulator.password = ""


async def test_an_entity_is_listed_page_by_page(simulator: Simulator) -> None:
    factors = [simulator.add_factor(identity="ops-oncall") for _ in range(5)]
    simulator.delete(factors[2].sid)
    path: str | None = f"{list_path(factors[0])}?PageSize=2"
    metas, listed = [], []
    while path is not None:
        reply = await get(simulator, path)
        assert reply.status == 200
        listed += reply.json["factors"]
        metas.append(reply.json["meta"])
        following = metas[-1]["next_page_url"]
        path = following and following.removeprefix(simulator.base_url)

    assert [factor["sid"] for factor in listed] == [factor.sid for factor in factors if factor != factors[2]]
    url = simulator.base_url + list_path(factors[0])
    assert metas == [
        {
            "page": 0,
            "page_size": 2,
            "first_page_url": f"{url}?PageSize=2&Page=0",
            "previous_page_url": None,
            "url": f"{url}?PageSize=2&Page=0",
            "next_page_url": f"{url}?PageSize=2&Page=1&PageToken=PA{factors[1].sid}",
            "key": "factors",
        },
        {
            "page": 1,
            "page_size": 2,
            "first_page_url": f"{url}?PageSize=2&Page=0",
            "previous_page_url": f"{url}?PageSize=2&Page=0&PageToken=PB{factors[3].sid}",
            "url": f"{url}?PageSize=2&Page=1&PageToken=PA{factors[1].sid}",
            "next_page_url": None,
            "key": "factors",
        },
    ]


async def test_a_known_entity_may_be_empty(simulator: Simulator) -> None:
    entity = simulator.add_entity(identity="ops-oncall")
    reply = await get(simulator, f"/v2/Services/{entity.service_sid}/Entities/ops-oncall/Factors")

    assert reply.status == 200
    assert reply.json["factors"] == []
    assert reply.json["meta"]["page_size"] == 50


async def test_paging_out_of_range_is_refused() -> None:
    async with Simulator(max_page_size=25) as strict:
        path = list_path(strict.add_factor())
        assert (await get(strict, f"{path}?PageSize=25")).status == 200
        reply = await get(strict, f"{path}?PageSize=26")
        assert (reply.status, reply.json["code"]) == (400, 20007)


async def test_a_service_is_fetched(simulator: Simulator) -> None:
    service_sid = simulator.add_factor().service_sid
    reply = await get(simulator, f"/v2/Services/{service_sid}")

    assert reply.status == 200
    assert reply.json["sid"] == service_sid
    assert reply.json["url"] == f"{simulator.base_url}/v2/Services/{service_sid}"
    assert reply.json["totp"] == {
        "issuer": "Simulated service 1",
        "time_step": 30,
        "code_length": 6,
        "skew": 1,
    }


async def test_each_answer_has_the_headers_of_twilio(simulator: Simulator) -> None:
    factor = simulator.add_factor()
    replies = [
        await get(simulator, fetch_path(factor)),
        await get(simulator, fetch_path(factor)),
        await get(simulator, fetch_path(factor), authorization="none"),
        await get(simulator, "/nowhere"),
    ]
    ids = [reply.headers["Twilio-Request-Id"] for reply in replies]

    assert all(re.fullmatch("RQ[0-9a-f]{32}", id_) for id_ in ids)
    assert len(set(ids)) == len(ids)
    for reply in replies:
        assert reply.headers["Twilio-Concurrent-Requests"] == "1"
        assert re.fullmatch(r"\d+\.\d{3}", reply.headers["Twilio-Request-Duration"])


async def test_latency_shows_in_duration_and_concurrency(simulator: Simulator) -> None:
    simulator.latency_seconds, simulator.jitter_seconds = 0.05, 0.001
    path = fetch_path(simulator.add_factor())
    replies = await asyncio.gather(*(get(simulator, path) for _ in range(4)))

    assert all(float(reply.headers["Twilio-Request-Duration"]) >= 0.05 for reply in replies)
    assert max(int(reply.headers["Twilio-Concurrent-Requests"]) for reply in replies) == 4
    assert (simulator.calls.max_in_flight, simulator.calls.in_flight) == (4, 0)


async def test_calls_are_counted(simulator: Simulator, clock: Clock) -> None:
    factor = simulator.add_factor()
    await get(simulator, fetch_path(factor))
    await get(simulator, fetch_path(factor), authorization="none")
    await get(simulator, list_path(factor))
    await get(simulator, f"/v2/Services/{factor.service_sid}")
    await get(simulator, "/nowhere")
    calls = simulator.calls

    assert calls.total == 5
    assert calls.by_code == {
        ("fetch", "200"): 1,
        ("fetch", "401"): 1,
        ("list", "200"): 1,
        ("service", "200"): 1,
        ("other", "404"): 1,
    }
    assert calls.by_factor == {factor.sid: 2}
    assert calls.by_operation()["fetch"] == {"200": 1, "401": 1}
    assert calls.log[1] == (clock.now, "fetch", factor.sid, "401")
    calls.clear()
    assert (calls.total, calls.max_in_flight, dict(calls.by_code), list(calls.log)) == (0, 0, {}, [])


async def test_a_client_that_disconnects_is_counted_as_none(simulator: Simulator) -> None:
    simulator.latency_seconds = 60
    connection = await send_request(simulator, fetch_path(simulator.add_factor()))
    await settled(lambda: simulator.calls.in_flight)
    connection.leave()
    await settled(lambda: not simulator.calls.in_flight)

    assert simulator.calls.by_code == {("fetch", "none"): 1}


async def test_the_log_of_calls_is_bounded() -> None:
    async with Simulator(call_log_size=2) as simulator:
        path = fetch_path(simulator.add_factor())
        for _ in range(3):
            await get(simulator, path)
        assert (simulator.calls.total, len(simulator.calls.log)) == (3, 2)


async def test_a_connection_is_kept_for_many_calls(simulator: Simulator) -> None:
    factor = simulator.add_factor()
    connection = await open_to(simulator)
    request = (
        f"GET {fetch_path(factor)} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {basic(simulator.username, simulator.password)}\r\n\r\n"
    ).encode()
    assert connection.transport is not None
    for _ in range(3):
        connection.received = b""
        connection.transport.write(request)
        assert parse(await connection.until(b"}")).status == 200
    connection.leave()


async def test_a_services_entities_are_listed_page_by_page(simulator: Simulator) -> None:
    service = simulator.add_service(service_sid="VA" + "a" * 32).sid
    entities = [simulator.add_entity(service_sid=service, identity=f"Person-{number}-x") for number in range(5)]
    simulator.add_entity(identity="of-another-service")
    simulator.delete_entity(entities[2].sid)
    path: str | None = f"/v2/Services/{service}/Entities?PageSize=2"
    metas, listed = [], []
    while path is not None:
        reply = await get(simulator, path)
        assert reply.status == 200
        assert list(reply.json) == ["entities", "meta"]
        listed += reply.json["entities"]
        metas.append(reply.json["meta"])
        following = metas[-1]["next_page_url"]
        path = following and following.removeprefix(simulator.base_url)

    assert [entity["sid"] for entity in listed] == [of.sid for of in entities if of is not entities[2]]
    url = f"{simulator.base_url}/v2/Services/{service}/Entities"
    assert listed[0] == {
        "sid": entities[0].sid,
        "identity": "Person-0-x",
        "account_sid": simulator.account_sid,
        "service_sid": service,
        "date_created": "2026-01-01T00:00:00Z",
        "date_updated": "2026-01-01T00:00:00Z",
        "url": f"{url}/Person-0-x",
        "links": {
            "factors": f"{url}/Person-0-x/Factors",
            "new_factors": f"{url}/Person-0-x/Factors",
            "challenges": f"{url}/Person-0-x/Challenges",
        },
    }
    assert metas == [
        {
            "page": 0,
            "page_size": 2,
            "first_page_url": f"{url}?PageSize=2&Page=0",
            "previous_page_url": None,
            "url": f"{url}?PageSize=2&Page=0",
            "next_page_url": f"{url}?PageSize=2&Page=1&PageToken=PA{entities[1].sid}",
            "key": "entities",
        },
        {
            "page": 1,
            "page_size": 2,
            "first_page_url": f"{url}?PageSize=2&Page=0",
            "previous_page_url": f"{url}?PageSize=2&Page=0&PageToken=PB{entities[3].sid}",
            "url": f"{url}?PageSize=2&Page=1&PageToken=PA{entities[1].sid}",
            "next_page_url": None,
            "key": "entities",
        },
    ]
    assert simulator.calls.by_code == {("list_entities", "200"): 2}


@pytest.mark.parametrize(
    ("service", "query", "status", "code"),
    [
        ("VA" + "f" * 32, "", 404, 20404),
        ("VX1", "", 400, 60363),
        ("", "?PageSize=0", 400, 60373),
        ("", "?PageSize=1001", 400, 20007),
        ("", "?PageToken=PAYF" + "0" * 32, 400, 60374),
    ],
)
async def test_entities_that_are_not_listed(
    simulator: Simulator, service: str, query: str, status: int, code: int
) -> None:
    known = simulator.add_entity(identity="somebody-1").service_sid
    reply = await get(simulator, f"/v2/Services/{service or known}/Entities{query}")
    assert (reply.status, reply.json["code"]) == (status, code)


async def test_a_service_without_entities(simulator: Simulator) -> None:
    service = simulator.add_service(service_sid="VA" + "a" * 32).sid
    reply = await get(simulator, f"/v2/Services/{service.lower()}/Entities")
    assert (reply.status, reply.json["entities"], reply.json["meta"]["next_page_url"]) == (200, [], None)
    simulator.delete_service(service)
    assert (await get(simulator, f"/v2/Services/{service}/Entities")).status == 404


async def test_a_deleted_entity_is_not_found_until_it_is_restored(simulator: Simulator) -> None:
    factor = simulator.add_factor(identity="ops-oncall")
    paths = (list_path(factor), fetch_path(factor))
    simulator.delete_entity(factor.entity_sid)
    for path in paths:
        reply = await get(simulator, path)
        assert (reply.status, reply.json["code"]) == (404, 20404)
    simulator.restore_entity(factor.entity_sid)
    assert [(await get(simulator, path)).status for path in paths] == [200, 200]
