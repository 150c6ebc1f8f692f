"""The limits of the web server: default and meaning; docs/web-config.md is generated from them.

Apart from connections.py because gate.py, sockets.py and the generator of the documentation read them, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

_OWN_DESCRIPTORS = 24  # files, listening sockets and the event loop; measured: 15
_FEWEST_CONNECTIONS = 4


def _limit(default: float, meaning: str) -> float:
    value: float = field(default=default, metadata={"meaning": meaning})
    return value


def _count(default: int, meaning: str) -> int:
    value: int = field(default=default, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what clients can use; times in seconds, sizes in bytes."""

    line_bytes: int = _count(8190, "request line, and every header line; 400 beyond")
    head_bytes: int = _count(65_536, "request line and headers together; the connection is closed beyond")
    header_lines: int = _count(100, "header lines; 400 beyond")
    body_bytes: int = _count(65_536, "request body, by its `Content-Length`; 413 beyond")
    connections: int = _count(
        512,
        "open connections, fewer if the limit of open files is below 1,000; the health address has an eighth as "
        "many of its own. Beyond, the one that has waited longest without a request is closed, first those that "
        "never sent one, last those of clients that scraped within ten minutes; if all are busy, the new one is "
        "refused, unless its client scraped within ten minutes",
    )
    scrapes: int = _count(
        40,
        "scrapes answered at once. Beyond, the one whose client has read nothing for the longest time is closed; "
        "503 if all clients read",
    )
    requests: int = _count(40, "other requests answered at once, health paths not counted; 503 beyond")
    passwords: int = _count(
        128,
        "passwords of known users waiting to be checked. Beyond, the user and client with the most failed and "
        "waiting ones get 503",
    )
    costly_passwords: int = _count(16, "the same for users whose hash has a cost above 12")
    guesses: int = _count(16, "the same for unknown users")
    handshake_seconds: float = _limit(10.0, "TLS handshake; closed beyond")
    head_seconds: float = _limit(
        10.0, "from connecting, or from the first byte of a next request, to the last header"
    )
    body_seconds: float = _limit(10.0, "from the headers to the end of the request body")
    send_seconds: float = _limit(60.0, "for a client to read a response, once it has fallen behind")
    idle_seconds: float = _limit(75.0, "between two requests on a connection")
    close_seconds: float = _limit(5.0, "for a client to read the rest of a connection that is being closed")

    def within(self, open_files: int, fetches: int) -> Self:
        """Return these limits for a process that may open so many files, and fetches with so many connections.

        A third of what fetches leave stays free, for reading files and for connections that are being closed.
        Fetches rarely use all of their connections: clients get a third of all descriptors in any case.
        """
        available = open_files - _OWN_DESCRIPTORS
        connections = max(available // 3, (available - fetches) * 2 // 3)
        return self.for_connections(max(_FEWEST_CONNECTIONS, min(self.connections, connections)))

    def for_connections(self, most: int) -> Self:
        """Return these limits for so many connections: no kind of request may occupy all of them."""
        return replace(
            self,
            connections=most,
            scrapes=min(self.scrapes, max(2, most // 4)),
            requests=min(self.requests, max(1, most // 8)),
            passwords=min(self.passwords, max(2, most // 4)),
            costly_passwords=min(self.costly_passwords, max(1, most // 8)),
            guesses=min(self.guesses, max(1, most // 8)),
        )
