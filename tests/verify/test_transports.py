"""Which transport is shipped, and what the library's is made of."""

from __future__ import annotations

import aiohttp
from httpx_aiohttp import AiohttpTransport

from exporter.verify.http1 import LeanTransport
from exporter.verify.transport import IDLE_CONNECTION_SECONDS
from exporter.verify.transports import library_transport, transport_to, usual_authorities


def test_the_lean_transport_is_the_shipped_one() -> None:
    assert type(transport_to(base_url="https://verify.twilio.com", max_connections=3)) is LeanTransport


def test_through_a_proxy_the_librarys_is() -> None:
    transport = transport_to(
        base_url="https://verify.twilio.com", max_connections=3, proxy_url="http://proxy.example:3128"
    )
    assert type(transport) is AiohttpTransport
    assert transport.proxy is not None
    assert transport.proxy.url == "http://proxy.example:3128"


async def test_the_session_below_the_librarys() -> None:
    transport = library_transport(max_connections=3, context=usual_authorities())
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
