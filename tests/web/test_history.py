"""The last fetches of each factor: what is kept, for how long, and in how many bytes."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.verify.outcome import Answer, Failure, Outcome, Reason, Status
from exporter.watched import FactorKey
from exporter.web import history
from exporter.web.history import FULL, SHORT, Depth, Fetch, History

KEY = FactorKey("main", "VA" + "0" * 32, "YF" + "0" * 32)
VERIFIED = Answer(Status.VERIFIED)
REQUEST_ID = "RQ" + "0123456789abcdef" * 2


def outcome(failed: bool, number: int = 0) -> Outcome:
    result = Failure(Reason.SERVER_ERROR, f"HTTP 503, the {number}th") if failed else VERIFIED
    return Outcome(result, 0.25, 3 if failed else 1, 503 if failed else 200, REQUEST_ID)


def times(fetches: list[Fetch]) -> list[float]:
    return [fetch.ended_seconds for fetch in fetches]


def test_a_fetch_is_kept_with_every_field() -> None:
    kept = History(5.0)
    kept.add(KEY, Outcome(Failure(Reason.TIMEOUT, "kein Ende – nichts"), 30.125, 3, None, ""), 1_800_000_000.125)
    kept.add(KEY, Outcome(Answer(Status.NOT_FOUND), 0.2, 1, 404, REQUEST_ID), 1_800_000_060.5)

    assert kept.since_seconds == 5.0
    assert kept.of(KEY).recent == [
        Fetch(1_800_000_060.5, Status.NOT_FOUND, "", 404, 0.2, 1, REQUEST_ID),
        Fetch(1_800_000_000.125, Reason.TIMEOUT, "kein Ende – nichts", None, 30.125, 3, ""),
    ]
    assert kept.last_failure(KEY) == kept.of(KEY).recent[1]
    assert [fetch.failed for fetch in kept.of(KEY).recent] == [False, True]


def test_a_factor_never_fetched_or_forgotten_has_no_history() -> None:
    kept = History(0.0)
    kept.add(KEY, outcome(failed=True), 1.0)
    kept.forget(KEY)
    kept.forget(KEY)

    assert kept.of(KEY) == ([], [], None)
    assert kept.latest(KEY) == (None, None)
    assert kept.last_failure(KEY) is None


def test_a_change_outlives_everything_after_it() -> None:
    kept = History(0.0)
    gone = Outcome(Answer(Status.NOT_FOUND), 0.2, 1, 404, REQUEST_ID, twilio_code=20404)
    kept.add(KEY, gone, 1.0, Status.VERIFIED)
    kept.add(KEY, gone, 2.0, Status.UNVERIFIED)
    for number in range(3, 200):
        kept.add(KEY, outcome(number % 4 == 0, number), float(number))
    change = Fetch(2.0, Status.NOT_FOUND, "", 404, 0.2, 1, REQUEST_ID, 20404, Status.UNVERIFIED)
    fetches, latest = kept.of(KEY), kept.latest(KEY)

    assert (fetches.change, latest.change) == (change, change)
    assert latest.fetch == fetches.recent[0]
    assert change not in [*fetches.recent, *fetches.older_failures]
    assert len(fetches.recent) + len(fetches.older_failures) > FULL.fetches
    kept.add(KEY, outcome(failed=False), 200.0, Status.NOT_FOUND)
    assert kept.latest(KEY).change == kept.latest(KEY).fetch == kept.of(KEY).recent[0]


@given(
    st.lists(st.sampled_from(["answer", "failure", "change"]), max_size=60), st.integers(1, 4), st.integers(1, 3)
)
def test_the_last_change_is_kept_beside_the_rest(kinds: list[str], fetches: int, failures: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "FULL", Depth(fetches, failures))
        kept = History(0.0)
        for number, kind in enumerate(kinds):
            before = Status.UNVERIFIED if kind == "change" else None
            kept.add(KEY, outcome(kind == "failure", number), float(number), before)
        recent, older, change = kept.of(KEY)
        packed = len(kept._packed.get(KEY, b""))

    numbers = range(len(kinds))[::-1]
    assert times(recent) == [float(number) for number in numbers][:fetches]
    last_failures = [float(number) for number in numbers if kinds[number] == "failure"][:failures]
    assert times(older) == [number for number in last_failures if number not in times(recent)]
    changes = [float(number) for number in numbers if kinds[number] == "change"]
    assert (None if change is None else change.ended_seconds) == (changes[0] if changes else None)
    assert packed <= (fetches + failures + 1) * 60


def test_every_result_fits_its_bits() -> None:
    kept = History(0.0)
    for result in (*Status, *Reason):
        for before in (None, *Status):
            what = Failure(result) if isinstance(result, Reason) else Answer(result)
            kept.add(KEY, Outcome(what, 0.25, twilio_code=999_999), 1.0, before)
            fetch = kept.latest(KEY).fetch
            assert fetch is not None
            assert (fetch.result, fetch.before, fetch.twilio_code) == (result, before, 999_999)


def test_failures_outlive_successes() -> None:
    kept = History(0.0)
    failures = set(range(1, 2 * FULL.failures, 2))
    for number in range(400):
        kept.add(KEY, outcome(number in failures, number), float(number))
    fetches = kept.of(KEY)

    assert times(fetches.recent) == [float(number) for number in range(399, 399 - FULL.fetches, -1)]
    assert times(fetches.older_failures) == [float(number) for number in sorted(failures, reverse=True)]
    assert fetches.older_failures[0].detail == f"HTTP 503, the {max(failures)}th"
    assert kept.last_failure(KEY) == fetches.older_failures[0]


@given(st.lists(st.booleans(), max_size=120), st.integers(1, 5), st.integers(1, 5))
def test_the_last_fetches_and_the_last_failures_are_kept(failed: list[bool], fetches: int, failures: int) -> None:
    depth = Depth(fetches, failures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "FULL", depth)
        kept = History(0.0)
        for number, bad in enumerate(failed):
            kept.add(KEY, outcome(bad, number), float(number))
        recent, older, change = kept.of(KEY)

    numbers = range(len(failed))
    assert times(recent) == [float(number) for number in numbers][::-1][:fetches]
    last_failures = [float(number) for number in numbers if failed[number]][::-1][:failures]
    assert times(older) == [number for number in last_failures if number not in times(recent)]
    assert change is None


@given(
    detail=st.text(max_size=400),
    twilio_code=st.none() | st.integers(10_000, 999_999),
    request_id=st.text(max_size=200) | st.just(REQUEST_ID) | st.just(REQUEST_ID.upper()),
    attempts=st.integers(1, 1000),
    code=st.none() | st.integers(100, 599),
    duration=st.floats(0, 10_000, width=32),
)
def test_strange_texts_break_no_entry(
    detail: str, twilio_code: int | None, request_id: str, attempts: int, code: int | None, duration: float
) -> None:
    kept = History(0.0)
    strange = Outcome(Failure(Reason.DECODE, detail), duration, attempts, code, request_id, twilio_code=twilio_code)
    kept.add(KEY, strange, 1.0)
    kept.add(KEY, outcome(failed=False), 2.0)
    first, second = kept.of(KEY).recent

    assert first == Fetch(2.0, Status.VERIFIED, "", 200, 0.25, 1, REQUEST_ID)
    assert second.detail == detail or (second.detail.endswith("…") and detail.startswith(second.detail[:-1]))
    assert second.request_id == request_id or (
        second.request_id.endswith("…") and request_id.startswith(second.request_id[:-1])
    )
    assert (second.attempts, second.code, second.twilio_code) == (min(attempts, 255), code, twilio_code)
    assert second.duration_seconds == pytest.approx(duration, abs=1e-3)


def test_with_many_factors_less_is_kept_per_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "FULL_FACTORS", 3)
    kept = History(0.0)
    keys = [KEY._replace(factor_sid=f"YF{number:032x}") for number in range(4)]
    for number in range(50):
        kept.add(keys[0], outcome(number % 10 == 0, number), float(number))
    assert kept.depth == FULL
    assert len(kept.of(keys[0]).recent) == FULL.fetches
    for key in keys[1:]:
        kept.add(key, outcome(failed=False), 50.0)
    assert kept.depth == SHORT
    kept.add(keys[0], outcome(failed=False), 51.0)
    cut = kept.of(keys[0])
    kept.forget(keys[3])

    assert times(cut.recent) == [51.0, 49.0, 48.0]
    assert times(cut.older_failures) == [40.0, 30.0]
    assert kept.depth == FULL


@pytest.mark.slow
def test_with_a_hundred_thousand_factors_one_takes_about_200_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = 4000  # enough to measure; the depth is that of 100,000
    monkeypatch.setattr(history, "FULL_FACTORS", 0)
    keys = [KEY._replace(factor_sid=f"YF{number:032x}") for number in range(factors)]
    kept = History(0.0)
    tracemalloc.start()
    try:
        for step in range(8):
            for number, key in enumerate(keys):
                kept.add(key, outcome(failed=(number + step) % 200 == 0), 1_800_000_000.0 + step)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used / factors < 300


def test_the_evidence_of_a_mass_404_takes_40_bytes_per_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "FULL_FACTORS", 0)
    sizes = []
    for before in (None, Status.VERIFIED):
        kept = History(0.0)
        gone = Outcome(Answer(Status.NOT_FOUND), 0.2, 1, 404, REQUEST_ID, twilio_code=20404)
        kept.add(KEY, gone, 1.0, before)
        for number in range(2, 20):
            kept.add(KEY, gone, float(number))
        sizes.append(len(kept._packed[KEY]))
    assert sizes[1] - sizes[0] <= 40
