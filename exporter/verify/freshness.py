"""Whether a response comes from a cache, by its ``Age`` (RFC 9111 §5.1) and ``Date`` (RFC 9110 §6.6.1).

Separate from the interpretation of responses because it remembers earlier ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.verify.answers import parse_age, parse_date

if TYPE_CHECKING:
    from collections.abc import Mapping

RESPONSES = 21
ENOUGH_RESPONSES = 5
LONGEST_AGE_SECONDS = 60.0
LONGEST_LAG_SECONDS = 300.0
# Dates that stay behind by the same seconds for twice this time mean that a clock was set back.
MOVED_SECONDS = 900.0
MOVED_RESPONSES = 11
MOVED_SPREAD_SECONDS = 60.0
# Clocks drift apart by less than this; dates that fall behind faster are those of cached responses.
LARGEST_DRIFT = 0.01


@dataclass(slots=True)
class _Behind:
    """Responses in a row whose dates are behind by about the same time; ``low`` and ``high`` are their offsets."""

    since: float
    low: float
    high: float
    limit: float
    responses: int = 0


class Freshness:
    """Judges the responses of one host.

    The offset of a response is its date minus the time of a steady clock here. A date is too old if its offset is
    more than the limit behind the median of the last 21 believed responses; so no clock has to be right, and a
    difference between them doesn't matter. The median can't follow dates that stand still. Until there are five
    responses, no date is judged.
    """

    def __init__(self) -> None:
        self._offsets: deque[float] = deque(maxlen=RESPONSES)
        self._reference: float | None = None  # the highest median, less the largest drift since
        self._reference_at = 0.0
        self._behind: _Behind | None = None

    def cached_by(self, headers: Mapping[str, str], now: float, interval_seconds: float) -> str:
        """Return the name of the header that shows that a response comes from a cache, empty if none does.

        ``now`` is a steady clock's time in seconds; ``interval_seconds`` is how old a response may be in any case.
        Missing and invalid headers show nothing.
        """
        age = parse_age(headers)
        if age is not None and age > max(LONGEST_AGE_SECONDS, interval_seconds):
            return "Age"
        date = parse_date(headers)
        if date is None:
            return ""
        offset, limit = date - now, max(LONGEST_LAG_SECONDS, interval_seconds)
        if self._is_behind(offset, now, limit) and not self._clock_moved(offset, now, limit):
            return "Date"
        self._behind = None
        self._offsets.append(offset)
        if len(self._offsets) >= ENOUGH_RESPONSES:
            ordered = sorted(self._offsets)
            median = (ordered[len(ordered) // 2] + ordered[~(len(ordered) // 2)]) / 2
            known = self._reference_now(now)
            self._reference, self._reference_at = median if known is None else max(median, known), now
        return ""

    def _reference_now(self, now: float) -> float | None:
        if self._reference is None:
            return None
        return self._reference - LARGEST_DRIFT * (now - self._reference_at)

    def _is_behind(self, offset: float, now: float, limit: float) -> bool:
        reference = self._reference_now(now)
        return reference is not None and reference - offset > limit

    def _clock_moved(self, offset: float, now: float, limit: float) -> bool:
        """Count a response that is behind; return whether the host's clock was set back, and start again if so."""
        behind = self._behind
        if behind is None or max(behind.high, offset) - min(behind.low, offset) > MOVED_SPREAD_SECONDS:
            behind = self._behind = _Behind(now, offset, offset, limit)
        behind.low, behind.high = min(behind.low, offset), max(behind.high, offset)
        behind.limit = max(behind.limit, limit)
        behind.responses += 1
        if behind.responses < MOVED_RESPONSES or now - behind.since <= 2 * max(behind.limit, MOVED_SECONDS):
            return False
        self._offsets.clear()
        self._reference = None
        return True
