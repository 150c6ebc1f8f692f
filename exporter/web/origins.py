"""Which site a browser says that a request was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aiohttp import web

FOREIGN = "refused: a page of another site asks for this\n"


def is_foreign(request: web.Request) -> bool:
    """Return whether a page of another site sent this through a person's browser.

    ``Sec-Fetch-Site`` says so, which browsers send to https and loopback alone; elsewhere ``Origin``, or
    ``Referer``, names another host than was asked. Programs that are no browsers send none of them.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("none", "same-origin")
    told = request.headers.get("Origin") or request.headers.get("Referer")
    if told is None:
        return False
    try:
        return urlsplit(told).netloc.rpartition("@")[2].lower() != request.host.lower()
    except ValueError:
        return True
