from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import FaultKind, Simulator
from exporter.simulator.factors import AAGUID, timestamp
from tests.support.raw_client import fetch_path, get, list_path

if TYPE_CHECKING:
    from tests.simulator.conftest import Clock

UNKNOWN = "YF" + "f" * 32


async def test_the_index_lists_the_endpoints(simulator: Simulator) -> None:
    reply = await get(simulator, "/", authorization="none")

    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    for path in ("/v2/Services/{ServiceSid}", "/simulator/factors", "/simulator/faults", "/simulator/calls"):
        assert path in reply.body.decode()


async def test_factors_are_listed_with_those_deleted(simulator: Simulator) -> None:
    kept, gone = simulator.add_factor(), simulator.add_factor()
    simulator.delete(gone.sid)
    reply = await get(simulator, "/simulator/factors", authorization="none")

    assert [(factor["sid"], factor["status"]) for factor in reply.json["factors"]] == [
        (kept.sid, "verified"),
        (gone.sid, "deleted"),
    ]


async def test_a_factor_is_changed_deleted_and_brought_back(simulator: Simulator, clock: Clock) -> None:
    factor = simulator.add_factor()
    changes: list[tuple[str, str, float]] = []
    simulator.on_change.append(lambda _, old, new, when: changes.append((old, new, when)))
    path = f"/simulator/factors/{factor.sid}"

    reply = await get(simulator, path, method="PUT", document={"status": "unverified"})
    assert (reply.status, reply.json["status"]) == (200, "unverified")
    assert (await get(simulator, path, method="DELETE")).json["status"] == "deleted"
    assert (await get(simulator, fetch_path(factor))).status == 404
    await get(simulator, path, method="PUT", document={"status": "verified"})
    assert (await get(simulator, fetch_path(factor))).json["status"] == "verified"
    assert changes == [
        ("verified", "unverified", clock.now),
        ("unverified", "deleted", clock.now),
        ("deleted", "verified", clock.now),
    ]


async def test_a_factor_is_added(simulator: Simulator) -> None:
    document = {"identity": "ops-oncall", "factor_type": "push", "status": "unverified"}
    reply = await get(simulator, "/simulator/factors", method="POST", document=document)

    assert reply.status == 201
    assert {name: reply.json[name] for name in document} == document
    assert (await get(simulator, reply.json["url"].removeprefix(simulator.base_url))).status == 200
    bare = await get(simulator, "/simulator/factors", method="POST")
    assert (bare.status, bare.json["status"]) == (201, "verified")


async def test_a_sid_in_use_is_a_conflict(simulator: Simulator) -> None:
    document = {"factor_sid": simulator.add_factor().sid}
    reply = await get(simulator, "/simulator/factors", method="POST", document=document)

    assert (reply.status, reply.json["field"]) == (409, "factor_sid")


async def test_faults_are_added_listed_and_removed(simulator: Simulator) -> None:
    document = {"kind": "status", "status": 429, "retry_after": 5, "times": 3}
    reply = await get(simulator, "/simulator/faults", method="POST", document=document)
    assert reply.status == 201
    assert reply.json == {
        **document,
        "id": 1,
        "share": 1.0,
        "retry_after_as_date": False,
        "left": 3,
    }
    second = await get(simulator, "/simulator/faults", method="POST", document={"kind": "html"})

    listed = (await get(simulator, "/simulator/faults")).json["faults"]
    assert listed == [reply.json, second.json]
    assert (await get(simulator, "/simulator/faults/1", method="DELETE")).json == {"removed": 1}
    assert [fault.kind for _, fault in simulator.faults] == [FaultKind.HTML]
    assert (await get(simulator, "/simulator/faults", method="DELETE")).json == {"faults": []}
    assert len(simulator.faults) == 0


async def test_the_password_is_rotated(simulator: Simulator) -> None:
    reply = await get(simulator, "/simulator/password", method="PUT", document={"password": "new"})

    assert (reply.status, simulator.password) == (200, "new")


