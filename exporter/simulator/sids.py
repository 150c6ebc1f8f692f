"""SIDs: two letters that name the kind of resource and 32 hex digits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

ACCOUNT = "AC"
API_KEY = "SK"
SERVICE = "VA"
ENTITY = "YE"
FACTOR = "YF"
REQUEST = "RQ"

_FORM = re.compile(r"[A-Za-z]{2}[0-9a-fA-F]{32}")
_IDENTITY = re.compile(r"[A-Za-z0-9-]{8,64}")


def is_sid(text: str, prefix: str) -> bool:
    """Say whether a text has the form of a SID of this prefix, in any case."""
    return _FORM.fullmatch(text) is not None and text[:2].upper() == prefix


def canonical(sid: str) -> str:
    """Return a SID as the API writes it: upper-case prefix, lower-case digits."""
    return sid[:2].upper() + sid[2:].lower()


def is_identity(text: str) -> bool:
    """Say whether a text has the form of an identity: 8 to 64 letters, digits and dashes.

    Source: https://www.twilio.com/docs/api/errors/60366
    """
    return _IDENTITY.fullmatch(text) is not None


def made_up(prefix: str, rng: Random) -> str:
    """Return a SID drawn from a random source."""
    return f"{prefix}{rng.getrandbits(128):032x}"
