"""A request as the client makes it by the hundred a second: what all have in common is shared, not copied."""

from __future__ import annotations

import httpx


class Get(httpx.Request):
    """A GET of a path of one origin, for any of httpx's transports.

    ``headers`` are shared by every request with the same credentials and must name the host; ``target`` is the path
    with its query as it goes over the wire. The address is parsed for whoever asks for it: that and the copies are
    most of what a request of httpx's own costs.
    """

    def __init__(self, origin: httpx.URL, target: bytes, headers: httpx.Headers) -> None:
        self.method = "GET"
        self.headers = headers
        self.target = target
        self.extensions = {"timeout": _UNBOUNDED}
        self.stream = _NO_BODY
        self._content = b""
        self._origin = origin

    def __repr__(self) -> str:
        return "<Get>"  # its address holds the identity

    @property
    def url(self) -> httpx.URL:  # type: ignore[override]  # httpx sets it in a constructor that isn't called
        """The whole address; it holds the identity and is not for any output."""
        return self._origin.copy_with(raw_path=self.target)

    @property
    def origin(self) -> httpx.URL:
        """The address without path."""
        return self._origin


# The transport bounds the whole attempt: a time-out for each phase would end a slow one early.
_UNBOUNDED = httpx.Timeout(None).as_dict()
_NO_BODY = httpx.ByteStream(b"")
