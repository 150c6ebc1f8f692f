"""An exporter served with a web configuration file, and HTTPS clients."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import aiohttp

from tests.support.processes import PATIENCE_SECONDS
from tests.support.served_exporter import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

PAIR = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = f"{PAIR}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"


@contextlib.asynccontextmanager
async def behind(folder: Path, text: str, **web: object) -> AsyncIterator[ServedExporter]:
    """Serve an exporter with this web configuration file, in a folder with certificates."""
    (folder / "web.yml").write_text(text, encoding="utf-8")
    async with serving(folder, web={"config_file": "web.yml", **web}) as running:
        yield running


def client_context(folder: Path, pair: str = "", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Return a client's TLS context: the authority it trusts and its own certificate."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if pair:
        context.load_cert_chain(folder / f"{pair}.crt", folder / f"{pair}.key")
    return context


async def get(url: str, context: ssl.SSLContext | bool = True, **headers: str) -> tuple[int, str]:
    """Send one request on a new connection."""
    timeout = aiohttp.ClientTimeout(PATIENCE_SECONDS)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(url, headers=sent) as answer,
    ):
        return answer.status, await answer.text()


async def handshake(url: str, context: ssl.SSLContext) -> ssl.SSLObject:
    """Return the negotiated TLS session; raises the error of a failed handshake."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        _reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        found = writer.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return found
