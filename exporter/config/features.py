"""Keys whose feature isn't in this version: they are refused by name, never ignored."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.config.faults import Fault
from exporter.config.sources import find, place_of
from exporter.config.tree import Key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config.settings import Settings
    from exporter.config.sources import Layer
    from exporter.config.tree import Table

UNBUILT = MappingProxyType(
    {
        "web.enable_probe": "there is no /probe",
    }
)
"""Key → what the version does instead; a key is refused when its value isn't the default."""


def unbuilt_faults(settings: Settings, layers: tuple[Layer, ...], tree: Table) -> Iterator[Fault]:
    """Yield a fault for each setting that asks for a feature this version hasn't."""
    for name, instead in UNBUILT.items():
        path = tuple(name.split("."))
        key = find(tree, path)
        if not isinstance(key, Key):
            continue  # [[entities]] are refused where they are read
        value: object = settings
        for part in path:
            value = getattr(value, part)
        if value != key.default:
            yield unbuilt_fault(place_of(layers, path), instead)


def unbuilt_fault(place: str, instead: str) -> Fault:
    """Return the fault of a key whose feature isn't in this version."""
    return Fault(place, f"is not available in this version ({instead})", "remove it")
