"""Which transport is selected, and how the aiohttp transport is set up."""

from __future__ import annotations

import aiohttp
from httpx_aiohttp import AiohttpTransport

from exporter.verify.http1 import Http1Transport
from exporter.verify.transport import IDLE_CONNECTION_SECONDS
from exporter.verify.transports import aiohttp_transport, transport_to, usual_authorities


def test_http1_is_the_default() -> None:
    assert type(transport_to(base_url="https://verify.twilio.com", max_connections=3)) is Http1Transport


def test_aiohttp_is_selected_for_a_proxy() -> None:
    transport = transport_to(
        base_url="https://verify.twilio.com", max_connections=3, proxy_url="http://proxy.example:3128"
    )
    assert type(transport) is AiohttpTransport
    assert transport.proxy is not None
    assert transport.proxy.url == "http://proxy.example:3128"


async def test_the_session_of_the_aiohttp_transport() -> None:
    transport = aiohttp_transport(max_connections=3, context=usual_authorities())
    assert isinstance(transport, AiohttpTransport)
    session = transport.get_client()
    try:
        assert type(session) is aiohttp.ClientSession
        assert isinstance(session.connector, aiohttp.TCPConnector)
        assert session.connector.limit == 3
        assert session.connector._keepalive_timeout == IDLE_CONNECTION_SECONDS
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
        assert session.timeout == aiohttp.ClientTimeout(total=None)
        assert not session.trust_env
    finally:
        await session.close()
