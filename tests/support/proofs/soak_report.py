"""The numbers of the long proofs as a table for docs/reliability.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.proofs.reliability_page import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NUMBERS = ROOT / "docs" / "reliability.json"


def soak_table(numbers: Mapping[str, Any]) -> str:
    """Return what the proofs showed, each with the day it was run."""
    rows = ["| proof | what was seen | date |", "|---|---|---|"]
    rows += [
        f"| {what(of)} | {_SEEN[name](of['seen'])} | {of['date']} |"
        for name, what in _WHAT.items()
        if (of := numbers.get(name)) is not None
    ]
    return "\n".join(rows)


def _memory(seen: Mapping[str, Any]) -> str:
    return f"memory {seen['memory_warm'] / 1e6:.1f} MB after the warm-up, {seen['growth']:+.2%} at the end"


def _counts(seen: Mapping[str, Any]) -> str:
    return (
        f"{seen['requests']:,} requests, {seen['fetches']:,} fetches, {seen['retries']:,} retries, "
        f"{sum(seen['failures'].values()):,} fetches failed for good; {seen['missed']} missed; "
        f"every counter equal to the other side's own"
    )


_WHAT: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "day": lambda of: (
        f"{of['asked']['hours']:g} h of schedule for {of['asked']['factors']:,} factors in virtual time, "
        f"{of['asked']['faults']:.0%} of requests failing"
    ),
    "sockets": lambda of: (
        f"{of['asked']['seconds'] / 60:g} min over real sockets: {of['asked']['factors']:,} factors "
        f"each {of['asked']['interval_seconds']:g} s, one request in twenty failing"
    ),
    "reloads": lambda of: (
        f"{of['seen']['reloads'] + of['seen']['refused']:,} reloads while scrapes and fetches go on"
    ),
    "kills": lambda of: f"{of['seen']['times']} writers of the state file killed (SIGKILL) at any moment",
}
_SEEN: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "day": lambda seen: f"{_counts(seen)}; at most {seen['late_seconds']:.1f} s late; {_memory(seen)}",
    "sockets": lambda seen: f"{_counts(seen)}; {_memory(seen)}",
    "reloads": lambda seen: (
        f"{seen['reloads']} taken, {seen['refused']} bad ones refused; {seen['scrapes']} scrapes, "
        "none failed, torn or with a line twice; no task, descriptor or thread leaked"
    ),
    "kills": lambda seen: (
        f"{seen['while_writing']} died while writing; each time the file was whole, and what was "
        f"left beside it was swept; {seen['generations']} generations written"
    ),
}
