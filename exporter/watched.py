"""The watched factor: one entry of the watchlist, the noun that every room of the house shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class FactorKey(NamedTuple):
    """What identifies a watched factor for as long as it is watched; SIDs in canonical case."""

    account: str
    service_sid: str
    factor_sid: str


@dataclass(frozen=True, slots=True)
class WatchedFactor:
    """One factor to look at: where it is, its name, its labels and its interval.

    ``identity`` is personal data: it stands in the request's path and is kept out of ``repr``.
    """

    key: FactorKey
    name: str
    identity: str = field(repr=False)
    interval_seconds: float
    paused: bool = False
    labels: tuple[tuple[str, str], ...] = ()


class EntityKey(NamedTuple):
    """What identifies a watched entity; its last part is personal data."""

    account: str
    service_sid: str
    identity: str

    def __repr__(self) -> str:
        return f"EntityKey({self.account!r}, {self.service_sid!r}, ...)"


@dataclass(frozen=True, slots=True)
class WatchedEntity:
    """One entity whose factors are all watched; ``name`` stands for it everywhere.

    ``interval_seconds`` and ``labels`` are those of its factors.
    """

    key: EntityKey
    name: str
    interval_seconds: float
    labels: tuple[tuple[str, str], ...] = ()


def canonical_sid(sid: str) -> str:
    """Return a SID in the one case it is compared in: upper-case prefix, lower-case hex digits."""
    return sid[:2].upper() + sid[2:].lower()
