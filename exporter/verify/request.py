"""The requests of the clients: GET, which shares its headers instead of copying them, and POST of a form.

Separate because both sides of the transport use it: the client creates a GET, and the http1 transport recognizes it
to avoid building a URL.
"""

from __future__ import annotations

from typing import Any

import httpx


class Get(httpx.Request):
    """A GET request to one origin, usable with any httpx transport.

    ``headers`` are shared by all requests with the same credentials and must include Host; ``target`` is the
    encoded path with its query. The URL is built only on access: building it and copying headers make up most of
    the cost of a plain ``httpx.Request``.
    """

    method = "GET"
    stream = httpx.ByteStream(b"")
    _content = b""

    def __init__(self, origin: httpx.URL, target: bytes, headers: httpx.Headers) -> None:
        self.headers = headers
        self.target = target
        self._origin = origin

    def __repr__(self) -> str:
        return "<Get>"  # its URL contains the identity

    @property
    def url(self) -> httpx.URL:  # type: ignore[override]  # httpx sets it in a constructor that isn't called
        """The complete URL; it contains the identity and must not be logged."""
        return self._origin.copy_with(raw_path=self.target)

    @property
    def extensions(self) -> dict[str, Any]:  # type: ignore[override]  # as above
        """The extensions of httpx: no time limit of its own."""
        return {"timeout": _UNBOUNDED}

    @property
    def origin(self) -> httpx.URL:
        """The URL without a path."""
        return self._origin


def post(url: httpx.URL, form: bytes, user_agent: str) -> httpx.Request:
    """Return a POST request with an encoded form, after which its connection is closed.

    It is sent rarely, and must not break because the server closed an idle connection: it isn't safe to repeat.
    """
    headers = {
        "Host": url.netloc.decode("ascii"),
        "User-Agent": user_agent,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "Connection": "close",
    }
    return httpx.Request("POST", url, headers=headers, content=form, extensions={"timeout": _UNBOUNDED})


# BoundedTransport limits the attempt as a whole; timeouts per phase could end a slow one early.
_UNBOUNDED = httpx.Timeout(None).as_dict()
