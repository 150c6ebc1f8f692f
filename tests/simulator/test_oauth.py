"""The token endpoint of the simulator, its tokens, and its controls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from exporter.simulator import Fault, FaultKind, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.simulator.conftest import Clock


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def form_of(simulator: Simulator, **fields: str | None) -> dict[str, str]:
    form = {
        "grant_type": "client_credentials",
        "client_id": simulator.oauth.client_id,
        "client_secret": simulator.oauth.client_secret,
        **fields,
    }
    return {name: value for name, value in form.items() if value is not None}


async def token(
    session: aiohttp.ClientSession, simulator: Simulator, **fields: str | None
) -> tuple[int, dict[str, Any]]:
    async with session.post(simulator.token_url, data=form_of(simulator, **fields)) as response:
        return response.status, await response.json()


async def status_with(session: aiohttp.ClientSession, simulator: Simulator, authorization: str) -> int:
    service = next(iter(simulator.world.services))
    url = f"{simulator.base_url}/v2/Services/{service}"
    async with session.get(url, headers={"Authorization": authorization}) as response:
        return response.status


async def control(session: aiohttp.ClientSession, simulator: Simulator, method: str, path: str, **body: Any) -> Any:
    url = f"{simulator.base_url}/simulator/{path}"
    async with session.request(method, url, data=json.dumps(body) if body else None) as response:
        return response.status, await response.json()


async def test_a_token_is_issued_and_accepted_until_it_expires(
    simulator: Simulator, session: aiohttp.ClientSession, clock: Clock
) -> None:
    status, document = await token(session, simulator)
    assert status == 200
    assert (document["token_type"], document["expires_in"], document["id_token"]) == ("Bearer", 3600, None)
    bearer = f"Bearer {document['access_token']}"
    assert await status_with(session, simulator, bearer) == 200
    assert await status_with(session, simulator, bearer.replace("Bearer", "bearer")) == 200
    assert await status_with(session, simulator, f"{bearer}x") == 401
    assert await status_with(session, simulator, f"Basic {document['access_token']}") == 401
    clock.now += 3599
    assert await status_with(session, simulator, bearer) == 200
    clock.now += 1
    assert await status_with(session, simulator, bearer) == 401
    assert simulator.calls.by_operation()["token"] == {"200": 1}


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, 322402),
        ({"client_secret": None}, 401, 322402),
        ({"client_id": "OQ" + "0" * 32}, 401, 322402),
        ({"client_id": None}, 400, 321402),
        ({"grant_type": "password"}, 400, 322403),
        ({"grant_type": None}, 400, 322403),
    ],
)
async def test_what_is_no_request_for_a_token_is_refused(
    simulator: Simulator, session: aiohttp.ClientSession, fields: dict[str, str | None], status: int, code: int
) -> None:
    answered, document = await token(session, simulator, **fields)
    assert (answered, document["status"], document["code"]) == (status, status, code)
    assert simulator.oauth.issued == 0


async def test_only_a_posted_form_is_accepted(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    async with session.get(simulator.token_url) as response:
        assert response.status == 405
    async with session.post(simulator.token_url, json=form_of(simulator)) as response:
        assert (await response.json())["code"] == 322403
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with session.post(simulator.token_url, data=b"\xff=&" * 40, headers=headers) as response:
        assert (await response.json())["code"] == 322403


async def test_the_app_is_shown_and_changed_by_control(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    status, app = await control(session, simulator, "GET", "oauth")
    assert status == 200
    assert app == {
        "token_url": simulator.token_url,
        "client_id": simulator.oauth.client_id,
        "client_secret": simulator.oauth.client_secret,
        "expires_in": 3600,
    }
    _, changed = await control(session, simulator, "PUT", "oauth", client_secret="rotated", expires_in=60)
    assert changed == app | {"client_secret": "rotated", "expires_in": 60}
    assert (await token(session, simulator, client_secret=app["client_secret"]))[0] == 401
    assert (await token(session, simulator))[1]["expires_in"] == 60
    await control(session, simulator, "PUT", "oauth", expires_in=None)
    assert "expires_in" not in (await token(session, simulator))[1]
    await control(session, simulator, "PUT", "oauth", expires_in=0)
    status, document = await token(session, simulator)
    assert document["expires_in"] == 0
    assert await status_with(session, simulator, f"Bearer {document['access_token']}") == 200
    status, revoked = await control(session, simulator, "DELETE", "tokens")
    assert (status, revoked) == (200, {"revoked": 3})
    assert await status_with(session, simulator, f"Bearer {document['access_token']}") == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": 7}, "client_secret"),
        ({"expires_in": "1"}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"scope": "x"}, "scope"),
    ],
)
async def test_a_change_that_is_none_is_refused(
    simulator: Simulator, session: aiohttp.ClientSession, body: dict[str, Any], field: str
) -> None:
    before = simulator.oauth.client_secret, simulator.oauth.expires_in
    status, document = await control(session, simulator, "PUT", "oauth", **body)
    assert (status, document["field"]) == (400, field)
    assert (simulator.oauth.client_secret, simulator.oauth.expires_in) == before
    assert (await control(session, simulator, "POST", "oauth"))[0] == 405
    assert (await control(session, simulator, "GET", "tokens"))[0] == 405


async def test_faults_meet_the_token_endpoint(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    simulator.faults.add(Fault(FaultKind.STATUS, status=503, operation="token", times=1))  # type: ignore[arg-type]  # a word
    assert (await token(session, simulator))[0] == 503
    simulator.faults.add(Fault(FaultKind.BAD_JSON, operation="token", times=1))  # type: ignore[arg-type]  # a word
    async with session.post(simulator.token_url, data=form_of(simulator)) as response:
        assert response.status == 200
        assert (await response.text()).endswith(",}")
    assert (await token(session, simulator))[0] == 200


def test_the_app_of_a_seed_is_always_the_same_and_moves_nothing_else() -> None:
    one, other = Simulator(seed=3), Simulator(seed=3)
    assert (one.oauth.client_id, one.oauth.client_secret) == (other.oauth.client_id, other.oauth.client_secret)
    assert one.oauth.client_id.startswith("OQ")
    assert one.account_sid != Simulator(seed=4).account_sid
