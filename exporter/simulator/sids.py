"""SIDs: two letters for the kind of resource, then 32 hex digits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

ACCOUNT = "AC"
API_KEY = "SK"
OAUTH_APP = "OQ"
SERVICE = "VA"
ENTITY = "YE"
FACTOR = "YF"
REQUEST = "RQ"

_FORM = re.compile(r"[A-Za-z]{2}[0-9a-fA-F]{32}")
_IDENTITY = re.compile(r"[A-Za-z0-9-]{8,64}")


def is_sid(text: str, prefix: str) -> bool:
    """Return whether a text is a SID with this prefix, in upper or lower case."""
    return _FORM.fullmatch(text) is not None and text[:2].upper() == prefix


def canonical(sid: str) -> str:
    """Return a SID in the API's spelling: upper-case prefix, lower-case digits."""
    return sid[:2].upper() + sid[2:].lower()


def is_identity(text: str) -> bool:
    """Return whether a text is a valid identity: 8 to 64 letters, digits and hyphens.

    Source: https://www.twilio.com/docs/api/errors/60366
    """
    return _IDENTITY.fullmatch(text) is not None


def random_sid(prefix: str, rng: Random) -> str:
    """Return a random SID."""
    return f"{prefix}{rng.getrandbits(128):032x}"
