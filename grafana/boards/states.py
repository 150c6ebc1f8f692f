"""What a number means, in words and a colour: the same on every board, and never a colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard

GOOD, ODD, BAD, GREY, PLAIN = "green", "orange", "red", "#8e8e8e", "blue"


@dataclass(frozen=True, slots=True)
class Word:
    """The word and the colour that stand for a value."""

    value: float
    text: str
    colour: str


STATES = (
    Word(1, "✓ verified", GOOD),
    Word(2, "? unknown", GREY),
    Word(3, "✗ unverified", ODD),
    Word(4, "∅ not found", BAD),
)
STATUS_COLOURS = {"verified": GOOD, "unverified": ODD, "not_found": BAD, "unknown": GREY}
LAST_FETCH = (Word(1, "answered", GOOD), Word(0, "failed", ODD))
REACHED = (Word(1, "up", GOOD), Word(0, "DOWN", BAD))
PAUSED = (Word(0, "running", GOOD), Word(1, "paused", ODD))
CREDENTIALS = (Word(1, "accepted", GOOD), Word(0, "REFUSED", BAD))
RELOAD = (Word(1, "taken", GOOD), Word(0, "REFUSED", BAD))
NONE = (Word(0, "none", GOOD),)
ALERT_STATES = {"firing": BAD, "pending": ODD}
SEVERITIES = {"critical": BAD, "warning": ODD, "info": PLAIN}


def words(meanings: tuple[Word, ...]) -> list[dashboard.ValueMapping]:
    """Return the mapping of values to words."""
    options = {
        f"{word.value:g}": dashboard.ValueMappingResult(text=word.text, color=word.colour, index=index)
        for index, word in enumerate(meanings)
    }
    return [dashboard.ValueMap(options=options)]


def coloured(colours: dict[str, str]) -> list[dashboard.ValueMapping]:
    """Return the mapping of texts to themselves, coloured."""
    options = {
        text: dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (text, colour) in enumerate(colours.items())
    }
    return [dashboard.ValueMap(options=options)]
