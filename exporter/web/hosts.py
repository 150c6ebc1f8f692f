"""Which hosts a request may name: protects the paths that do something from DNS rebinding.

A web page can make its own name resolve to the exporter's address. To the browser, requests to that name are
same-origin, so neither ``Sec-Fetch-Site`` nor ``Origin`` reveals them; only ``Host`` does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter.config.addresses import canonical_host_name, is_address
from exporter.web.parameters import shown

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

_WITH_PORT = re.compile(r"(\[.*\]|[^\[\]:]*)(?::[0-9]*)?", re.DOTALL)  # RFC 9110, section 7.2
_LOOPBACK_NAME = "localhost"


def host_refusal(request: web.Request, allowed: Collection[str]) -> str | None:
    """Return why a request is refused for the host that it names, None if it isn't.

    IP addresses and loopback names are always allowed, because no page can own them; other names must be in
    ``allowed``. Every browser sends ``Host``: without it, which only HTTP/1.0 permits, aiohttp gives the address of
    the socket. A target of the absolute form (RFC 9112, section 3.2.2) names a second host, which counts as well.
    """
    for host in {request.host, request.headers.get("Host", request.host)}:
        if not is_allowed(host, allowed):
            why = f'the host "{shown(host)}" is not in web.allowed_hosts; add its name, or use an IP address'
            return f"refused: {why}\n"
    return None


def is_allowed(host: str, allowed: Collection[str]) -> bool:
    """Return whether a host, with or without a port, is an address, a loopback name, or in ``allowed``."""
    found = _WITH_PORT.fullmatch(host)
    name = canonical_host_name(host if found is None else found[1])
    return is_address(name) or name.rpartition(".")[2] == _LOOPBACK_NAME or name in allowed
