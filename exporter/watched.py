"""Watched factors, entities and services, and the rules about SIDs and hosts that every package shares."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container

FACTOR_TYPES = ("push", "totp", "passkeys")
"""The factor types of the Verify API. Source: https://www.twilio.com/docs/verify/api/factor"""

_SID = re.compile(r"[A-Za-z]{2}[0-9A-Fa-f]{32}")


class FactorKey(NamedTuple):
    """The identity of a watched factor while it is watched; SIDs in canonical case."""

    account: str
    service_sid: str
    factor_sid: str


@dataclass(frozen=True, slots=True)
class WatchedFactor:
    """One factor to fetch: where it is, its name, labels and interval.

    ``identity`` is personal data: it is part of the request's path, and ``repr`` doesn't show it. It is empty for a
    factor that was found in a service before a restart, until its entity is listed again.
    """

    key: FactorKey
    name: str
    identity: str = field(repr=False)
    interval_seconds: float
    paused: bool = False
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def polled(self) -> bool:
        """Whether to fetch it: it isn't paused, and its identity is known."""
        return not self.paused and bool(self.identity)


class EntityKey(NamedTuple):
    """The key of a watched entity; its last part is personal data."""

    account: str
    service_sid: str
    identity: str

    def __repr__(self) -> str:
        return f"EntityKey({self.account!r}, {self.service_sid!r}, ...)"


@dataclass(frozen=True, slots=True)
class WatchedEntity:
    """One entity whose factors are all watched; shown by its ``name`` everywhere.

    ``interval_seconds`` and ``labels`` apply to its factors.
    """

    key: EntityKey
    name: str
    interval_seconds: float
    labels: tuple[tuple[str, str], ...] = ()


class ServiceKey(NamedTuple):
    """The key of a watched service."""

    account: str
    service_sid: str


@dataclass(frozen=True, slots=True)
class WatchedService:
    """One service of which the factors of all entities are watched; shown by its ``name`` everywhere.

    ``interval_seconds`` and ``labels`` apply to its factors. At most ``max_entities`` entities are watched.
    """

    key: ServiceKey
    name: str
    interval_seconds: float
    factor_types: tuple[str, ...] = FACTOR_TYPES
    max_entities: int = 10_000
    labels: tuple[tuple[str, str], ...] = ()

    def wants(self, factor_type: str) -> bool:
        """Return whether to watch a factor that was listed with this type, empty if the type is not known.

        A factor is left out only for a type that wasn't chosen: without a choice, a type that Twilio adds later is
        watched, too, and so is always a factor without a type.
        """
        if not factor_type or factor_type in self.factor_types:
            return True
        return factor_type not in FACTOR_TYPES and set(self.factor_types) >= set(FACTOR_TYPES)


def is_sid(text: str, prefixes: Container[str]) -> bool:
    """Return whether a text is a SID with one of the prefixes, in upper or lower case."""
    return _SID.fullmatch(text) is not None and text[:2].upper() in prefixes


def canonical_sid(sid: str) -> str:
    """Return a SID in the form in which SIDs are compared: upper-case prefix, lower-case hex digits."""
    return sid[:2].upper() + sid[2:].lower()


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
