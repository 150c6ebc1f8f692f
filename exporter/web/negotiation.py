"""Which format and encoding a scrape gets, by its headers; invalid headers get the text format, never an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_MAX_HEADER = 2048
_QUALITY = re.compile(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)")


@dataclass(frozen=True, slots=True)
class _Offer:
    name: str
    parameters: dict[str, str]
    quality: float


def accepts_openmetrics(accept: str) -> bool:
    """Return whether a client that sent this ``Accept`` prefers OpenMetrics 1.0 to the text format 0.0.4.

    Weights follow RFC 9110 §12.5.1. At equal weight OpenMetrics is chosen if it is named.
    """
    openmetrics = text = -1.0
    specific = -1
    for offer in _offers(accept):
        match offer.name:
            case "application/openmetrics-text":
                if offer.parameters.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
                    openmetrics = max(openmetrics, offer.quality)
            case "text/plain":
                if offer.parameters.get("version", "0.0.4") == "0.0.4":
                    text, specific = (max(text, offer.quality), 2) if specific == 2 else (offer.quality, 2)
            case "text/*":
                if specific < 1:
                    text, specific = offer.quality, 1
            case "*/*":
                if specific < 0:
                    text, specific = offer.quality, 0
    return openmetrics > 0 and openmetrics >= text


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client that sent this ``Accept-Encoding`` accepts gzip."""
    named = anything = None
    for offer in _offers(accept_encoding):
        if offer.name in ("gzip", "x-gzip"):
            named = offer.quality
        elif offer.name == "*":
            anything = offer.quality
    chosen = anything if named is None else named
    return chosen is not None and chosen > 0


def _offers(header: str) -> list[_Offer]:
    offers: list[_Offer] = []
    for part in header[:_MAX_HEADER].split(","):
        name, *rest = part.split(";")
        parameters: dict[str, str] = {}
        for item in rest:
            key, separator, value = item.partition("=")
            if separator:
                parameters[key.strip().lower()] = value.strip().strip('"')
        quality = parameters.pop("q", "1")
        weight = float(quality) if _QUALITY.fullmatch(quality) else 0.0
        offers.append(_Offer(name.strip().lower(), parameters, weight))
    return offers
