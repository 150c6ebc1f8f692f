"""What each kind of fault really sends, seen from the other end of the socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Endpoint, Fault, FaultKind, Simulator
from tests.support.raw_client import fetch_path, get, list_path, parse, send_request, settled

if TYPE_CHECKING:
    from exporter.simulator import SimulatedFactor
    from tests.simulator.conftest import Clock


@pytest.fixture
def factor(simulator: Simulator) -> SimulatedFactor:
    return simulator.add_factor(identity="ops-oncall")


async def test_latency_delays_the_normal_response(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.LATENCY, seconds=0.05))
    reply = await get(simulator, fetch_path(factor))

    assert reply.status == 200
    assert float(reply.headers["Twilio-Request-Duration"]) >= 0.05


@pytest.mark.parametrize(("given", "seconds"), [(None, 3600), (90.0, 90)])
async def test_a_response_from_a_cache(
    simulator: Simulator, factor: SimulatedFactor, clock: Clock, given: float | None, seconds: float
) -> None:
    for kind in (FaultKind.AGE, FaultKind.OLD_DATE):
        simulator.faults.add(Fault(kind, seconds=given, times=1))
    aged, old = [await get(simulator, fetch_path(factor)) for _ in range(2)]

    assert aged.status == old.status == 200
    assert aged.json == old.json
    assert (aged.headers["Age"], old.headers.get("Age")) == (str(seconds), None)
    assert parsedate_to_datetime(old.headers["Date"]).timestamp() == int(clock.now) - seconds


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 999])
async def test_a_status(simulator: Simulator, factor: SimulatedFactor, status: int) -> None:
    simulator.faults.add(Fault(status=status))
    reply = await get(simulator, fetch_path(factor))

    assert reply.status == reply.json["status"] == status
    assert reply.headers["Twilio-Request-Id"].startswith("RQ")
    assert simulator.calls.by_code == {("fetch", str(status)): 1}


@pytest.mark.parametrize("retry_after", [7, 0, -3, "soon", None])
async def test_retry_after(simulator: Simulator, factor: SimulatedFactor, retry_after: str | int | None) -> None:
    simulator.faults.add(Fault(status=429, retry_after=retry_after))
    reply = await get(simulator, fetch_path(factor))

    assert reply.headers.get("Retry-After") == (None if retry_after is None else str(retry_after))


async def test_retry_after_as_a_date(simulator: Simulator, factor: SimulatedFactor, clock: Clock) -> None:
    simulator.faults.add(Fault(status=429, retry_after=30, retry_after_as_date=True))
    reply = await get(simulator, fetch_path(factor))

    assert parsedate_to_datetime(reply.headers["Retry-After"]).timestamp() == clock.now + 30


@pytest.mark.parametrize("status", [200, 502])
async def test_html(simulator: Simulator, factor: SimulatedFactor, status: int) -> None:
    simulator.faults.add(Fault(FaultKind.HTML, status=status))
    reply = await get(simulator, fetch_path(factor))

    assert (reply.status, reply.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert b"<html>" in reply.body


async def test_redirects(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.REDIRECT, times=1))
    simulator.faults.add(Fault(FaultKind.REDIRECT, status=302, location="http://elsewhere.test/x"))
    here = await get(simulator, fetch_path(factor) + "?a=%20b")
    there = await get(simulator, fetch_path(factor))

    assert here.status == 307
    assert here.headers["Location"] == f"{simulator.base_url}{fetch_path(factor)}?a=%20b"
    assert (there.status, there.headers["Location"]) == (302, "http://elsewhere.test/x")


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_an_empty_answer(simulator: Simulator, factor: SimulatedFactor, status: int) -> None:
    simulator.faults.add(Fault(FaultKind.EMPTY, status=status))
    reply = await get(simulator, fetch_path(factor))

    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultKind.JSON_LIST, list),
        (FaultKind.JSON_STRING, str),
        (FaultKind.STATUS_NUMBER, 1),
        (FaultKind.STATUS_NULL, None),
        (FaultKind.STATUS_MISSING, "no such key"),
        (FaultKind.STATUS_UNKNOWN, "suspended"),
    ],
)
async def test_json_that_is_not_what_it_should_be(
    simulator: Simulator, factor: SimulatedFactor, kind: FaultKind, expected: object
) -> None:
    simulator.faults.add(Fault(kind))
    document = (await get(simulator, fetch_path(factor))).json

    if isinstance(expected, type):
        assert isinstance(document, expected)
    else:
        assert document.get("status", "no such key") == expected


async def test_bad_json(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.BAD_JSON))
    reply = await get(simulator, fetch_path(factor))

    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json


async def test_the_body_of_another_factor(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.OTHER_FACTOR))
    reply = await get(simulator, fetch_path(factor))

    assert reply.json["sid"] not in simulator.factors
    assert len(reply.json["sid"]) == 34


async def test_faults_of_a_body_affect_every_entity_of_a_page(
    simulator: Simulator, factor: SimulatedFactor
) -> None:
    simulator.add_entity(identity="somebody-else")
    path = f"/v2/Services/{factor.service_sid}/Entities"
    usual = (await get(simulator, path)).json["entities"]
    simulator.faults.add(Fault(FaultKind.OTHER_FACTOR, operation=Endpoint.LIST_ENTITIES, times=1))
    simulator.faults.add(Fault(FaultKind.HUGE_BODY, operation=Endpoint.LIST_ENTITIES))

    others = (await get(simulator, path)).json["entities"]
    assert [entity["identity"] for entity in others] == ["ops-oncall", "somebody-else"]
    assert not {entity["sid"] for entity in others} & {entity["sid"] for entity in usual}
    assert len((await get(simulator, path)).body) > 2**21


async def test_a_huge_body(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.HUGE_BODY))
    reply = await get(simulator, fetch_path(factor))

    assert len(reply.body) > 2 * 1024 * 1024
    assert reply.json["status"] == "verified"


async def test_gzip_in_three_ways(simulator: Simulator, factor: SimulatedFactor) -> None:
    for kind in (FaultKind.GZIP, FaultKind.GZIP_BOMB, FaultKind.BAD_GZIP):
        simulator.faults.add(Fault(kind, times=1))
    good, bomb, bad = [await get(simulator, fetch_path(factor)) for _ in range(3)]

    assert {reply.headers["Content-Encoding"] for reply in (good, bomb, bad)} == {"gzip"}
    assert json.loads(gzip.decompress(good.body))["sid"] == factor.sid
    assert len(bomb.body) < 128 * 1024
    assert len(gzip.decompress(bomb.body)) > 64 * 1024 * 1024
    with pytest.raises(zlib.error):
        gzip.decompress(bad.body)


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        (FaultKind.CLOSE_BEFORE_HEADERS, "closed"),
        (FaultKind.RESET_BEFORE_HEADERS, "reset"),
        (FaultKind.RESET_IN_HEADERS, "reset"),
        (FaultKind.CLOSE_IN_BODY, "closed"),
        (FaultKind.RESET_IN_BODY, "reset"),
        (FaultKind.GARBAGE, "closed"),
    ],
)
async def test_a_connection_that_is_cut(
    simulator: Simulator, factor: SimulatedFactor, kind: FaultKind, ending: str
) -> None:
    simulator.faults.add(Fault(kind))
    connection = await send_request(simulator, fetch_path(factor))

    assert await connection.end() == ending
    head, separator, body = connection.received.partition(b"\r\n\r\n")
    match kind:
        case FaultKind.CLOSE_BEFORE_HEADERS | FaultKind.RESET_BEFORE_HEADERS:
            assert connection.received == b""
        case FaultKind.RESET_IN_HEADERS:
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert not separator
        case FaultKind.CLOSE_IN_BODY | FaultKind.RESET_IN_BODY:
            length = int(head.partition(b"Content-Length: ")[2])
            assert len(body) == length // 2
        case _:
            assert not connection.received.startswith(b"HTTP/")
    assert simulator.calls.by_code == {("fetch", "none"): 1}


@pytest.mark.parametrize(
    ("kind", "until", "never"),
    [
        (FaultKind.STALL_BEFORE_HEADERS, b"", b"HTTP"),
        (FaultKind.STALL_IN_HEADERS, b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"),
        (FaultKind.STALL_IN_BODY, b'\r\n\r\n{"sid":', b"}"),
    ],
)
async def test_a_connection_that_stalls_until_the_client_leaves(
    simulator: Simulator, factor: SimulatedFactor, kind: FaultKind, until: bytes, never: bytes
) -> None:
    simulator.faults.add(Fault(kind))
    connection = await send_request(simulator, fetch_path(factor))
    await connection.until(until)
    await settled(lambda: simulator.calls.by_code)
    await asyncio.sleep(0.02)

    assert never not in connection.received
    assert connection.ending is None
    assert simulator.calls.by_code == {("fetch", "none"): 1}
    assert simulator.calls.in_flight == 1
    connection.leave()
    await settled(lambda: not simulator.calls.in_flight)
    assert simulator.calls.by_code == {("fetch", "none"): 1}


async def test_a_stall_may_end_with_a_close(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.STALL_IN_HEADERS, seconds=0.01))
    connection = await send_request(simulator, fetch_path(factor))

    assert await connection.end() == "closed"
    assert b"\r\n\r\n" not in connection.received


async def test_a_body_of_any_bytes(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.BODY, status=502, body="\x00\xff{"))
    reply = await get(simulator, fetch_path(factor))

    assert (reply.status, reply.body) == (502, b"\x00\xff{")


async def test_a_body_that_goes_on(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.EXTRA_BODY))
    connection = await send_request(simulator, fetch_path(factor))
    await connection.end()

    head, _, body = connection.received.partition(b"\r\n\r\n")
    announced = next(int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    assert json.loads(body[:announced])["sid"] == factor.sid
    assert body[announced:] == b" and more than was announced"
    assert simulator.calls.by_code == {("fetch", "200"): 1}


async def test_a_dribble_comes_to_its_end(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.DRIBBLE, seconds=0))
    connection = await send_request(simulator, fetch_path(factor))

    assert await connection.end() == "closed"
    assert parse(connection.received).json["sid"] == factor.sid
    assert simulator.calls.by_code == {("fetch", "200"): 1}


async def test_a_dribble_that_is_left_is_cut(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.DRIBBLE))
    connection = await send_request(simulator, fetch_path(factor))
    await connection.until(b"\r\n\r\n")
    connection.leave()
    await settled(lambda: not simulator.calls.in_flight)

    assert simulator.calls.by_code == {("fetch", "none"): 1}


async def test_a_fault_of_one_factor_leaves_the_others_alone(simulator: Simulator, factor: SimulatedFactor) -> None:
    other = simulator.add_factor(identity="ops-oncall")
    simulator.faults.add(Fault(status=503, factor_sid=factor.sid))

    assert (await get(simulator, fetch_path(factor))).status == 503
    assert (await get(simulator, fetch_path(other))).status == 200
    assert (await get(simulator, list_path(factor))).status == 200


async def test_a_fault_of_a_service_affects_all_its_operations(
    simulator: Simulator, factor: SimulatedFactor
) -> None:
    elsewhere = simulator.add_factor(service_sid=simulator.add_service(friendly_name="Other").sid)
    simulator.faults.add(Fault(status=500, service_sid=factor.service_sid))

    for path in (fetch_path(factor), list_path(factor), f"/v2/Services/{factor.service_sid}"):
        assert (await get(simulator, path)).status == 500
    assert (await get(simulator, fetch_path(elsewhere))).status == 200


async def test_a_fault_of_an_operation_leaves_the_others_alone(
    simulator: Simulator, factor: SimulatedFactor
) -> None:
    simulator.faults.add(Fault(FaultKind.STATUS_NULL, operation=Endpoint.LIST))

    assert (await get(simulator, list_path(factor))).json["factors"][0]["status"] is None
    assert (await get(simulator, fetch_path(factor))).json["status"] == "verified"


async def test_faults_leave_controls_and_other_paths_alone(simulator: Simulator) -> None:
    simulator.faults.add(Fault(FaultKind.GARBAGE))

    assert (await get(simulator, "/simulator/calls")).status == 200
    assert (await get(simulator, "/elsewhere")).status == 404


async def test_body_faults_leave_a_401_as_it_is(simulator: Simulator, factor: SimulatedFactor) -> None:
    simulator.faults.add(Fault(FaultKind.STATUS_NULL))

    assert (await get(simulator, fetch_path(factor), authorization="none")).status == 401
