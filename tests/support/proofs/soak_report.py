"""The results of the long-running tests as a table for docs/reliability.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.proofs.reliability_page import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NUMBERS = ROOT / "docs" / "reliability.json"


def soak_table(numbers: Mapping[str, Any]) -> str:
    """Return a table of the results, each with the date of its run."""
    rows = ["| test | result | date |", "|---|---|---|"]
    rows += [
        f"| {what(of)} | {_SEEN[name](of['seen'])}{_beside(of)}{_log(of['seen'])} | {of['date']} |"
        for name, what in _WHAT.items()
        if (of := numbers.get(name)) is not None
    ]
    return "\n".join(rows)


def _memory(seen: Mapping[str, Any]) -> str:
    return f"memory {seen['memory_warm'] / 1e6:.1f} MB after the warm-up, {seen['growth']:+.2%} at the end"


def _service(of: Mapping[str, Any]) -> str:
    asked = of["asked"]
    return (
        f"{asked['hours']:g} h of a service with {asked['entities']:,} entities and {asked['factors']:,} factors, "
        f"which come and go, in virtual time; {asked['requests_per_second']:g} requests per second"
    )


def _listings(seen: Mapping[str, Any]) -> str:
    """Return how long listings took, and what they and the fetches used of the budget."""
    rates = ", ".join(f"{rate:.2f} `{name}`" for name, rate in sorted(seen["rates"].items()) if rate >= 0.01)
    every = sorted({round(seconds / 60) for seconds in seen["listing_seconds"]})
    minutes = f"{every[0]}" if len(every) == 1 else f"{every[0]} to {every[-1]}"
    late = f"no fetch missed, and all at most {seen['late_seconds']:.1f} s late"
    if seen["late_fetches"]:
        share = seen["late_fetches"] / seen["requests"]["fetch"]
        late = (
            f"intervals stretched by {seen['stretch']:.2f}, {share:.0%} of the fetches more than 33 s late, all at "
            f"most {seen['late_seconds'] / 60:.0f} min"
        )
    return (
        f"first listing complete after {seen['first_listing_seconds'] / 60:.0f} min, later ones {minutes} min "
        f"apart; requests per second: {rates}, of a budget of {seen['budget']:.0f}; {late}; "
        f"{seen['memory_per_factor']:,} bytes of memory per factor"
    )


def _beside(of: Mapping[str, Any]) -> str:
    """Return what was measured with the same factors in a watchlist."""
    return f", {of['listed']['memory_per_factor']:,} in a watchlist" if "listed" in of else ""


def _log(seen: Mapping[str, Any]) -> str:
    """Return how much was logged, in the background, as the daemon logs; old results don't have it."""
    return f"; {seen['log_lines']:,} log lines, none dropped" if seen.get("log_lines") else ""


def _counts(seen: Mapping[str, Any]) -> str:
    return (
        f"{seen['requests']:,} requests, {seen['fetches']:,} fetches, {seen['retries']:,} retries, "
        f"{sum(seen['failures'].values()):,} fetches failed after all retries; {seen['missed']} missed; "
        f"every counter equal to the simulated API's"
    )


_WHAT: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "day": lambda of: (
        f"{of['asked']['hours']:g} h of schedule for {of['asked']['factors']:,} factors in virtual time, "
        f"{of['asked']['faults']:.0%} of requests failing"
    ),
    "sockets": lambda of: (
        f"{of['asked']['seconds'] / 60:g} min over real sockets: {of['asked']['factors']:,} factors "
        f"every {of['asked']['interval_seconds']:g} s, one request in twenty failing"
    ),
    "reloads": lambda of: f"{of['seen']['reloads'] + of['seen']['refused']:,} reloads during scrapes and fetches",
    "service": _service,
    "service_over_budget": _service,
    "kills": lambda of: f"{of['seen']['times']} writers of the state file killed (SIGKILL) at random moments",
}
_SEEN: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "day": lambda seen: f"{_counts(seen)}; fetches at most {seen['late_seconds']:.1f} s late; {_memory(seen)}",
    "sockets": lambda seen: f"{_counts(seen)}; {_memory(seen)}",
    "reloads": lambda seen: (
        f"{seen['reloads']} applied, {seen['refused']} invalid ones refused; {seen['scrapes']} scrapes, "
        "none failed, incomplete or with a duplicate line; no task, descriptor or thread leaked"
    ),
    "service": _listings,
    "service_over_budget": _listings,
    "kills": lambda seen: (
        f"{seen['while_writing']} were killed while writing; the file was intact every time, and temporary "
        f"files were removed; {seen['generations']} generations written"
    ),
}
