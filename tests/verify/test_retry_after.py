"""What is read of an answer beside its status: dates and headers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.verify.answers import (
    RETRY_AFTER_CAP_SECONDS,
    RETRY_AFTER_FLOOR_SECONDS,
    parse_request_id,
    parse_retry_after,
    parse_server_duration,
    parse_timestamp,
)
from tests.support.strategies import DATES, JSON

NOW = 1_800_000_000.0


# Dates


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2015-07-30T20:00:00Z", 1438286400.0),
        ("2015-07-30T20:00:00.250Z", 1438286400.25),
        ("2015-07-30T12:00:00-08:00", 1438286400.0),
        ("2015-07-30T20:00:00", 1438286400.0),
        ("2015-07-30 20:00:00+00:00", 1438286400.0),
        ("2015-07-30", 1438214400.0),
        ("Thu, 30 Jul 2015 20:00:00 +0000", 1438286400.0),
        ("Thu, 30 Jul 2015 20:00:00 GMT", 1438286400.0),
        ("Thu, 30 Jul 2015 13:00:00 -0700", 1438286400.0),
        ("Thu, 30 Jul 2015 20:00:00 -0000", 1438286400.0),
    ],
)
def test_dates_in_the_formats_of_the_apis(text: str, seconds: float) -> None:
    assert parse_timestamp(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        976351423,
        "976351423",
        "20150730",
        "20150730T200000Z",
        "yesterday",
        "9999-12-31T23:59:59-12:00",
        "2015-13-01T00:00:00Z",
        "2015-07-30T20:00:00Z" + " " * 60,
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "Thu, 30 Jul",
        "Thu, 99 Jul 2015 20:00:00 +0000",
        "Thu, 30 Jul 99999999999999999999 20:00:00 +0000",
        "Thu, 30 Jul 2015 20:00:00 +99999999999999999999",
        ["2015-07-30T20:00:00Z"],
        True,
    ],
)
def test_invalid_dates(value: Any) -> None:
    assert parse_timestamp(value) is None


@given(DATES | JSON)
def test_parse_timestamp_never_raises(value: Any) -> None:
    seconds = parse_timestamp(value)
    assert seconds is None or (isinstance(value, str) and seconds > 0 and math.isfinite(seconds))


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC)))  # noqa: DTZ001 - the strategy wants it naive
def test_parse_timestamp_reads_what_isoformat_writes(moment: datetime) -> None:
    assert parse_timestamp(moment.isoformat()) == moment.timestamp()


# Headers


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("+7", 7.0),
        ("2.5", 2.5),
        ("1", 1.0),
        ("0", 1.0),
        ("0.2", 1.0),
        ("-30", 1.0),
        ("300", 300.0),
        ("301", 300.0),
        ("86400", 300.0),
        ("9" * 13, 300.0),
        ("9" * 5000, 300.0),
        ("-" + "9" * 5000, 1.0),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(("after", "seconds"), [(90, 90.0), (0, 1.0), (-3600, 1.0), (86400, 300.0)])
def test_retry_after_as_a_date(after: int, seconds: float) -> None:
    moment = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=after)
    assert parse_retry_after(format_datetime(moment, usegmt=True), NOW) == seconds
    assert parse_retry_after(format_datetime(moment.replace(tzinfo=None)), NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        "7s",
        "1e3",
        "0x10",
        "nan",
        "inf",
        "7, 9",
        "٧",
        "Thu, 99 Jul 2015 20:00:00 GMT",
        "Thu, 30 Jul 99999999999999999999 20:00:00 GMT",
        "Thu, 30 Jul 2015 20:00:00 +99999999999999999999",
    ],
)
def test_an_invalid_retry_after(value: str | None) -> None:
    assert parse_retry_after(value, NOW) is None


@given(st.none() | st.integers().map(str) | st.floats().map(str) | DATES, st.floats(0, 1e11))
def test_parse_retry_after_never_raises_and_keeps_its_range(value: str | None, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or RETRY_AFTER_FLOOR_SECONDS <= seconds <= RETRY_AFTER_CAP_SECONDS


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0.080", 0.08), ("0", 0.0), ("12", 12.0), (" 1.5 ", 1.5)],
)
def test_server_duration(value: str, seconds: float) -> None:
    assert parse_server_duration({"twilio-request-duration": value}) == seconds


@pytest.mark.parametrize("value", ["", "-1", "fast", "1e3", "nan", "inf", "0.1, 0.2", "9" * 400])
def test_an_invalid_server_duration(value: str) -> None:
    assert parse_server_duration({"twilio-request-duration": value}) is None


def test_headers_that_are_missing() -> None:
    assert parse_server_duration({}) is None
    assert parse_request_id({}) == ""


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_parse_server_duration_never_raises_and_keeps_its_range(value: str) -> None:
    seconds = parse_server_duration({"twilio-request-duration": value})
    assert seconds is None or 0 <= seconds < math.inf


def test_request_id() -> None:
    assert parse_request_id({"twilio-request-id": " RQ0123456789abcdef0123456789abcdef "}).startswith("RQ01")


@pytest.mark.parametrize("value", ["a-person-1", "A-PERSON-1", "RQ.a-person-1.0"])
def test_a_request_id_that_contains_the_identity_is_dropped(value: str) -> None:
    assert parse_request_id({"twilio-request-id": value}, "a-person-1") == ""
    assert parse_request_id({"twilio-request-id": value}, "a-person-2") == value


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_parse_request_id_fits_an_exemplar_or_is_empty(value: str) -> None:
    found = parse_request_id({"twilio-request-id": value})
    assert found in ("", value.strip())
    assert found.isascii()
    assert len(found) <= 64
