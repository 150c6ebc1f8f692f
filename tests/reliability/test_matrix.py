"""Each way to fail: what metrics and log say of it, what they don't, and how it ends.

One test runs the whole matrix at once and reports every row that differs from its declaration.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.proofs.fault_matrix import RATE_LIMITS, ROWS, Row
from tests.support.proofs.fault_matrix_report import matrix_table
from tests.support.proofs.reliability_page import ROOT, section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.proofs.fault_matrix_run import Seen
    from tests.support.scrape import Scrape

KEPT = ("last_success_timestamp_seconds", "last_verified_timestamp_seconds", "created_timestamp_seconds")


def grown(seen: Seen, name: str, label: str, **labels: str) -> dict[str, float]:
    """Return by how much a counter of the row's account grew while it was struck, by this label."""

    def counts(page: Scrape) -> dict[str, float]:
        found = page.samples(name, account=seen.row.account, **labels)
        return {sample.labels[label]: sample.value for sample in found}

    before = counts(seen.before)
    return {
        key: value - before.get(key, 0) for key, value in counts(seen.struck).items() if value > before.get(key, 0)
    }


def answered(seen: Seen, name: str) -> bool:
    """Return whether this factor was answered while the row was struck."""
    family = "last_success_timestamp_seconds"
    return (seen.struck.factor(family, name) or 0) > (seen.before.factor(family, name) or 0)


def faults(seen: Seen) -> Iterator[str]:
    """Yield what is not as it should be."""
    row, name = seen.row, seen.row.account
    before, struck, after = seen.before, seen.struck, seen.after
    if isinstance(row.result, Reason):
        if (struck.factor("verified", name), struck.factor("exists", name)) != (1, 1):
            yield "the status was not kept"
        if struck.factor("up", name) != 0:
            yield "up is not 0"
        yield from (
            f"{family} moved" for family in KEPT if struck.factor(family, name) != before.factor(family, name)
        )
        yield from _failures(seen, row.result)
    else:
        if (struck.factor("verified", name), struck.factor("exists", name), struck.factor("up", name)) != (
            None,
            0,
            1,
        ):
            yield "a 404 is not shown as an answer"
        if grown(seen, "twilio_verify_fetch_failures_total", "reason"):
            yield "an answer was counted as a failure"
    yield from _requests(seen)
    yield from _log(seen)
    if [after.factor(family, name) for family in ("verified", "exists", "up")] != [1, 1, 1]:
        yield "it did not recover"
    if after.value("twilio_verify_api_paused", account=name) != 0:
        yield "the account is still paused"
    if after.value("twilio_verify_credentials_valid", account=name) != 1:
        yield "the credentials are not valid again"


def _failures(seen: Seen, reason: Reason) -> Iterator[str]:
    row, name = seen.row, seen.row.account
    counted = grown(seen, "twilio_verify_fetch_failures_total", "reason")
    if counted.keys() != {reason} or (not row.paused and counted[reason] != 1):
        yield f"failures grew by {counted}"
    own = (seen.struck.factor("fetch_failures_total", name) or 0) - (
        seen.before.factor("fetch_failures_total", name) or 0
    )
    if own != counted.get(reason):
        yield f"{own} failures of the factor, {counted} of its service"
    paused = seen.struck.value("twilio_verify_api_paused", account=name) == 1
    if paused != row.paused:
        yield f"paused: {paused}"
    valid = seen.struck.value("twilio_verify_credentials_valid", account=name)
    if valid != (0 if row.paused and reason.refused else 1):
        yield f"credentials_valid is {valid}"


def _requests(seen: Seen) -> Iterator[str]:
    row = seen.row
    counted = grown(seen, "twilio_verify_api_requests_total", "code", operation=row.operation)
    if row.token and (sent := grown(seen, "twilio_verify_api_requests_total", "code", operation="fetch")):
        yield f"without a token, requests grew by {sent}"
    if row.alone:  # the request for another factor, which confirms the refusal, was answered
        counted.pop("200", None)
    elif row.others:
        counted["200"] -= len([name for name in row.names_of_others if answered(seen, name)])
    if counted.keys() != {row.code} or (not row.paused and counted[row.code] != row.attempts):
        yield f"requests grew by {counted}"


