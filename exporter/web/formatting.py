"""Times, durations and counts as pages and ``/config`` show them.

A duration that is exact, as a configuration key has it, is :func:`exporter.config.values.format_duration`.
"""

from __future__ import annotations

from datetime import UTC, datetime


def format_age(seconds: float) -> str:
    """Return how long something lasts or is ago, in the largest unit that gives at least 2: ``66 min``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def format_latency(seconds: float) -> str:
    """Return a measured duration: ``212 ms`` or ``31.2 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def format_time(seconds: float) -> str:
    """Return a wall time as a reader sees it: ``2027-01-15 08:00:00 UTC``."""
    return f"{_utc(seconds):%Y-%m-%d %H:%M:%S} UTC"


def format_iso(seconds: float) -> str:
    """Return a wall time in ISO 8601: ``2027-01-15T08:00:00Z``."""
    return f"{_utc(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def format_count(number: int) -> str:
    """Return a whole number with its thousands separated: ``12,345``."""
    return f"{number:,}"
