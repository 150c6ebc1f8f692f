"""Responses from caches: by their Age, and by a Date that is older than those of other responses."""

from __future__ import annotations

import heapq
import random
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.schedule import due_after
from exporter.verify.answers import parse_age, parse_date
from exporter.verify.freshness import ENOUGH_RESPONSES, RESPONSES, Freshness

START = 1.8e9
HOUR = 3600.0


def dated(seconds: float) -> httpx.Headers:
    return httpx.Headers({"Date": formatdate(seconds, usegmt=True)})


class Host:
    """A host whose responses are judged; ``skew`` is how far its clock is ahead of the steady clock here."""

    def __init__(self, *, skew: float = 0.0, responses: int = RESPONSES) -> None:
        self.freshness, self.now, self.skew = Freshness(), START, skew
        for _ in range(responses):
            assert self.responds() == ""
            self.now += 1

    def responds(self, *, lag: float = 0.0, interval: float = 60.0) -> str:
        return self.freshness.cached_by(dated(self.now + self.skew - lag), self.now, interval)


# Age


@pytest.mark.parametrize(
    ("age", "interval", "judged"),
    [
        ("0", 1, ""), ("60", 1, ""), ("61", 1, "Age"), ("300", 300, ""), ("301", 300, "Age"), (" 301 ", 300, "Age"),
        ("9" * 5000, 86400, "Age"), ("61, 5", 1, "Age"), ("5, 61", 1, ""), ("-61", 1, ""), ("+61", 1, ""),
        ("61.5", 1, ""), ("1e9", 1, ""), ("٦٦٦", 1, ""), ("", 1, ""), ("old", 1, ""),
    ],
)  # fmt: skip
def test_an_age_above_a_minute_and_the_interval_is_a_cache_s(age: str, interval: float, judged: str) -> None:
    headers = httpx.Headers([(b"Age", age.encode())])
    assert Freshness().cached_by(headers, START, interval) == judged


@given(st.text(st.characters(max_codepoint=255)))
def test_any_age_is_a_number_or_unreadable(text: str) -> None:
    age = parse_age(httpx.Headers([(b"age", text.encode("latin-1"))]))
    assert age is None or age >= 0


@given(st.integers(0, 10**12))
def test_every_number_is_an_age(seconds: int) -> None:
    assert parse_age(httpx.Headers({"Age": str(seconds)})) == seconds


# Date


@given(st.text(st.characters(max_codepoint=255)))
def test_any_date_is_a_time_or_unreadable(text: str) -> None:
    date = parse_date(httpx.Headers([(b"date", text.encode("latin-1"))]))
    assert date is None or isinstance(date, float)


@given(st.integers(0, 250_000_000_000))
def test_every_http_date_is_read(seconds: int) -> None:
    assert parse_date(dated(seconds)) == seconds


@pytest.mark.parametrize(
    "date",
    ["", "yesterday", "Sat, 31 Feb 2026 10:00:00 GMT", "Sat, 28 Nov 99999 10:00:00 GMT", "0", "x" * 10_000],
)
def test_an_unreadable_date_is_not_judged(date: str) -> None:
    assert parse_date(httpx.Headers({"Date": date})) is None
    assert Host().freshness.cached_by(httpx.Headers({"Date": date}), START + 10 * HOUR, 60) == ""


def test_a_missing_date_and_two_dates_are_not_judged() -> None:
    host = Host()
    assert host.freshness.cached_by(httpx.Headers(), host.now, 60) == ""
    old = [("Date", formatdate(START - HOUR, usegmt=True))] * 2
    assert host.freshness.cached_by(httpx.Headers(old), host.now, 60) == ""


@pytest.mark.parametrize("skew", [0.0, -10 * HOUR, 10 * HOUR, -1e9])
@pytest.mark.parametrize(("interval", "limit"), [(60.0, 300.0), (300.0, 300.0), (HOUR, HOUR)])
def test_an_old_date_is_a_cache_s_however_wrong_the_clocks_are(skew: float, interval: float, limit: float) -> None:
    host = Host(skew=skew)
    assert host.responds(lag=limit - 2, interval=interval) == ""
    assert host.responds(lag=limit + 2, interval=interval) == "Date"
    assert host.responds(interval=interval) == ""