def _log(seen: Seen) -> Iterator[str]:
    row = seen.row
    if isinstance(row.result, Status):
        wanted = (
            f'msg="status changed" .* factor={re.escape(row.account)} from=verified to={row.result} '
            f"http_status={row.code} twilio_code=[0-9]{{5}} request_id=RQ[0-9a-f]{{32}}$"
        )
        service = {
            True: (),
            False: ('level=error .* msg="service not found" .* http_status=404 twilio_code=20404 request_id=RQ',),
            None: ('level=warning .* msg="service not fetched" .* http_status=404 .* reason=bad_request ',),
        }[row.service_exists]
        lines = (wanted, *service)
        counts = [sum(bool(re.search(line, logged)) for logged in seen.log) for line in lines]
        if len(seen.log) != len(lines) or set(counts) != {1}:
            yield f"the log says {seen.log}"
        return
    failed = [line for line in seen.log if f" factor={row.account} " in line]
    expected = [line for line in failed if any(f'"{words}"' in line for words in row.detail.split("|"))]
    if len(failed) != 1 or failed != expected or f" reason={row.result} " not in failed[0]:
        yield f"the log says {failed}"
    refused = sum('msg="account paused for' in line and "level=error" in line for line in seen.log)
    if refused != (row.paused and row.result.refused):
        yield f"a refusal was logged {refused} times"
    pauses = [line for line in seen.log if 'msg="rate limited' in line]
    if row.pause_seconds is not None:
        found = re.search(r"pause_seconds=([0-9.]+)", "".join(pauses))
        if (
            len(pauses) != 1
            or found is None
            or abs(float(found[1]) - row.pause_seconds) > 10.0 * (row.pause_seconds == 20)
        ):
            yield f"the pause is logged as {pauses}"
    elif pauses:
        yield f"a pause is logged: {pauses}"


@pytest.mark.slow
def test_every_row_is_as_declared(seen: Mapping[str, Seen]) -> None:
    assert {name: found for name in seen if (found := list(faults(seen[name])))} == {}
    assert len(seen) == len(ROWS) + len(RATE_LIMITS) >= 80


def test_every_reason_but_the_exporters_own_is_there() -> None:
    assert {row.result for row in (*ROWS, *RATE_LIMITS)} == {*Reason, Status.NOT_FOUND} - {Reason.INTERNAL}


def test_rows_have_accounts_of_their_own() -> None:
    accounts = [row.account for row in (*ROWS, *RATE_LIMITS)]
    assert len(set(accounts)) == len(accounts)


def test_the_table_is_what_the_generator_writes() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert section(text, "fault-matrix") == matrix_table(), "run: python -m tests.reliability"


@pytest.mark.slow
def test_a_row_that_lies_is_found(seen: Mapping[str, Seen]) -> None:
    """The judge itself: a row of another kind is never as declared."""
    ok = seen["connection refused"]
    for row in (
        Row("connection refused", ok.row.made_by, Reason.TIMEOUT, "none", ok.row.detail, 2),
        Row("connection refused", ok.row.made_by, Reason.CONNECT, "503", ok.row.detail, 2),
        Row("connection refused", ok.row.made_by, Reason.CONNECT, "none", "other words", 2),
        Row("connection refused", ok.row.made_by, Reason.CONNECT, "none", ok.row.detail, 3),
        Row("connection refused", ok.row.made_by, Reason.CONNECT, "none", ok.row.detail, 2, paused=True),
        Row("connection refused", ok.row.made_by, Status.NOT_FOUND, "none"),
    ):
        assert list(faults(dataclasses.replace(ok, row=row)))
    for name, token in (("connection refused", True), ("token endpoint: connection refused", False)):
        of = seen[name]
        assert list(faults(dataclasses.replace(of, row=dataclasses.replace(of.row, token=token))))
