"""The fault matrix as a table for docs/reliability.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.verify.outcome import Reason
from tests.support.proofs.fault_matrix import RATE_LIMITS, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.proofs.fault_matrix import Row


def matrix_table() -> str:
    """Return the table of all rows, as the tests hold them to be true."""
    return "\n".join(
        (
            f"{len(ROWS) + len(RATE_LIMITS)} ways to fail, over TLS unless they are about something else.",
            "",
            "| what goes wrong | outcome | requests, by `code` | the log says | the account |",
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
    return f"answer: {row.result}"


def _words(row: Row) -> str:
    if not isinstance(row.result, Reason):
        return f"status changed from verified to {row.result}"
    return " or ".join(row.detail.split("|"))


def _account(row: Row) -> str:
    if row.pause_seconds is not None:
        told = row.name.endswith(("0", "negative", "past"))
        backoff = " at most (backoff)" if row.pause_seconds == 1 and not told else ""
        return f"pauses for {row.pause_seconds:g} s{backoff}"
    if row.paused:
        return "pauses, until a probe is answered"
    return "goes on: another factor was answered" if row.alone else "goes on"
