"""Which factors are watched: those listed in the watchlist, and those found in entities."""

from __future__ import annotations

import asyncio
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.polling.slices import CHANGED, READ, WHOLE, at_once, in_lists, taken_apart
from exporter.watched import WatchedFactor

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping, Sequence

    from exporter.polling.ledger import Ledger
    from exporter.polling.poller import Poller
    from exporter.polling.record import FactorRecord
    from exporter.polling.slices import Slices
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import FactorKey


class Names:
    """Finds watched factors by name; the index is rebuilt at the first search after the watchlist changed."""

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


SHORT_DIGITS = 8
_FOUND = re.compile(rf"[0-9a-f]{{{SHORT_DIGITS}}}|YF[0-9a-f]{{32}}\+*")  # what follows the entity's name

_Name = tuple[str, str, str]


class Difference(NamedTuple):
    """The numbers of factors that a change of the roster added, removed and changed.

    ``restored`` is how many of the added ones were removed before and are known again.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    restored: int = 0

    def plus(self, other: Difference) -> Difference:
        """Return the sum of both."""
        return Difference(*map(operator.add, self, other))


@dataclass(frozen=True, slots=True)
class FoundFactor:
    """A factor that was found in a watched entity; its name and labels come from there.

    ``short_name`` is its name unless another one of its service has it, too; stored, so that there is one object.
    """

    key: FactorKey
    entity: str
    identity: str = field(repr=False)
    interval_seconds: float
    labels: tuple[tuple[str, str], ...] = ()
    short_name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "short_name", f"{self.entity}-{self.key.factor_sid[-SHORT_DIGITS:]}")

    @property
    def long_name(self) -> str:
        """The factor's name where another one has the short name, too."""
        return f"{self.entity}-{self.key.factor_sid}"


def name_may_be_found(name: str, entity: str) -> bool:
    """Return whether a factor of this name may be found in an entity of that name."""
    return name.startswith(f"{entity}-") and _FOUND.fullmatch(name, len(entity) + 1) is not None


class _Namesakes:
    """The found factors by short name. Nearly all have one of their own, so the others alone need a set."""

    def __init__(self) -> None:
        self._of_services: dict[tuple[str, str], dict[str, FactorKey | set[FactorKey]]] = {}

    def add(self, factor: FoundFactor) -> Collection[FactorKey]:
        """Add a factor; return all that have its short name."""
        names = self._of_services.setdefault(factor.key[:2], {})
        others = names.get(factor.short_name)
        if isinstance(others, set):
            others.add(factor.key)
            return others
        if others is None or others == factor.key:
            names[factor.short_name] = factor.key
            return (factor.key,)
        names[factor.short_name] = both = {others, factor.key}
        return both

    def discard(self, factor: FoundFactor) -> Collection[FactorKey]:
        """Take a factor out; return the others that have its short name."""
        names = self._of_services[factor.key[:2]]
        others = names[factor.short_name]
        if isinstance(others, set) and len(others) > 1:
            others.discard(factor.key)
            return others
        del names[factor.short_name]
        return ()

    def alone(self, factor: FoundFactor) -> bool:
        """Return whether no other factor has its short name."""
        others = self._of_services[factor.key[:2]][factor.short_name]
        return not isinstance(others, set) or len(others) == 1


