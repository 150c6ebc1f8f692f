"""Which format and encoding a scrape gets, from its headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from exporter.web.negotiation import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, accepts_gzip, accepts_openmetrics

OM = "application/openmetrics-text"
PROMETHEUS_2_0 = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
PROMETHEUS_2_5 = f"{OM}; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_2_45 = f"{OM};version=1.0.0,{OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_2_49 = f"{OM};version=1.0.0;q=0.5,{OM};version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
PROMETHEUS_2_NATIVE = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,"
    f"{OM};version=1.0.0;q=0.4,{OM};version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_3 = (
    f"{OM};version=1.0.0;escaping=allow-utf-8;q=0.6,{OM};version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_TEXT_FIRST = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,"
    f"{OM};version=1.0.0;escaping=allow-utf-8;q=0.4,{OM};version=0.0.1;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2_5,
        PROMETHEUS_2_45,
        PROMETHEUS_2_49,
        PROMETHEUS_2_NATIVE,
        PROMETHEUS_3,
        OM,
        OM.upper(),
        f" {OM} ; version = 1.0.0 ; charset=utf-8 ",
        f'{OM};version="1.0.0"',
        f"{OM};Version=0.0.1",
        f"{OM};q=0.001",
        f"{OM};Q=1.000",
        f"{OM};q=0.5,text/plain;q=0.5",
        f"text/plain;q=0.5,{OM};q=0.5",
        f"{OM};q=0.5,text/*;q=0.4,*/*;q=0.3",
        f"{OM};q=0.5,text/plain;q=0.1,text/*;q=0.9,*/*;q=0.9",
        f"{OM};q=0.5,text/*;q=0.2,*/*;q=0.9",
        f"*/*;q=0.9,text/plain;version=0.0.4;q=0.2,{OM};q=0.3",
        f"text/plain;version=0.0.3,{OM};q=0.1",
        f"text/plain;version=1.0.0,{OM};q=0.1",
        f"{OM};version=2.0.0,{OM};version=1.0.0;q=0.4,text/plain;q=0.3",
        f"garbage,{OM},;;;,=",
        f"{OM},text/plain;q=0.0000",
        f"{OM};q=0.2,text/plain;q=2",
    ],
)
def test_openmetrics(accept: str) -> None:
    assert accepts_openmetrics(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "application/json",
        BROWSER,
        PROMETHEUS_2_0,
        PROMETHEUS_3_TEXT_FIRST,
        f"{OM};version=2.0.0",
        f"{OM};version=2.0.0;q=0.9,text/plain;version=0.0.4;q=0.1",
        f"{OM};version=2.0.0,*/*;q=0.1",
        f"{OM};version=abc",
        f"{OM};version=",
        f"{OM};version=1",
        f"{OM};version=1.0.0.0",
        f"{OM};q=0",
        f"{OM};q=0.000",
        f"{OM};q=-1",
        f"{OM};q=1.5",
        f"{OM};q=abc",
        f"{OM};q=nan",
        f"{OM};q=1e3",
        f"{OM};q=",
        f"{OM};q=٠",
        f"{OM};q=0.4,text/plain;q=0.5",
        f"{OM};q=0.4,text/*;q=0.5",
        f"{OM};q=0.4,*/*;q=0.5",
        f"{OM};q=0.4,text/plain;q=0.3,text/plain;version=0.0.4;q=0.5",
        f"{OM};q=0.4,*/*;q=0.1,text/*;q=0.2,text/plain;q=0.9",
        "application/*",
        "application/openmetrics",
        "application/openmetrics-text-1",
        "xapplication/openmetrics-text",
        f'"{OM}"',
        "\x00\xff\r\n",
        ";" * 100_000,
        "," * 100_000,
        "*/*," * 1000 + OM,
    ],
)
def test_text(accept: str) -> None:
    assert not accepts_openmetrics(accept)


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        (" deflate , gzip ;q=0.5", True),
        ("gzip, deflate, br, zstd", True),
        ("gzip;q=0.001", True),
        ("*", True),
        ("identity, *;q=0.1", True),
        ("*;q=0, gzip", True),
        ("gzip, *;q=0", True),
        ("", False),
        ("identity", False),
        ("deflate, br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=abc", False),
        ("gzipped", False),
        ("\x00", False),
        (";,;=,", False),
    ],
)
def test_gzip(accept_encoding: str, gzip: bool) -> None:
    assert accepts_gzip(accept_encoding) is gzip


WORDS = st.sampled_from(
    [
        OM,
        "text/plain",
        "text/*",
        "*/*",
        "*",
        "gzip",
        "q",
        "version",
        "1.0.0",
        "0.5",
        "1",
        "0",
        "=",
        ";",
        ",",
        " ",
        '"',
    ]
)


@given(st.text() | st.lists(WORDS).map("".join))
def test_no_header_makes_it_fail(header: str) -> None:
    assert accepts_openmetrics(header) in (True, False)
    assert accepts_gzip(header) in (True, False)


WEIGHTS = st.integers(0, 1000)


@given(openmetrics=WEIGHTS, text=WEIGHTS, anything=WEIGHTS)
def test_the_greater_weight_wins_and_openmetrics_at_equal_weight(
    openmetrics: int, text: int, anything: int
) -> None:
    accept = f"{OM};q={openmetrics / 1000:.3f},text/plain;q={text / 1000:.3f},*/*;q={anything / 1000:.3f}"
    assert accepts_openmetrics(accept) == (openmetrics > 0 and openmetrics >= text)


def test_the_content_types_are_those_of_prometheus_client() -> None:
    assert TEXT_CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4
    assert OPENMETRICS_CONTENT_TYPE == CONTENT_TYPE_LATEST
