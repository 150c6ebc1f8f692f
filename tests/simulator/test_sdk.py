"""Twilio's own Python SDK against the simulator: the protocol, judged by a client we didn't write."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from twilio.auth_strategy.token_auth_strategy import TokenAuthStrategy  # type: ignore[import-untyped]  # it carries no types
from twilio.base.exceptions import TwilioException, TwilioRestException  # type: ignore[import-untyped]  # it carries no types
from twilio.credential.client_credential_provider import (  # type: ignore[import-untyped]  # it carries no types
    ClientCredentialProvider,
)
from twilio.http.client_token_manager import ClientTokenManager  # type: ignore[import-untyped]  # it carries no types
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]  # it carries no types
from twilio.rest import Client  # type: ignore[import-untyped]  # it carries no types

from exporter.simulator import FactorType, Fault, FaultKind, Simulator
from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class OnlyTheSimulator(TwilioHttpClient):  # type: ignore[misc]  # its base is untyped
    """The SDK's HTTP client, which refuses to call anyone else."""

    def __init__(self, base_url: str) -> None:
        super().__init__(timeout=PATIENCE_SECONDS)
        self.base_url = base_url
        self.urls: list[str] = []
        assert self.session is not None
        self.session.trust_env = False

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        assert url.startswith(self.base_url), url
        self.urls.append(url)
        return super().request(method, url, *args, **kwargs)

    def close(self) -> None:
        assert self.session is not None
        self.session.close()


@pytest.fixture
def http(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnlyTheSimulator]:
    for name in ("TWILIO_EDGE", "TWILIO_REGION"):
        monkeypatch.delenv(name, raising=False)
    client = OnlyTheSimulator(simulator.base_url)
    yield client
    client.close()


@pytest.fixture
def client(simulator: Simulator, http: OnlyTheSimulator) -> Client:
    sdk = Client(simulator.username, simulator.password, simulator.account_sid, http_client=http)
    sdk.verify.base_url = simulator.base_url
    return sdk


async def calling(call: Callable[[], Any]) -> Any:
    """Run a call of the synchronous SDK beside the loop that serves it."""
    return await asyncio.to_thread(call)


@pytest.mark.parametrize("factor_type", list(FactorType))
async def test_factors_of_each_type_are_fetched(
    simulator: Simulator, client: Client, factor_type: FactorType
) -> None:
    factor = simulator.add_factor(factor_type=factor_type, status="unverified")
    entity = client.verify.v2.services(factor.service_sid).entities(factor.identity)
    fetched = await calling(entity.factors(factor.sid).fetch)

    assert (fetched.sid, fetched.identity, fetched.status) == (factor.sid, factor.identity, "unverified")
    assert (fetched.factor_type, fetched.config) == (factor_type, factor.config)
    assert fetched.date_created == datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_list_is_read_page_by_page(simulator: Simulator, client: Client, http: OnlyTheSimulator) -> None:
    factors = [simulator.add_factor(identity="ops-oncall") for _ in range(5)]
    entity = client.verify.v2.services(factors[0].service_sid).entities("ops-oncall")
    listed = await calling(lambda: entity.factors.list(page_size=2))

    assert [factor.sid for factor in listed] == [factor.sid for factor in factors]
    assert len(http.urls) == 3
    page = await calling(lambda: entity.factors.page(page_size=2))
    following = await calling(page.next_page)
    back = await calling(following.previous_page)
    assert [factor.sid for factor in back] == [factor.sid for factor in factors[:2]]


async def test_the_entities_of_a_service_are_read_page_by_page(
    simulator: Simulator, client: Client, http: OnlyTheSimulator
) -> None:
    entities = [simulator.add_entity(identity=f"person-{number:04}") for number in range(5)]
    service = client.verify.v2.services(entities[0].service_sid)
    listed = await calling(lambda: service.entities.list(page_size=2))

    assert [(of.sid, of.identity) for of in listed] == [(entity.sid, entity.identity) for entity in entities]
    assert listed[0].date_created == datetime(2026, 1, 1, tzinfo=UTC)
    assert listed[0].links["factors"] == f"{listed[0].url}/Factors"
    assert len(http.urls) == 3


async def test_a_service_is_fetched(simulator: Simulator, client: Client) -> None:
    service_sid = simulator.add_factor().service_sid
    service = await calling(client.verify.v2.services(service_sid).fetch)

    assert (service.sid, service.code_length) == (service_sid, 6)
    assert service.links["entities"] == f"{simulator.base_url}/v2/Services/{service_sid}/Entities"


@pytest.mark.parametrize(("status", "code"), [(403, 20403), (429, 20429), (500, 20500), (503, 20503)])
async def test_faults_raise_the_errors_of_the_sdk(
    simulator: Simulator, client: Client, status: int, code: int
) -> None:
    factor = simulator.add_factor()
    simulator.faults.add(Fault(FaultKind.STATUS, status=status))
    entity = client.verify.v2.services(factor.service_sid).entities(factor.identity)
    with pytest.raises(TwilioRestException) as raised:
        await calling(entity.factors(factor.sid).fetch)

    assert (raised.value.status, raised.value.code) == (status, code)


