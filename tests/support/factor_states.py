"""Factors in every state that a daemon can show."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from exporter.verify.outcome import Attempt, Failure, Operation, Reason
from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import NOT_FOUND, REQUEST_ID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

TIMEOUT = Failure(Reason.TIMEOUT, "no complete answer in time")
ODD_NAME = 'Zoë\'s "factor" \\ <b>日本語</b>'

STATES = {
    "nothing-watched": (),
    "never-tried": ("never-tried",),
    "verified": ("verified",),
    "unverified": ("unverified",),
    "not-found": ("not-found",),
    "failing": ("failing",),
    "kept": ("kept",),
    "stale": ("stale",),
    "paused": ("paused",),
    "an-odd-name": (ODD_NAME,),
    "all": ("never-tried", "verified", "unverified", "not-found", "failing", "kept", "stale", "paused", ODD_NAME),
}

WORDS = {
    "never-tried": "? unknown",
    "verified": "✓ verified",
    "unverified": "✗ unverified",
    "not-found": "∅ not found",
    "failing": "? unknown",
    "kept": "✓ verified",
    "stale": "? unknown",
    "paused": "‖ paused",
    ODD_NAME: "✓ verified",
}


@contextlib.asynccontextmanager
async def world(folder: Path, state: str, **tables: Mapping[str, object]) -> AsyncIterator[ServedExporter]:
    """Serve a daemon whose factors are in these states; ``tables`` are those of its configuration."""
    factors = [
        {**factor, "paused": factor["name"] == "paused", "labels": {"team": 'the "a" team'}}
        for factor in entries(*STATES[state])
    ]
    clock = LeapingClock()
    async with serving(folder, factors, clock=clock, **tables) as running:
        running.daemon.telemetry.attempted("main", Operation.FETCH, Attempt(VERIFIED, 0.212, 200, REQUEST_ID, 0.05))
        running.daemon.telemetry.attempted("main", Operation.FETCH, Attempt(TIMEOUT, 10.0))
        running.daemon.telemetry.started(0.003)
        results = {
            "stale": (VERIFIED, TIMEOUT),
            "verified": (VERIFIED,),
            ODD_NAME: (VERIFIED,),
            "unverified": (UNVERIFIED,),
            "not-found": (NOT_FOUND,),
            "failing": (TIMEOUT,),
            "kept": (VERIFIED, UNVERIFIED, VERIFIED, TIMEOUT),
        }
        for name in STATES[state]:
            if name in results:
                running.apply(name, *results[name], ago_seconds=4000 if name == "stale" else 0)
        running.daemon.engine.poller.dispatch()
        yield running