async def test_request_counts_are_returned(simulator: Simulator, clock: Clock) -> None:
    factor = simulator.add_factor()
    await get(simulator, fetch_path(factor))
    reply = await get(simulator, "/simulator/calls")

    assert reply.json == {
        "total": 1,
        "by_operation": {"fetch": {"200": 1}},
        "by_factor": {factor.sid: 1},
        "in_flight": 0,
        "max_in_flight": 1,
        "log": [{"time": clock.now, "operation": "fetch", "factor_sid": factor.sid, "code": "200"}],
    }


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "field", "message"),
    [
        ("GET", "/simulator", None, 404, None, "GET / lists all endpoints"),
        ("GET", "/simulator/nothing", None, 404, None, "no such endpoint: /simulator/nothing"),
        ("GET", "/simulator/factors/a/b", None, 404, None, "/simulator/factors/{Sid}"),
        ("POST", f"/simulator/factors/{UNKNOWN}/approvals", None, 404, None, f"no factor has the SID {UNKNOWN}"),
        ("GET", f"/simulator/factors/{UNKNOWN}/approvals", None, 405, None, "use POST"),
        ("POST", "/simulator/factors", {"notification_platform": "apn"}, 400, "notification_platform", "has none"),
        ("GET", "/simulator/faults/a/b", None, 404, None, "/simulator/faults/{id}"),
        ("PATCH", "/simulator/factors", None, 405, None, "use GET, POST"),
        ("GET", f"/simulator/factors/{UNKNOWN}", None, 405, None, "use PUT, DELETE"),
        ("POST", "/", None, 405, None, "use GET"),
        ("POST", "/simulator/calls", None, 405, None, "use GET"),
        ("GET", "/simulator/password", None, 405, None, "use PUT"),
        ("DELETE", f"/simulator/factors/{UNKNOWN}", None, 404, None, f"no factor has the SID {UNKNOWN}"),
        ("DELETE", "/simulator/faults/9", None, 404, None, 'no active fault has the id "9"'),
        ("DELETE", "/simulator/faults/x", None, 404, None, 'no active fault has the id "x"'),
        ("PUT", f"/simulator/factors/{UNKNOWN}", {"status": "gone"}, 400, "status", "verified, unverified"),
        ("PUT", f"/simulator/factors/{UNKNOWN}", {"status": []}, 400, "status", "verified, unverified"),
        ("PUT", f"/simulator/factors/{UNKNOWN}", {"state": "x"}, 400, "state", "accepted fields: status"),
        ("PUT", f"/simulator/factors/{UNKNOWN}", [1], 400, None, "not a JSON object"),
        ("POST", "/simulator/factors", {"factor_type": "sms"}, 400, "factor_type", "push, totp, passkeys"),
        ("POST", "/simulator/factors", {"status": "deleted"}, 400, "status", "verified, unverified"),
        ("POST", "/simulator/factors", {"identity": 5}, 400, "identity", "5 is not a string"),
        ("POST", "/simulator/factors", {"identity": "\ud800"}, 400, "identity", "must be printable"),
        ("POST", "/simulator/factors", {"factor_sid": "YF"}, 400, "factor_sid", "followed by 32 hex digits"),
        ("POST", "/simulator/factors", {"name": "x"}, 400, "name", "accepted fields: service_sid, identity"),
        ("POST", "/simulator/faults", {"kind": "flood"}, 400, "kind", "must be one of latency, status"),
        ("POST", "/simulator/faults", {}, 400, "kind", "missing; must be one of latency, status"),
        ("POST", "/simulator/faults", {"kind": "status", "status": 99}, 400, "status", "200 to 999"),
        ("PUT", "/simulator/password", {"password": ""}, 400, "password", "must be printable"),
        ("PUT", "/simulator/password", {"password": 5}, 400, "password", "must not be empty"),
    ],
)
async def test_refused_requests_say_why(
    simulator: Simulator,
    method: str,
    path: str,
    document: object,
    status: int,
    field: str | None,
    message: str,
) -> None:
    reply = await get(simulator, path, method=method, document=document)

    assert reply.status == status
    assert message in reply.json["error"]
    assert reply.json.get("field") == field


async def test_a_passkeys_factor_approves_a_challenge(simulator: Simulator, clock: Clock) -> None:
    passkey, totp = simulator.add_factor(factor_type="passkeys"), simulator.add_factor()
    reply = await get(simulator, f"/simulator/factors/{passkey.sid}/approvals", method="POST")
    assert reply.status == 200
    fetched = (await get(simulator, fetch_path(passkey))).json
    assert fetched == reply.json
    assert fetched["metadata"] == {"aaguid": AAGUID, "date_last_approved": timestamp(clock.now)}
    refused = await get(simulator, f"/simulator/factors/{totp.sid}/approvals", method="POST")
    assert (refused.status, list(refused.json)) == (409, ["error"])


