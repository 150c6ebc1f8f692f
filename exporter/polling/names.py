"""Factors by their names, for those who know nothing else of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.polling.ledger import FactorRecord, Ledger
    from exporter.watched import FactorKey


class Names:
    """Finds watched factors by name; its index is made at the first question after the watchlist changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._revision = -1
        self._keys: dict[str, list[FactorKey]] = {}

    def find(self, name: str, account: str | None = None, service_sid: str | None = None) -> list[FactorRecord]:
        """Return the factors of this name, and of this account and service (canonical SID) where they are given."""
        if self._revision != self._ledger.revision:
            self._keys = {}
            for record in self._ledger:
                self._keys.setdefault(record.watched.name, []).append(record.watched.key)
            self._revision = self._ledger.revision
        return [
            self._ledger[key]
            for key in sorted(self._keys.get(name, ()))
            if account in (None, key.account) and service_sid in (None, key.service_sid)
        ]
