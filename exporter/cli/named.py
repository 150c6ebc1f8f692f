"""Which factors the names on ``fetch``'s command line mean, and what has to be listed to find them.

Apart from the command because what it decides needs no request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.config.errors import did_you_mean
from exporter.polling.roster import SHORT_DIGITS, name_may_be_found

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from exporter.config import Config
    from exporter.polling.roster import FoundFactor
    from exporter.watched import FactorKey, WatchedEntity, WatchedFactor, WatchedService


class UnknownNamesError(Exception):
    """No factor has these names; ``hints`` are by name, empty where nothing similar is known."""

    def __init__(self, hints: Mapping[str, str]) -> None:
        super().__init__(*hints)
        self.hints = hints


def unlisted(config: Config, names: Collection[str]) -> list[str]:
    """Return the names that no listed factor has."""
    listed = {watched.name for watched in config.factors}
    return [name for name in names if name not in listed]


def needed_for(config: Config, names: Collection[str], *, complete: bool = True) -> Config:
    """Return the configuration with what the named factors need; all of it without names.

    These are the factors of such a name, the entities and services in which those that are not listed may be found,
    and the other factors of their services, as the name of a found factor depends on them. Raises UnknownNamesError
    for names that no factor can have; not if the watchlist isn't ``complete``.
    """
    if not names:
        return config
    missing = unlisted(config, names)
    unknown = [name for name in missing if not any(name_may_be_found(name, of.name) for of in _entries(config))]
    if unknown and complete:
        known = {watched.name for watched in config.factors} | _similar_names(config, unknown)
        raise UnknownNamesError({name: _hint(config, name, known) for name in unknown})
    entities = tuple(of for of in config.entities if may_hold(of.name, missing))
    services = tuple(of for of in config.services if may_hold(of.name, missing))
    searched = {of.key[:2] for of in entities} | {of.key[:2] for of in services}
    factors = tuple(of for of in config.factors if of.name in names or of.key[:2] in searched)
    return replace(config, factors=factors, entities=entities, services=services)


def may_hold(entry: str, names: Iterable[str]) -> bool:
    """Return whether a factor of one of these names may be found by the entry of this name."""
    return any(name_may_be_found(name, entry) for name in names)


def _entries(config: Config) -> Iterator[WatchedEntity | WatchedService]:
    yield from config.entities
    yield from config.services


def _similar_names(config: Config, unknown: Iterable[str]) -> set[str]:
    """Return the names that found factors have if the unknown names end correctly."""
    endings = {name.rpartition("-")[2] for name in unknown}
    names = ((of.name, f"{of.name}-{ending}") for of in _entries(config) for ending in endings)
    return {name for entry, name in names if name_may_be_found(name, entry)}


def _hint(config: Config, name: str, known: Collection[str]) -> str:
    for entries, what in ((config.entities, "entity"), (config.services, "service")):
        if any(name == entry.name for entry in entries):
            return f'the factors of this {what} are named "{name}-" and the last {SHORT_DIGITS} digits of their SID'
    return did_you_mean(name, known)


def by_name(
    factors: Iterable[WatchedFactor], found: Callable[[FactorKey], FoundFactor | None]
) -> dict[str, list[WatchedFactor]]:
    """Return factors by name; a ``found`` one has its short and its long name, whichever is shown."""
    index: dict[str, list[WatchedFactor]] = {}
    for watched in factors:
        own, of = {watched.name}, found(watched.key)
        if of is not None:
            own |= {of.short_name, of.long_name}
        for name in own:
            index.setdefault(name, []).append(watched)
    return index
