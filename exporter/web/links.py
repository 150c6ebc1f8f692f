"""Links from a factor to other systems, by the templates of ``web.external_links``.

Apart from pages.py because it is a pure function, tested without a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from exporter.config.addresses import LINK_LABEL, LINK_PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.watched import WatchedFactor


class Link(NamedTuple):
    """A link and its text."""

    name: str
    url: str


def links(templates: Mapping[str, str], watched: WatchedFactor) -> list[Link]:
    """Return the links of a factor; one that needs a label which the factor doesn't have is left out."""
    key = watched.key
    values = {f"{LINK_LABEL}{name}": value for name, value in watched.labels} | {
        "account": key.account,
        "service_sid": key.service_sid,
        "factor": watched.name,
        "factor_sid": key.factor_sid,
    }
    encoded = {name: quote(value, safe="", errors="replace") for name, value in values.items()}
    return [
        Link(name, LINK_PLACEHOLDER.sub(lambda match: encoded[match[1]], template))
        for name, template in templates.items()
        if encoded.keys() >= set(LINK_PLACEHOLDER.findall(template))
    ]
