"""A factor's page can fetch it now: the fetch of ``/probe``, and its result in words.

Apart from pages.py because everything there only shows what is known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from exporter.polling.probe import FRESH_SECONDS, ProbeResult
from exporter.web.formatting import format_age, format_time
from exporter.web.probe import DEFAULT_SECONDS, MOST_WAITING
from exporter.web.views import STATE_LABELS

if TYPE_CHECKING:
    from exporter.polling.record import FactorRecord
    from exporter.web.exporter_view import ExporterView
    from exporter.web.probe import Probe


class Checked(NamedTuple):
    """What came of it: the HTTP status, as of ``/probe``, the result in words, and when to try again."""

    status: int
    text: str
    retry_seconds: int | None = None


async def check(exporter: ExporterView, probe: Probe, record: FactorRecord) -> Checked:
    """Fetch a factor now, within 30 s, and return the result."""
    key = record.watched.key
    began = exporter.clock.steady()
    result = await probe.fetch(key, DEFAULT_SECONDS)
    match result:
        case None:
            text = f"Not checked: {MOST_WAITING} probes are waiting for their fetch. Try again later."
            return Checked(503, text, 1)
        case ProbeResult.PAUSED:
            text = f"Not checked: the account {key.account} is paused. The status page says why."
            return Checked(503, text, max(1, math.ceil(exporter.pause_seconds(key.account))))
        case ProbeResult.STOPPED:
            return Checked(503, "Not checked: the exporter is stopping, or the account was removed.", 1)
        case ProbeResult.TIMED_OUT:
            text = (
                f"No result within {DEFAULT_SECONDS:g} s: the fetch is still in flight, or the account's budget "
                "had no slot for it."
            )
            return Checked(504, text)
        case ProbeResult.NOT_POLLED:
            return Checked(200, "Not checked: the factor is not polled now.")
        case ProbeResult.KNOWN:
            return Checked(200, _known(exporter, record, began))


def _known(exporter: ExporterView, record: FactorRecord, began: float) -> str:
    """Return the outcome of the fetch that ended after ``began``, or why none was needed."""
    fetch = exporter.history.latest(record.watched.key).fetch
    if fetch is None or record.last_steady <= began:
        age = format_age(exporter.clock.steady() - record.answered_steady)
        return f"Not fetched again: the last answer is {age} old, under {FRESH_SECONDS:g} s."
    at = f"Checked {format_time(fetch.ended_seconds)}"
    if fetch.failed:
        return f"{at}: the fetch failed: {fetch.detail or fetch.result.replace('_', ' ')}."
    return f"{at}: {STATE_LABELS[fetch.result].text}, by HTTP {fetch.code}."
