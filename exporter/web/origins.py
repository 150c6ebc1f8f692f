"""Which site a browser says that a request was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

FOREIGN = "refused: a page of another site asks for this\n"


def is_foreign(request: web.Request) -> bool:
    """Return whether a page of another site sent this through a person's browser (``Sec-Fetch-Site``).

    Programs that are no browsers send no such header.
    """
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
