"""Which factors the names on ``fetch``'s command line mean, and which entities have to be listed for them.

Apart from the command because what it decides needs no request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.config.errors import did_you_mean
from exporter.polling.roster import SHORT_DIGITS, name_may_be_found

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from exporter.config import Config
    from exporter.daemon.engine import Discovered
    from exporter.polling.roster import FoundFactor
    from exporter.watched import FactorKey, WatchedFactor


class UnknownNamesError(Exception):
    """No factor has these names; ``hints`` are by name, empty where nothing similar is known."""

    def __init__(self, hints: Mapping[str, str]) -> None:
        super().__init__(*hints)
        self.hints = hints


def needed_for(config: Config, names: Collection[str]) -> Config:
    """Return the configuration with the factors and entities that the named factors need; all without names.

    These are the factors of such a name, the entities in which those that are not listed may be found, and the
    other factors of their services, as the name of a found factor depends on them. Raises UnknownNamesError.
    """
    if not names:
        return config
    listed = {watched.name for watched in config.factors}
    unlisted = [name for name in names if name not in listed]
    entities = tuple(of for of in config.entities if any(name_may_be_found(name, of.name) for name in unlisted))
    if unknown := [name for name in unlisted if not any(name_may_be_found(name, of.name) for of in entities)]:
        known = listed | _similar_names(config, unknown)
        raise UnknownNamesError({name: _hint(config, name, known) for name in unknown})
    services = {entity.key[:2] for entity in entities}
    factors = tuple(of for of in config.factors if of.name in names or of.key[:2] in services)
    return replace(config, factors=factors, entities=entities)


def _similar_names(config: Config, unknown: Iterable[str]) -> set[str]:
    """Return the names that factors found in the watched entities have if the unknown names end correctly."""
    endings = {name.rpartition("-")[2] for name in unknown}
    names = ((of.name, f"{of.name}-{ending}") for of in config.entities for ending in endings)
    return {name for entity, name in names if name_may_be_found(name, entity)}


def _hint(config: Config, name: str, known: Collection[str]) -> str:
    if any(name == entity.name for entity in config.entities):
        return f'the factors of this entity are named "{name}-" and the last {SHORT_DIGITS} digits of their SID'
    return did_you_mean(name, known)


def choose(
    names: Collection[str], discovered: Discovered, found: Callable[[FactorKey], FoundFactor | None]
) -> tuple[list[WatchedFactor], list[str]]:
    """Return the factors of these names, or all without names, and the names that may be in an unlisted entity.

    ``found`` returns a factor as it was found; it has its short and its long name, whichever is shown. Raises
    UnknownNamesError.
    """
    if not names:
        return list(discovered.factors), []
    factors: dict[str, list[WatchedFactor]] = {}
    for watched in discovered.factors:
        own, of = {watched.name}, found(watched.key)
        if of is not None:
            own |= {of.short_name[2], of.long_name}
        for name in own:
            factors.setdefault(name, []).append(watched)
    missing = [name for name in names if name not in factors]
    unlisted = {failed.entry for failed in discovered.failures}
    undetermined = [name for name in missing if any(name_may_be_found(name, entity) for entity in unlisted)]
    if unknown := [name for name in missing if name not in undetermined]:
        raise UnknownNamesError({name: did_you_mean(name, factors) for name in unknown})
    chosen = {watched.key: watched for name in names for watched in factors.get(name, ())}
    return list(chosen.values()), undetermined
