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


def canonical_sid(sid: str) -> str:
    """Return a SID in the one case it is compared in: upper-case prefix, lower-case hex digits."""
    return sid[:2].upper() + sid[2:].lower()
