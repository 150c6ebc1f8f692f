"""Which proxy a request goes through: the one that is configured, or the environment's."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from urllib.request import getproxies, proxy_bypass

import httpx


def proxy_of(base_url: str, proxy_url: str = "") -> httpx.Proxy | None:
    """Return the proxy to ``base_url``: at ``proxy_url``, or that of HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

    Raises :class:`ValueError` for one that is neither http nor https.
    """
    address = proxy_url or _environment_proxy(base_url)
    return _proxy(address) if address else None


def _proxy(address: str) -> httpx.Proxy:
    """Return the proxy at an address; its credentials go as a header, the one way that aiohttp keeps."""
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        raise ValueError("proxy_url or HTTPS_PROXY is not an address; write it as http://host:port") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"proxy_url or HTTPS_PROXY names a {url.scheme} proxy; only http and https are supported")
    proxy = httpx.Proxy(url)
    if proxy.auth is None:
        return proxy
    credentials = b64encode(":".join(proxy.auth).encode()).decode()
    return httpx.Proxy(proxy.url, headers={"Proxy-Authorization": f"Basic {credentials}"})


def _environment_proxy(base_url: str) -> str:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for ``base_url``, or an empty string.

    A loopback address is never asked of a proxy from the environment, as in Go: it would be the proxy's own.
    """
    url = httpx.URL(base_url)
    if _is_loopback(url.host) or proxy_bypass(url.host) or proxy_bypass(url.netloc.decode()):
        return ""
    return getproxies().get(url.scheme, "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