@given(
    st.floats(-1e9, 1e9),
    st.lists(st.tuples(st.floats(0, HOUR), st.floats(0, 30)), max_size=60),
    st.sampled_from((1.0, 60.0, HOUR)),
)
def test_clocks_that_differ_by_a_constant_never_make_a_response_cached(
    skew: float, responses: list[tuple[float, float]], interval: float
) -> None:
    host = Host(skew=skew, responses=0)
    for wait, latency in responses:
        host.now += wait
        assert host.responds(lag=latency, interval=interval) == ""


@pytest.mark.parametrize("before", range(ENOUGH_RESPONSES + 2))
def test_the_first_responses_are_not_judged(before: int) -> None:
    host = Host(responses=before)
    assert host.responds(lag=HOUR) == ("Date" if before >= ENOUGH_RESPONSES else "")


def test_dates_in_the_future_are_not_judged() -> None:
    host = Host()
    assert [host.responds(lag=-days * 86400) for days in range(1, 8)] == [""] * 7
    assert host.responds() == ""


@pytest.mark.parametrize("factors", [1, 2, 3, 40])
@pytest.mark.parametrize("interval", [60.0, 300.0, HOUR])
@pytest.mark.parametrize("responses", [0, RESPONSES], ids=["from the start", "later"])
def test_a_cache_that_answers_everything_is_noticed_for_good(factors: int, interval: float, responses: int) -> None:
    host = Host(responses=responses)
    start, judged = host.now, frozen(host, factors, interval, seconds=3 * 86400)

    noticed = min(now for now, found in judged if found)
    believed = max(now for now, found in judged if not found)
    assert believed < noticed + max(interval, 300.0)
    assert noticed - start <= max((ENOUGH_RESPONSES + 1) * interval, 3 * max(interval, 300.0))
    assert host.responds(interval=interval) == ""  # what passes the cache is believed at once


def frozen(host: Host, factors: int, interval: float, seconds: float) -> list[tuple[float, str]]:
    """Fetch factors, each of which a cache answers as at its first fetch; return the times and judgements.

    A factor is slowed after a response that isn't believed, as the ledger does.
    """
    order = random.Random(factors)
    phases = [order.random() for _ in range(factors)]
    due = [(due_after(host.now, interval, fraction), fraction) for fraction in phases]
    first = {fraction: now for now, fraction in due}
    heapq.heapify(due)
    end = host.now + seconds
    judged = []
    while due[0][0] < end:
        host.now, fraction = due[0]
        found = host.freshness.cached_by(dated(first[fraction]), host.now, interval)
        judged.append((host.now, found))
        slowed = max(interval, 900.0) if found else interval
        heapq.heapreplace(due, (due_after(host.now, slowed, fraction), fraction))
    return judged


def test_a_host_whose_clock_is_set_back_is_believed_again_after_half_an_hour() -> None:
    host = Host()
    host.skew = -HOUR
    first, believed = host.now, 0.0
    while not believed:
        host.now += 60
        if host.responds() == "":
            believed = host.now - first
    assert 1800 < believed <= 1920
    for _ in range(RESPONSES):
        host.now += 60
        assert host.responds() == ""
    assert host.responds(lag=301) == "Date"


def test_few_responses_or_dates_that_differ_do_not_show_a_clock_that_was_set_back() -> None:
    host = Host()
    for _ in range(8):  # two hours, but too few responses
        host.now += 900
        assert host.responds(lag=HOUR) == "Date"
    assert host.responds() == ""
    for number in range(100):
        host.now += 60
        assert host.responds(lag=HOUR + 100 * (number % 2)) == "Date"


def test_a_slow_drift_of_the_clocks_is_followed() -> None:
    host = Host()
    for _ in range(24 * 60):
        host.now += 60
        host.skew -= 0.3  # seven minutes a day
        assert host.responds() == ""
