"""The operation and resource that a request is for, parsed from its path."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote

from exporter.simulator.sids import canonical


class Endpoint(StrEnum):
    """The simulated operations; ``other`` is any other path."""

    FETCH = "fetch"
    LIST = "list"
    LIST_ENTITIES = "list_entities"
    SERVICE = "service"
    TOKEN = "token"  # noqa: S105  a word, no password
    OTHER = "other"


class Target(NamedTuple):
    """A request's operation and the decoded parts of its path; SIDs are in the API's spelling."""

    operation: Endpoint
    path: str
    query: str = ""
    service_sid: str = ""
    identity: str = ""
    factor_sid: str = ""


def read_target(path: str, query: str = "") -> Target:
    """Parse a request's path and query, percent-encoded as received."""
    match [unquote(part) if "%" in part else part for part in path.split("/")]:
        case ["", "v2", "Services", service, "Entities", identity, "Factors", factor]:
            return Target(Endpoint.FETCH, path, query, canonical(service), identity, canonical(factor))
        case ["", "v2", "Services", service, "Entities", identity, "Factors"]:
            return Target(Endpoint.LIST, path, query, canonical(service), identity)
        case ["", "v2", "Services", service, "Entities"]:
            return Target(Endpoint.LIST_ENTITIES, path, query, canonical(service))
        case ["", "v2", "token"]:
            return Target(Endpoint.TOKEN, path, query)
        case ["", "v2", "Services", service]:
            return Target(Endpoint.SERVICE, path, query, canonical(service))
        case _:
            return Target(Endpoint.OTHER, path, query)
