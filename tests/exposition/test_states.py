"""The series of a factor in each state."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.exposition.factors import FactorExposition, FactorSamples
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.verify.outcome import Answer, Failure, Outcome, Reason, Status
from tests.support.factor_cases import ENTITY_SID, SERVICE_SID, key_of, labels, page, series, watched_factor

ALWAYS = {"fetch_failures_total": 0.0, "interval_seconds": 300.0, "info": 1.0}


class OneFactor:
    """A ledger and an exposition of one factor, updated with every outcome."""

    def __init__(self, **changes: Any) -> None:
        self.ledger = Ledger(LedgerPolicy(stale_after=3))
        self.exposition = FactorExposition(FactorSamples())
        self.record = self.ledger.watch(watched_factor(**changes))
        self.exposition.update(self.record)

    def answered(self, status: Status, seconds: float, **details: Any) -> None:
        self._fetched(Answer(status, **details), seconds)

    def failed(self, seconds: float) -> None:
        self._fetched(Failure(Reason.TIMEOUT), seconds)

    def _fetched(self, result: Answer | Failure, seconds: float) -> None:
        moment = Moment(wall=1_800_000_000.0 + seconds, steady=seconds)
        self.ledger.apply(self.record.watched.key, Outcome(result, duration_seconds=0.25), moment)
        self.exposition.update(self.record)

    def time_is(self, seconds: float) -> None:
        for key in self.ledger.expire(seconds):
            self.exposition.update(self.ledger[key])

    def shows(self) -> dict[str, float]:
        return series(page(self.exposition))


DETAILS = {
    "created_seconds": 1000.0,
    "updated_seconds": 2000.0,
    "approved_seconds": 3000.0,
    "factor_type": "passkeys",
    "entity_sid": ENTITY_SID,
}
DATES = {
    "created_timestamp_seconds": 1000.0,
    "updated_timestamp_seconds": 2000.0,
    "last_approved_timestamp_seconds": 3000.0,
}


def test_not_fetched_yet() -> None:
    factor = OneFactor()
    assert factor.shows() == ALWAYS
    assert labels(page(factor.exposition), "info") == {
        "account": "main",
        "service_sid": SERVICE_SID,
        "factor": "factor-0",
        "factor_sid": key_of(0).factor_sid,
        "factor_type": "",
        "entity_sid": "",
    }


def test_verified() -> None:
    factor = OneFactor()
    factor.answered(Status.VERIFIED, 10, **DETAILS)
    assert factor.shows() == {
        **ALWAYS,
        **DATES,
        "verified": 1.0,
        "exists": 1.0,
        "up": 1.0,
        "last_success_timestamp_seconds": 1_800_000_010.0,
        "last_verified_timestamp_seconds": 1_800_000_010.0,
        "fetch_duration_seconds": 0.25,
    }
    assert labels(page(factor.exposition), "info")["factor_type"] == "passkeys"
    assert labels(page(factor.exposition), "info")["entity_sid"] == ENTITY_SID


def test_unverified() -> None:
    factor = OneFactor()
    factor.answered(Status.UNVERIFIED, 10, created_seconds=1000.0)
    assert factor.shows() == {
        **ALWAYS,
        "interval_seconds": 60.0,
        "verified": 0.0,
        "exists": 1.0,
        "up": 1.0,
        "last_success_timestamp_seconds": 1_800_000_010.0,
        "created_timestamp_seconds": 1000.0,
        "fetch_duration_seconds": 0.25,
    }


def test_not_found() -> None:
    factor = OneFactor()
    factor.answered(Status.NOT_FOUND, 10)
    assert factor.shows() == {
        **ALWAYS,
        "interval_seconds": 60.0,
        "exists": 0.0,
        "up": 1.0,
        "last_success_timestamp_seconds": 1_800_000_010.0,
        "fetch_duration_seconds": 0.25,
    }


def test_not_found_after_verified_keeps_last_verified() -> None:
    factor = OneFactor()
    factor.answered(Status.VERIFIED, 10, **DETAILS)
    factor.answered(Status.NOT_FOUND, 310)
    assert factor.shows() == {
        **ALWAYS,
        "interval_seconds": 60.0,
        "exists": 0.0,
        "up": 1.0,
        "last_success_timestamp_seconds": 1_800_000_310.0,
        "last_verified_timestamp_seconds": 1_800_000_010.0,
        "status_since_timestamp_seconds": 1_800_000_310.0,
        "fetch_duration_seconds": 0.25,
    }
    assert labels(page(factor.exposition), "info")["factor_type"] == "passkeys"


def test_failed_and_the_last_answer_is_not_stale() -> None:
    factor = OneFactor()
    factor.answered(Status.VERIFIED, 10, **DETAILS)
    before = factor.shows()
    factor.failed(310)
    factor.failed(610)
    factor.time_is(909.9)
    assert factor.shows() == {**before, "up": 0.0, "fetch_failures_total": 2.0}


@pytest.mark.parametrize("status", Status)
def test_since_when_a_status_holds(status: Status) -> None:
    factor = OneFactor()
    other = Status.UNVERIFIED if status is Status.VERIFIED else Status.VERIFIED
    factor.answered(other, 10)
    assert "status_since_timestamp_seconds" not in factor.shows()
    factor.answered(status, 20)
    factor.failed(30)
    factor.answered(status, 40)
    assert factor.shows()["status_since_timestamp_seconds"] == 1_800_000_020.0
    factor.time_is(40 + 3 * 900)
    assert "status_since_timestamp_seconds" not in factor.shows()


def test_failed_before_any_answer() -> None:
    factor = OneFactor()
    factor.failed(10)
    assert factor.shows() == {**ALWAYS, "up": 0.0, "fetch_failures_total": 1.0, "fetch_duration_seconds": 0.25}


@pytest.mark.parametrize("failures", [0, 2])
def test_stale(failures: int) -> None:
    factor = OneFactor()
    factor.answered(Status.VERIFIED, 10, **DETAILS)
    for number in range(failures):
        factor.failed(310 + number)
    factor.time_is(910)
    assert factor.shows() == {
        **ALWAYS,
        "fetch_failures_total": failures,
        "up": 0.0 if failures else 1.0,
        "last_success_timestamp_seconds": 1_800_000_010.0,
        "last_verified_timestamp_seconds": 1_800_000_010.0,
        "fetch_duration_seconds": 0.25,
    }
    assert labels(page(factor.exposition), "info")["entity_sid"] == ENTITY_SID


def test_an_answer_after_stale_restores_all_series() -> None:
    factor = OneFactor()
    factor.answered(Status.VERIFIED, 10, **DETAILS)
    fresh = factor.shows()
    factor.time_is(910)
    factor.answered(Status.VERIFIED, 10, **DETAILS)
    assert factor.shows() == fresh


def test_a_paused_factor_has_only_its_info_series() -> None:
    assert OneFactor(paused=True).shows() == {"info": 1.0}