async def test_a_body_that_is_no_json_is_refused(simulator: Simulator) -> None:
    for body in (b"{", b"\xff", b"[" * 100_000):
        reply = await get(simulator, "/simulator/faults", method="POST", body=body)
        assert reply.status == 400
        assert reply.json["error"].startswith("the body is not JSON: ")


async def test_a_service_is_deleted_and_restored_with_its_factors(simulator: Simulator) -> None:
    factor = simulator.add_factor(identity="ops-oncall")
    other = simulator.add_factor(service_sid=simulator.add_service(service_sid="VA" + "e" * 32).sid)
    path = f"/simulator/services/{factor.service_sid}"
    paths = (f"/v2/Services/{factor.service_sid}", list_path(factor), fetch_path(factor))

    assert (await get(simulator, path, method="DELETE")).json["deleted"] is True
    for gone in paths:
        reply = await get(simulator, gone)
        assert (reply.status, reply.json["code"]) == (404, 20404)
    assert (await get(simulator, fetch_path(other))).status == 200
    listed = await get(simulator, "/simulator/services", authorization="none")
    assert [(service["sid"], service["deleted"]) for service in listed.json["services"]] == [
        (factor.service_sid, True),
        (other.service_sid, False),
    ]
    assert (await get(simulator, path, method="PUT")).json["deleted"] is False
    assert [(await get(simulator, there)).status for there in paths] == [200, 200, 200]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/simulator/services/VA" + "f" * 32, 404),
        ("DELETE", "/simulator/services", 405),
        ("POST", "/simulator/services/VA" + "f" * 32, 405),
        ("PUT", "/simulator/services/VA1/x", 404),
    ],
)
async def test_services_that_cannot_be_changed(simulator: Simulator, method: str, path: str, status: int) -> None:
    reply = await get(simulator, path, method=method)
    assert (reply.status, list(reply.json)) == (status, ["error"])


async def test_entities_are_added_deleted_and_restored(simulator: Simulator) -> None:
    factor = simulator.add_factor(identity="ops-oncall")
    document = {"identity": "new-hire", "service_sid": factor.service_sid}
    added = await get(simulator, "/simulator/entities", method="POST", document=document)
    assert (added.status, added.json["identity"], added.json["deleted"]) == (201, "new-hire", False)
    path = f"/simulator/entities/{factor.entity_sid}"
    assert (await get(simulator, path, method="DELETE")).json["deleted"] is True
    assert (await get(simulator, fetch_path(factor))).status == 404
    listed = await get(simulator, "/simulator/entities", authorization="none")
    assert [(entity["sid"], entity["deleted"]) for entity in listed.json["entities"]] == [
        (factor.entity_sid, True),
        (added.json["sid"], False),
    ]
    assert (await get(simulator, path, method="PUT")).json["deleted"] is False
    assert (await get(simulator, fetch_path(factor))).status == 200
    bare = await get(simulator, "/simulator/entities", method="POST")
    assert (bare.status, bare.json["service_sid"]) == (201, factor.service_sid)


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "field"),
    [
        ("DELETE", "/simulator/entities/YE" + "f" * 32, None, 404, None),
        ("GET", "/simulator/entities/YE" + "f" * 32, None, 405, None),
        ("PUT", "/simulator/entities", None, 405, None),
        ("PUT", "/simulator/entities/YE1/x", None, 404, None),
        ("POST", "/simulator/entities", {"identity": ""}, 400, "identity"),
        ("POST", "/simulator/entities", {"service_sid": "VA1"}, 400, "service_sid"),
        ("POST", "/simulator/entities", {"factors": "5"}, 400, "factors"),
    ],
)
async def test_entities_that_cannot_be_changed(
    simulator: Simulator, method: str, path: str, document: object, status: int, field: str | None
) -> None:
    reply = await get(simulator, path, method=method, document=document)
    assert (reply.status, reply.json.get("field")) == (status, field)
