"""The fault matrix as a table for docs/reliability.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.verify.outcome import Reason
from tests.support.proofs.fault_matrix import RATE_LIMITS, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.proofs.fault_matrix import Row


def matrix_table() -> str:
    """Return a table of all rows, which the tests verify."""
    ways = f"{len(ROWS) + len(RATE_LIMITS)} ways to fail. Connections use TLS unless stated otherwise."
    return "\n".join(
        (
            f"{ways} In the token endpoint's rows, the requests are those for access tokens.",
            "",
            "| fault | outcome | requests, by `code` | logged detail | account |",
            "|---|---|---|---|---|",
            *_lines((*ROWS, *RATE_LIMITS)),
        )
    )


def _lines(rows: Iterable[Row]) -> Iterable[str]:
    for row in rows:
        requests = f"{row.attempts} × `{row.code}`" if row.attempts > 1 else f"`{row.code}`"
        yield f"| {row.name} | {_outcome(row)} | {requests} | {_words(row)} | {_account(row)} |"


def _outcome(row: Row) -> str:
    if isinstance(row.result, Reason):
        return f"failure `{row.result}`"
    service = {True: "exists", False: "is gone", None: "is not known to exist"}[row.service_exists]
    return f"answer: {row.result}; the service {service}"


def _words(row: Row) -> str:
    if not isinstance(row.result, Reason):
        return f"status changed from verified to {row.result}"
    return " or ".join(row.detail.split("|"))


def _account(row: Row) -> str:
    if row.pause_seconds is not None:
        raised = row.name.endswith(("0", "negative", "past"))  # to the shortest pause
        backoff = " at most (backoff)" if row.pause_seconds == 1 and not raised else ""
        return f"paused for {row.pause_seconds:g} s{backoff}"
    if row.paused:
        return "paused until a probe is answered"
    return "not paused: another factor was answered" if row.alone else "not paused"