class Roster:
    """Has the poller watch the factors that are listed and those that were found.

    A factor that is both takes its settings from the watchlist, and counts in its entity as well.
    """

    def __init__(self, poller: Poller, ledger: Ledger) -> None:
        self._poller = poller
        self._ledger = ledger
        self._listed: dict[FactorKey, WatchedFactor] = {}
        self._listed_names: set[_Name] | None = None  # until a factor that was found needs a name
        self._found: dict[FactorKey, FoundFactor] = {}
        self._namesakes = _Namesakes()
        self._settled = asyncio.Event()
        self._settled.set()

    def found(self, key: FactorKey) -> FoundFactor | None:
        """Return a factor as it was found, ``None`` where it was not found."""
        return self._found.get(key)

    def record(self, key: FactorKey) -> FactorRecord | None:
        """Return what is known of a watched factor."""
        return self._ledger.get(key)

    def listed(self, key: FactorKey) -> bool:
        """Return whether a factor is listed."""
        return key in self._listed

    @property
    def busy(self) -> bool:
        """Whether a list is being applied: what else changes the roster waits for its end."""
        return not self._settled.is_set()

    async def settled(self) -> None:
        """Wait until no list is being applied."""
        while self.busy:
            await self._settled.wait()

    def list(
        self, factors: Iterable[WatchedFactor], snapshots: Mapping[FactorKey, FactorSnapshot] | None = None
    ) -> Difference:
        """Watch these factors; those listed before and not now are listed no longer."""
        return at_once(self.listing(factors, snapshots))

    def listing(
        self, factors: Iterable[WatchedFactor], snapshots: Mapping[FactorKey, FactorSnapshot] | None = None
    ) -> Slices[Difference]:
        """Watch these factors as :meth:`list` does, in slices.

        Whenever other work comes in between, every factor is as it was before or as it is listed now, and no two
        have the same name. Up to ``CHANGED`` factors change with nothing in between. The list is compared with what
        is watched, not with what was listed: one that was applied in part does no harm.
        """
        self._settled.clear()
        try:
            listed: dict[FactorKey, WatchedFactor] = {}
            for some in in_lists(factors, READ):
                listed.update((watched.key, watched) for watched in some)
                yield len(some) / READ
            before, self._listed, self._listed_names = self._listed, listed, None
            yield from taken_apart(before)
            if self._found:
                yield from self._index_listed_names()
            removed, changed, unplanned = yield from self._compared()
            added = yield from self._unwatched()
            ordered, together = yield from self._ordered(changed)
            yield WHOLE
            for keys in in_lists(removed, CHANGED):
                self._poller.forget(keys)
                yield len(keys) / CHANGED
            yield from self._revised(ordered, together)
            restored = yield from self._watched(added, snapshots)
            yield from self._poller.begin(unplanned)
            return Difference(len(added), len(removed), len(changed), restored)
        finally:
            self._settled.set()

    def _compared(self) -> Slices[tuple[Sequence[FactorKey], Sequence[FactorKey], Sequence[FactorKey]]]:
        """Return the watched factors that are no longer wanted, those that are wanted otherwise, and the unplanned.

        The last are those that a list added which was applied in part.
        """
        removed: list[FactorKey] = []
        changed: list[FactorKey] = []
        unplanned: list[FactorKey] = []
        for keys in in_lists(self._ledger.keys(), READ):
            for key in keys:
                wanted = self._wanted(key)
                if wanted is None:
                    removed.append(key)
                elif self._ledger[key].watched != wanted:
                    changed.append(key)
                if wanted is not None and self._ledger[key].watched.polled and not self._poller.plans(key):
                    unplanned.append(key)
            yield len(keys) / READ
        return removed, changed, unplanned

    def _unwatched(self) -> Slices[Sequence[FactorKey]]:
        """Return the listed factors that are not watched."""
        added: list[FactorKey] = []
        for keys in in_lists([*self._listed], READ):
            added.extend(key for key in keys if self._ledger.get(key) is None)
            yield len(keys) / READ
        return added

    def _ordered(self, changed: Sequence[FactorKey]) -> Slices[tuple[Sequence[FactorKey], set[FactorKey]]]:
        """Return changed factors in an order in which a new name is free: whoever has it comes before.

        Two series with the same labels would break a scrape. Factors that exchange their names in a circle have no
        such order: each of those in the set must change together with the one after it.
        """
        owners: dict[_Name, FactorKey] = {}
        for keys in in_lists(changed, READ):
            for key in keys:
                name = self._ledger[key].watched.name
                if name != self._wanted_name(key):
                    owners[key.account, key.service_sid, name] = key
            yield len(keys) / READ
        ordered: list[FactorKey] = []
        together: set[FactorKey] = set()
        placed: set[FactorKey] = set()
        for keys in in_lists(changed, READ):
            for first in keys:
                chain: list[FactorKey] = []
                owner: FactorKey | None = first
                while owner is not None and owner not in placed:
                    placed.add(owner)
                    chain.append(owner)
                    owner = owners.get((owner.account, owner.service_sid, self._wanted_name(owner)))
                    if not len(chain) % READ:
                        yield WHOLE
                chain.reverse()
                ordered += chain
                if owner == first:
                    together.update(chain[:-1])
            yield len(keys) / READ
        return ordered, together

    def _revised(self, ordered: Sequence[FactorKey], together: Container[FactorKey]) -> Slices[None]:
        """Change watched factors; those that are polled from now on are planned at the end."""
        begun: list[FactorKey] = []
        some: list[WatchedFactor] = []
        for key in ordered:
            if (wanted := self._wanted(key)) is not None:
                some.append(wanted)
            if len(some) >= CHANGED and key not in together:
                begun += self._poller.change(some)
                yield len(some) / CHANGED
                some = []
        begun += self._poller.change(some)
        yield len(some) / CHANGED
        yield from self._poller.begin(begun)

    def _watched(
        self, added: Sequence[FactorKey], snapshots: Mapping[FactorKey, FactorSnapshot] | None
    ) -> Slices[int]:
        """Watch listed factors, then plan their first fetches; return how many are known again."""
        new: list[FactorKey] = []
        again: set[FactorKey] = set()
        for keys in in_lists(added, CHANGED):
            polled, known = self._poller.add([self._listed[key] for key in keys], snapshots)
            new += polled
            again |= known
            yield len(keys) / CHANGED
        yield from self._poller.begin(new, again=again)
        return len(again)

    def find(
        self, factors: Iterable[FoundFactor], snapshots: Mapping[FactorKey, FactorSnapshot] | None = None
    ) -> Difference:
        """Watch these found factors as well; a known one gets its new entity and labels."""
        touched: dict[FactorKey, None] = {}
        for factor in factors:
            if (before := self._found.get(factor.key)) is not None:
                touched.update(dict.fromkeys(self._namesakes.discard(before)))
            self._found[factor.key] = factor
            touched.update(dict.fromkeys(self._namesakes.add(factor)))
        return self._settle(touched, snapshots)

    def lose(self, keys: Iterable[FactorKey], *, keep: bool = True) -> Difference:
        """Stop watching these found factors, unless they are listed; ``keep`` as in the poller."""
        touched: dict[FactorKey, None] = {}
        for key in keys:
            if (factor := self._found.pop(key, None)) is not None:
                touched.update(dict.fromkeys(self._namesakes.discard(factor)))  # one may now be the only one
                touched[key] = None
        return self._settle(touched, keep=keep)

    def _settle(
        self,
        keys: Iterable[FactorKey],
        snapshots: Mapping[FactorKey, FactorSnapshot] | None = None,
        *,
        keep: bool = True,
    ) -> Difference:
        """Update what the poller watches, for these factors."""
        removed: list[FactorKey] = []
        changed: list[WatchedFactor] = []
        added: list[WatchedFactor] = []
        keys = list(keys)
        for key in keys:
            wanted, record = self._wanted(key), self._ledger.get(key)
            if wanted is None:
                if record is not None:
                    removed.append(key)
            elif record is None:
                added.append(wanted)
            elif record.watched != wanted:
                changed.append(wanted)
        self._poller.forget(removed, keep=keep)
        self._poller.revise(changed)
        restored = self._poller.watch(added, snapshots)
        for key in keys:
            self._join(key)
        return Difference(len(added), len(removed), len(changed), restored)

    def _join(self, key: FactorKey) -> None:
        """Count a watched factor in the entity that it was found in."""
        record, found = self._ledger.get(key), self._found.get(key)
        entity = found.entity if found is not None else ""
        if record is not None and record.entity != entity:
            self._ledger.join(key, entity)

    def _wanted(self, key: FactorKey) -> WatchedFactor | None:
        if (listed := self._listed.get(key)) is not None:
            return listed
        found = self._found.get(key)
        if found is None:
            return None
        return WatchedFactor(key, self._name(found), found.identity, found.interval_seconds, labels=found.labels)

    def _wanted_name(self, key: FactorKey) -> str:
        """Return the name of a wanted factor."""
        listed = self._listed.get(key)
        return self._name(self._found[key]) if listed is None else listed.name

    def _names_listed(self) -> Container[_Name]:
        if self._listed_names is None:
            at_once(self._index_listed_names())
        return self._listed_names or ()

    def _index_listed_names(self) -> Slices[None]:
        """Index the names of the listed factors: one that was found needs another."""
        names: set[_Name] = set()
        for keys in in_lists([*self._listed], READ):
            names.update((key.account, key.service_sid, self._listed[key].name) for key in keys)
            yield len(keys) / READ
        self._listed_names = names

    def _name(self, factor: FoundFactor) -> str:
        """Return the short name, or the long one where another factor has the short one, too."""
        listed = self._names_listed()
        if (*factor.key[:2], factor.short_name) not in listed and self._namesakes.alone(factor):
            return factor.short_name
        name = factor.long_name
        while (factor.key.account, factor.key.service_sid, name) in listed:
            name += "+"  # two series with the same labels would break the whole scrape
        return name
