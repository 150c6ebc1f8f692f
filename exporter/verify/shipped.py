"""The transport that is shipped: the lean one, or where there is a proxy the library's."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

from exporter.verify.lean import LeanTransport
from exporter.verify.library import library_transport
from exporter.verify.proxies import proxy_of

if TYPE_CHECKING:
    from pathlib import Path


def transport_to(
    *,
    base_url: str,
    max_connections: int,
    ca_file: Path | None = None,
    proxy_url: str = "",
    context: ssl.SSLContext | None = None,
) -> httpx.AsyncBaseTransport:
    """Return the transport to ``base_url``; without a proxy it is the lean one, at a third of the library's CPU.

    ``context`` is that of :func:`usual_authorities`, made once for several; a ``ca_file`` takes its place.
    Raises :class:`OSError` where ``ca_file`` can't be loaded, :class:`ValueError` for a proxy that is neither http
    nor https.
    """
    if ca_file is not None:
        context = ssl.create_default_context(cafile=str(ca_file))
    trusted = context or usual_authorities()
    proxy = proxy_of(base_url, proxy_url)
    if proxy is None:
        return LeanTransport(base_url=base_url, max_connections=max_connections, context=trusted)
    return library_transport(max_connections=max_connections, context=trusted, proxy=proxy)


def usual_authorities() -> ssl.SSLContext:
    """Return a context that trusts the usual certificate authorities; making one takes 30 to 50 ms."""
    return httpx.create_ssl_context()