async def test_unknown_and_malformed_raise_the_errors_of_the_sdk(simulator: Simulator, client: Client) -> None:
    entity = client.verify.v2.services(simulator.add_factor().service_sid).entities("someone-new")
    with pytest.raises(TwilioRestException, match=r"The requested resource .* was not found") as unknown:
        await calling(entity.factors("YF" + "0" * 32).fetch)
    with pytest.raises(TwilioRestException) as malformed:
        await calling(entity.factors("YF0").fetch)

    assert (unknown.value.status, unknown.value.code) == (404, 20404)
    assert (malformed.value.status, malformed.value.code) == (400, 60362)


async def test_wrong_credentials_raise_the_error_of_the_sdk(simulator: Simulator, client: Client) -> None:
    factor = simulator.add_factor()
    simulator.password = "rotated"
    entity = client.verify.v2.services(factor.service_sid).entities(factor.identity)
    with pytest.raises(TwilioRestException, match="Authenticate") as refused:
        await calling(entity.factors(factor.sid).fetch)
    with pytest.raises(TwilioException, match="Unable to fetch page"):
        await calling(entity.factors.list)

    assert (refused.value.status, refused.value.code) == (401, 20003)


# OAuth


class Trusting:
    """A simulator on the real clock, by which the SDK judges whether a token has expired, and the SDK's client."""

    def __init__(self, simulator: Simulator, http: OnlyTheSimulator, client_secret: str) -> None:
        manager = ClientTokenManager("client_credentials", simulator.oauth.client_id, client_secret)
        manager.client = Client(http_client=http)
        manager.client.oauth.base_url = simulator.base_url
        provider = ClientCredentialProvider(simulator.oauth.client_id, client_secret, manager)
        self.client = Client(credential_provider=provider, http_client=http)
        self.client.verify.base_url = simulator.base_url


@pytest.fixture
async def on_time(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Simulator, OnlyTheSimulator]]:
    for name in ("TWILIO_EDGE", "TWILIO_REGION", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("logging.basicConfig", lambda **_settings: None)  # the SDK would configure it for all tests
    async with Simulator(seed=7) as simulator:
        http = OnlyTheSimulator(simulator.base_url)
        yield simulator, http
        http.close()


async def test_the_oauth_credentials_of_the_sdk_get_a_token_once_and_use_it(
    on_time: tuple[Simulator, OnlyTheSimulator],
) -> None:
    simulator, http = on_time
    factor = simulator.add_factor()
    client = Trusting(simulator, http, simulator.oauth.client_secret).client
    entity = client.verify.v2.services(factor.service_sid).entities(factor.identity)
    for _ in range(3):
        fetched = await calling(entity.factors(factor.sid).fetch)
        assert (fetched.sid, fetched.status) == (factor.sid, "verified")
    listed = await calling(entity.factors.list)

    assert [found.sid for found in listed] == [factor.sid]
    assert isinstance(client.credential_provider.to_auth_strategy(), TokenAuthStrategy)
    assert simulator.calls.by_operation() == {"fetch": {"200": 3}, "list": {"200": 1}, "token": {"200": 1}}


async def test_an_expired_token_is_renewed_by_the_sdk_and_a_revoked_one_is_refused(
    on_time: tuple[Simulator, OnlyTheSimulator],
) -> None:
    simulator, http = on_time
    factor = simulator.add_factor()
    client = Trusting(simulator, http, simulator.oauth.client_secret).client
    fetch = client.verify.v2.services(factor.service_sid).entities(factor.identity).factors(factor.sid).fetch
    simulator.clock = lambda: time.time() - 4000  # so that its tokens have expired by the clock of the SDK
    for _ in range(2):
        assert (await calling(fetch)).status == "verified"
    assert simulator.oauth.issued == 2
    simulator.clock = time.time
    assert (await calling(fetch)).status == "verified"
    simulator.oauth.revoke()
    with pytest.raises(TwilioRestException) as revoked:
        await calling(fetch)

    assert (revoked.value.status, revoked.value.code) == (401, 20003)
    assert simulator.oauth.issued == 3


async def test_a_wrong_client_secret_raises_the_error_of_the_sdk(
    on_time: tuple[Simulator, OnlyTheSimulator],
) -> None:
    simulator, http = on_time
    factor = simulator.add_factor()
    client = Trusting(simulator, http, "wrong").client
    entity = client.verify.v2.services(factor.service_sid).entities(factor.identity)
    with pytest.raises(TwilioRestException, match="Invalid credentials") as refused:
        await calling(entity.factors(factor.sid).fetch)

    assert (refused.value.status, refused.value.code) == (401, 322402)
    assert simulator.calls.by_operation() == {"token": {"401": 1}}
