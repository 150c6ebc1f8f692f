"""What a request is for, read from its path."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote

from exporter.simulator.sids import canonical


class Endpoint(StrEnum):
    """The operations of the API that are simulated; ``other`` is any other path."""

    FETCH = "fetch"
    LIST = "list"
    SERVICE = "service"
    OTHER = "other"


class Target(NamedTuple):
    """A request's operation and the parts of its path, SIDs in canonical case, all decoded."""

    operation: Endpoint
    path: str
    query: str = ""
    service_sid: str = ""
    identity: str = ""
    factor_sid: str = ""


def read_target(path: str, query: str = "") -> Target:
    """Read a request's path and query as they came on the wire, percent-encoded."""
    match [unquote(part) if "%" in part else part for part in path.split("/")]:
        case ["", "v2", "Services", service, "Entities", identity, "Factors", factor]:
            return Target(Endpoint.FETCH, path, query, canonical(service), identity, canonical(factor))
        case ["", "v2", "Services", service, "Entities", identity, "Factors"]:
            return Target(Endpoint.LIST, path, query, canonical(service), identity)
        case ["", "v2", "Services", service]:
            return Target(Endpoint.SERVICE, path, query, canonical(service))
        case _:
            return Target(Endpoint.OTHER, path, query)
