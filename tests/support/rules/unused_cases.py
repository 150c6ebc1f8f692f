"""Cases for the optional alert about verified passkeys that are not used.

Time begins at 0 there, so 90 days ago is a time before it.
"""

from __future__ import annotations

from tests.support.rules.cases import POD_A, POD_B, Case, ExpectedAlert, name
from tests.support.rules.factor_cases import ALICE, BOB
from tests.support.rules.service_cases import SERVICE

_UNUSED = "PasskeysUnused"
_OF_THE_TEAM = {**SERVICE, "team": "payments"}
CAROL = BOB | {"factor": "carol"}
LONG_AGO = "-8000000x300"


def passkey(
    whose: dict[str, str] = BOB, pod: dict[str, str] = POD_A, *, approved: str = "", verified: str = "1x300"
) -> dict[str, str]:
    """Return the series of a passkey; one without values is left out."""
    values = {"last_approved_timestamp_seconds": approved, "verified": verified}
    return {name(f"twilio_verify_factor_{family}", whose, pod): text for family, text in values.items() if text}


def _unused(about: str, series: dict[str, str], firing: dict[int, list[dict[str, str]]]) -> Case:
    return Case(about, _UNUSED, series, firing, severity="warning")


CASES = (
    Case(
        # At minute 61, the last approval is more than 90 days ago.
        "two are not used, and then they are",
        _UNUSED,
        passkey(approved="-7772400x150 9000x100") | passkey(CAROL, approved="-7772400x150 9000x100"),
        {120: [], 121: [SERVICE], 150: [SERVICE], 210: [SERVICE], 212: []},
        ExpectedAlert(
            130,
            SERVICE,
            "Some verified passkeys are not used.",
            "2 verified passkey(s) of service VA1 (account main) have approved no challenge for 90 days: a device "
            "that is lost or no longer used can still log in. The dashboard lists them.",
            "twilio-verify-overview?var-account=main&var-service=VA1",
        ),
        severity="warning",
    ),
    _unused("not used for 92 days", passkey(approved=LONG_AGO), {59: [], 60: [SERVICE], 200: [SERVICE]}),
    _unused("not used for 82 days", passkey(approved="-7000000x300"), {60: [], 200: []}),
    _unused("used a moment ago", passkey(approved="0+60x300"), {60: [], 200: []}),
    _unused("not verified", passkey(approved=LONG_AGO, verified="0x300"), {60: [], 200: []}),
    _unused("whether it was ever used is not known", passkey(), {60: [], 200: []}),
    _unused("its status is not known", passkey(approved=LONG_AGO, verified=""), {60: [], 200: []}),
    _unused(
        "a team gets its own number, and factors without labels theirs",
        passkey(ALICE, approved=LONG_AGO) | passkey(approved=LONG_AGO) | passkey(CAROL, approved=LONG_AGO),
        {60: [_OF_THE_TEAM, SERVICE]},
    ),
    _unused(
        "one of two replicas has a later answer",
        passkey(approved=LONG_AGO) | passkey(pod=POD_B, approved="0x300"),
        {60: [], 200: []},
    ),
    _unused(
        "for one of two replicas it is verified",
        passkey(approved=LONG_AGO) | passkey(pod=POD_B, approved=LONG_AGO, verified="0x300"),
        {60: [SERVICE]},
    ),
    _unused("used again", passkey(approved="-8000000x99 6000x200"), {159: [SERVICE], 162: []}),
    _unused("verified later", passkey(approved=LONG_AGO, verified="0x9 1x200"), {69: [], 70: [SERVICE]}),
    _unused(
        "a pod takes over from another",
        passkey(approved="-8000000x29 stale", verified="1x29 stale")
        | passkey(pod=POD_B, approved="_x33 -8000000x200", verified="_x33 1x200"),
        {59: [], 60: [SERVICE], 90: [SERVICE]},
    ),
    _unused(
        "a long gap in the status",
        passkey(approved=LONG_AGO, verified="1x29 _x7 1x200"),
        {60: [], 95: [], 98: [SERVICE]},
    ),
    _unused(
        "a long gap in the time of the last approval",
        passkey(approved="-8000000x29 _x7 -8000000x200"),
        {60: [], 95: [], 98: [SERVICE]},
    ),
    _unused(
        "an outage of an hour, in which the status becomes unknown",
        passkey(approved=LONG_AGO, verified="1x99 _x55 1x200"),
        {99: [SERVICE], 130: [SERVICE], 160: [SERVICE], 200: [SERVICE]},
    ),
)
