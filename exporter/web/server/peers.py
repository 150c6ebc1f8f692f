"""Which clients scraped lately: when connections or file descriptors run short, they come first.

Apart from connections.py because the gate tells who was answered, and the sockets read it, too.
"""

from __future__ import annotations

import math
from collections import OrderedDict

KNOWN_SECONDS = 600.0
MOST_KNOWN = 1024


class KnownPeers:
    """Addresses that were answered a scrape within the last ten minutes; times are the event loop's."""

    def __init__(self) -> None:
        self._answered_at: OrderedDict[str, float] = OrderedDict()

    def note(self, address: str, now: float) -> None:
        """Remember that a scrape from this address was answered."""
        self._answered_at[address] = now
        self._answered_at.move_to_end(address)
        if len(self._answered_at) > MOST_KNOWN:
            self._answered_at.popitem(last=False)

    def knows(self, address: str, now: float) -> bool:
        """Return whether a scrape from this address was answered lately."""
        return now - self._answered_at.get(address, -math.inf) < KNOWN_SECONDS

    def any(self, now: float) -> bool:
        """Return whether any scrape was answered lately."""
        return bool(self._answered_at) and now - next(reversed(self._answered_at.values())) < KNOWN_SECONDS


def address_of(peername: object) -> str:
    """Return the address of a client, an IPv4 one on an IPv6 socket as IPv4; empty if it is unknown."""
    return str(peername[0]).removeprefix("::ffff:") if isinstance(peername, tuple) else ""
