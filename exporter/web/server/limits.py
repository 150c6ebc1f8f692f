"""The limits of the web server: what each is, and why; docs/web-config.md is written from here."""

from __future__ import annotations

from dataclasses import dataclass, field


def _limit(default: float, meaning: str) -> float:
    value: float = field(default=default, metadata={"meaning": meaning})
    return value


def _count(default: int, meaning: str) -> int:
    value: int = field(default=default, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what clients can take; times in seconds, sizes in bytes."""

    line_bytes: int = _count(8190, "request line, and one header line: 400 beyond")
    head_bytes: int = _count(65_536, "request line and headers together: the connection is closed beyond")
    header_lines: int = _count(100, "header lines: 400 beyond")
    body_bytes: int = _count(65_536, "request body that is announced: 413 beyond; no page reads a longer one")
    connections: int = _count(
        512,
        "connections in all; the health address has as many of its own. Beyond, the one is closed that has waited "
        "longest without a request, those first that never sent one; a new one is refused where all are being "
        "answered",
    )
    scrapes: int = _count(
        40,
        "scrapes answered at once. Beyond, the one is closed whose client has read nothing for the longest time; "
        "where all read, 503",
    )
    requests: int = _count(40, "other requests answered at once: 503 beyond; health paths are not counted")
    handshake_seconds: float = _limit(10.0, "TLS handshake: closed beyond")
    head_seconds: float = _limit(10.0, "from connecting, or from a next request's first byte, to its last header")
    body_seconds: float = _limit(10.0, "from the headers to the end of the request body")
    send_seconds: float = _limit(60.0, "for a client to take an answer, once it has let the exporter wait")
    idle_seconds: float = _limit(75.0, "between two requests of a connection")
    close_seconds: float = _limit(5.0, "for a connection that is being closed to take what is left")
