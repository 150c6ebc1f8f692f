"""Samples of an exposition, read by the letter of the formats and by nothing that a scraper uses."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*)\})? (\S+)(?: # \{.*)?")
_LABEL = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)=\"((?:[^\"\\]|\\.)*)\"(?:,|$)")
_ESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


def labels_of(labels: Mapping[str, str], *without: str) -> Labels:
    """Return labels as they are compared: one with an empty value is the same as none."""
    return frozenset((name, value) for name, value in labels.items() if value and name not in without)


def read(exposition: str) -> Samples:
    """Return the samples of an exposition, text format or OpenMetrics. Raises ``ValueError`` for a bad line."""
    samples: Samples = {}
    for line in exposition.splitlines():
        if not line or line.startswith("#"):
            continue
        found = _SAMPLE.fullmatch(line)
        if found is None:
            raise ValueError(line)
        key = found[1], labels_of(dict(_labels(found[2] or "")))
        if key in samples:
            raise ValueError(f"twice: {line}")
        samples[key] = float(found[3])
    return samples


def _labels(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        found = _LABEL.match(text, place)
        if found is None:
            raise ValueError(text)
        yield found[1], re.sub(r"\\(.)", lambda escaped: _ESCAPED[escaped[1]], found[2])
        place = found.end()


def differences(served: Samples, received: Samples, *, relative: float = 0.0) -> list[str]:
    """Return what a scraper missed, added or changed; ``relative`` is how far values may be from each other."""
    return [
        *(f"missing: {_shown(key)}" for key in served.keys() - received.keys()),
        *(f"not served: {_shown(key)}" for key in received.keys() - served.keys()),
        *(
            f"{_shown(key)} is {received[key]!r}, not {value!r}"
            for key, value in served.items()
            if key in received and not math.isclose(value, received[key], rel_tol=relative)
        ),
    ]


def _shown(key: tuple[str, Labels]) -> str:
    return f"{key[0]}{dict(sorted(key[1]))}"
