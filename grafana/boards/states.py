"""Words and colours for values, shared by all dashboards; no meaning is shown by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from grafana_foundation_sdk.models import dashboard

from grafana.rules.factors import FactorState

GOOD, WARN, BAD, GREY, PLAIN = "green", "orange", "red", "#8e8e8e", "blue"
TEXT = "text"  # the theme's colour of text


class Scope(IntEnum):
    """What an alert is about: the wider its scope, the more likely it is the cause of others."""

    EXPORTER = 1
    ACCOUNT = 2
    SERVICE = 3
    ENTITY = 4
    FACTOR = 5


@dataclass(frozen=True, slots=True)
class Word:
    """The text and the colour shown for a value."""

    value: float
    text: str
    colour: str


STATES = (
    Word(FactorState.VERIFIED, "✓ verified", GOOD),
    Word(FactorState.UNKNOWN, "? unknown", GREY),
    Word(FactorState.UNVERIFIED, "✗ unverified", WARN),
    Word(FactorState.NOT_FOUND, "∅ not found", BAD),
)
STATUS_COLOURS = {"verified": GOOD, "unverified": WARN, "not_found": BAD, "unknown": GREY}
LAST_FETCH = (Word(1, "answered", GOOD), Word(0, "failed", WARN))
REACHED = (Word(1, "up", GOOD), Word(0, "DOWN", BAD))
PAUSED = (Word(0, "running", GOOD), Word(1, "paused", WARN))
CREDENTIALS = (Word(1, "accepted", GOOD), Word(0, "REFUSED", BAD))
RELOAD = (Word(1, "applied", GOOD), Word(0, "REFUSED", BAD), Word(2, "LAST GOOD", BAD))
SERVICE_STATES = (Word(1, "✓ exists", GOOD), Word(0, "∅ NOT FOUND", BAD))
NONE = (Word(0, "none", GOOD),)
# A number of factors that is 0, as far as the status of factors is known.
NONE_KNOWN = (*NONE, Word(-1, "none known", GREY))
UNKNOWN = "unknown"
ALERT_STATES = {"firing": BAD, "pending": WARN}
SCOPES = tuple(Word(scope, scope.name.lower(), TEXT) for scope in Scope)
SEVERITIES = {"critical": BAD, "warning": WARN, "info": PLAIN}


def unknown() -> dashboard.ValueMapping:
    """Return the mapping for no value at all, as when Prometheus has no samples: it is neither good nor bad."""
    nothing = dashboard.ValueMappingResult(text=UNKNOWN, color=GREY, index=0)
    options = dashboard.DashboardSpecialValueMapOptions(dashboard.SpecialValueMatch.NULL_AND_NAN, nothing)
    return dashboard.SpecialValueMap(options)


def words(meanings: tuple[Word, ...]) -> list[dashboard.ValueMapping]:
    """Return the mapping of values to texts."""
    options = {
        f"{word.value:g}": dashboard.ValueMappingResult(text=word.text, color=word.colour, index=index)
        for index, word in enumerate(meanings)
    }
    return [dashboard.ValueMap(options=options)]


def coloured(colours: dict[str, str]) -> list[dashboard.ValueMapping]:
    """Return a mapping that gives each text its colour."""
    options = {
        text: dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (text, colour) in enumerate(colours.items())
    }
    return [dashboard.ValueMap(options=options)]
