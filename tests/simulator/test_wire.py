"""What a fault makes of an answer, and of a connection, as values."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from exporter.simulator import Fault, FaultKind
from exporter.simulator.answers import SimulatedResponse, error, json_answer
from exporter.simulator.wire import (
    BOMB_BYTES,
    BREAKING,
    Act,
    Close,
    Reset,
    Send,
    Stall,
    acts,
    altered,
    head_of,
)

SID = "YF" + "0" * 32
FACTOR = {"sid": SID, "status": "verified", "friendly_name": "Pager", "url": f"http://x/{SID}"}
HONEST = json_answer(FACTOR)
LIST = json_answer({"factors": [FACTOR, FACTOR], "meta": {"key": "factors"}})


def made_of(fault: Fault, answer: SimulatedResponse = HONEST) -> SimulatedResponse:
    return altered(fault, answer, url="http://x/here?a=b", now=0)


def body_of(kind: FaultKind, answer: SimulatedResponse = HONEST) -> Any:
    return json.loads(made_of(Fault(kind), answer).body)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 60306), (401, 20003), (403, 20403), (404, 20404), (429, 20429), (500, 20500), (503, 20503)],
)
def test_a_status_comes_with_twilios_body(status: int, code: int) -> None:
    answer = made_of(Fault(status=status))

    document = json.loads(answer.body)
    assert answer.status == document["status"] == status
    assert document["code"] == code
    assert document["more_info"].endswith(f"/{code}")


@pytest.mark.parametrize(("status", "message"), [(418, "I'm a Teapot"), (999, "Error")])
def test_any_status_can_be_had(status: int, message: str) -> None:
    assert json.loads(made_of(Fault(status=status)).body) == {
        "code": 20000 + status,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{20000 + status}",
        "status": status,
    }


def test_another_good_status_keeps_the_body_and_204_has_none() -> None:
    assert made_of(Fault(status=202)) == SimulatedResponse(202, HONEST.body)
    assert made_of(Fault(status=204)) == SimulatedResponse(204)
    assert made_of(Fault(status=202), error(404)) == error(404)


@pytest.mark.parametrize(
    ("fault", "header"),
    [
        (Fault(status=429), None),
        (Fault(status=429, retry_after=7), "7"),
        (Fault(status=429, retry_after=-1), "-1"),
        (Fault(status=429, retry_after="soon"), "soon"),
        (Fault(status=503, retry_after=86400, retry_after_as_date=True), "Fri, 02 Jan 1970 00:00:00 GMT"),
    ],
)
def test_retry_after_in_all_its_forms(fault: Fault, header: str | None) -> None:
    assert dict(made_of(fault).headers).get("Retry-After") == header


@pytest.mark.parametrize("status", [200, 502])
def test_html(status: int) -> None:
    answer = made_of(Fault(FaultKind.HTML, status=status))

    assert answer.status == status
    assert answer.content_type.startswith("text/html")
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_redirects_lead_to_themselves_or_elsewhere() -> None:
    here = made_of(Fault(FaultKind.REDIRECT))
    there = made_of(Fault(FaultKind.REDIRECT, status=301, location="http://elsewhere.test/"))

    assert (here.status, here.headers) == (307, (("Location", "http://x/here?a=b"),))
    assert (there.status, there.headers) == (301, (("Location", "http://elsewhere.test/"),))


@pytest.mark.parametrize(("status", "sent"), [(None, 204), (200, 200), (202, 202)])
def test_an_empty_body(status: int | None, sent: int) -> None:
    assert made_of(Fault(FaultKind.EMPTY, status=status)) == SimulatedResponse(sent)


def test_json_of_the_wrong_type() -> None:
    assert body_of(FaultKind.JSON_LIST) == [FACTOR]
    assert body_of(FaultKind.JSON_STRING) == "verified"
    assert body_of(FaultKind.STATUS_NUMBER)["status"] == 1
    assert body_of(FaultKind.STATUS_NULL)["status"] is None
    assert "status" not in body_of(FaultKind.STATUS_MISSING)
    assert body_of(FaultKind.STATUS_UNKNOWN)["status"] == "suspended"
    with pytest.raises(json.JSONDecodeError):
        body_of(FaultKind.BAD_JSON)


def test_a_list_is_changed_factor_by_factor() -> None:
    listed = body_of(FaultKind.STATUS_NULL, LIST)

    assert [factor["status"] for factor in listed["factors"]] == [None, None]
    assert listed["meta"] == {"key": "factors"}


@pytest.mark.parametrize("last", ["0", "1", "f"])
def test_another_factors_body_has_a_sid_of_the_right_form(last: str) -> None:
    sid = "YF" + "a" * 31 + last
    other = body_of(FaultKind.OTHER_FACTOR, json_answer({"sid": sid, "url": f"http://x/{sid}"}))

    assert other["sid"] != sid
    assert len(other["sid"]) == 34
    assert other["url"] == f"http://x/{other['sid']}"


def test_a_huge_body_is_good_json_of_more_than_a_mebibyte() -> None:
    answer = made_of(Fault(FaultKind.HUGE_BODY))

    assert len(answer.body) > 1024 * 1024
    assert json.loads(answer.body)["status"] == "verified"


def test_gzip_good_bad_and_bombing() -> None:
    good, bad, bomb = (made_of(Fault(kind)) for kind in (FaultKind.GZIP, FaultKind.BAD_GZIP, FaultKind.GZIP_BOMB))

    for answer in (good, bad, bomb):
        assert answer.headers == (("Content-Encoding", "gzip"),)
    assert gzip.decompress(good.body) == HONEST.body
    with pytest.raises(zlib.error):
        gzip.decompress(bad.body)
    assert len(bomb.body) < 128 * 1024
    unpacked = gzip.decompress(bomb.body)
    assert len(unpacked) == BOMB_BYTES + len(HONEST.body)
    assert unpacked.endswith(HONEST.body)
    assert made_of(Fault(FaultKind.GZIP_BOMB)) == bomb


def test_body_faults_leave_error_responses_alone() -> None:
    for kind in (FaultKind.JSON_LIST, FaultKind.STATUS_NULL, FaultKind.GZIP, FaultKind.OTHER_FACTOR):
        assert made_of(Fault(kind), error(404)) == error(404)


@pytest.mark.parametrize("kind", sorted({FaultKind.LATENCY} | BREAKING))
def test_connection_faults_leave_the_response_alone(kind: FaultKind) -> None:
    assert made_of(Fault(kind)) == HONEST


HEAD = head_of(SimulatedResponse(200, b"abcdef"), {"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultKind.CLOSE_BEFORE_HEADERS, [Close()]),
        (FaultKind.RESET_BEFORE_HEADERS, [Reset()]),
        (FaultKind.RESET_IN_HEADERS, [Send(HEAD[: len(HEAD) // 2]), Reset()]),
        (FaultKind.CLOSE_IN_BODY, [Send(HEAD + b"abc"), Close()]),
        (FaultKind.RESET_IN_BODY, [Send(HEAD + b"abc"), Reset()]),
        (FaultKind.STALL_BEFORE_HEADERS, [Stall(None), Close()]),
        (FaultKind.STALL_IN_HEADERS, [Send(HEAD[: len(HEAD) // 2]), Stall(None), Close()]),
        (FaultKind.STALL_IN_BODY, [Send(HEAD + b"abc"), Stall(None), Close()]),
    ],
)
def test_acts_on_the_connection(kind: FaultKind, expected: list[Act]) -> None:
    assert list(acts(Fault(kind), HEAD, b"abcdef")) == expected


def test_a_dribble_is_one_byte_per_second_by_default() -> None:
    assert list(acts(Fault(FaultKind.DRIBBLE), HEAD, b"ab")) == [
        Send(HEAD),
        Stall(1.0),
        Send(b"a"),
        Stall(1.0),
        Send(b"b"),
        Close(),
    ]
    assert Stall(0.5) in acts(Fault(FaultKind.DRIBBLE, seconds=0.5), HEAD, b"a")


def test_only_breaking_kinds_act_on_the_connection() -> None:
    for kind in FaultKind:
        if kind in BREAKING:
            assert list(acts(Fault(kind), HEAD, b""))
        else:
            with pytest.raises(ValueError, match="does not act on the connection"):
                acts(Fault(kind), HEAD, b"")


def test_status_line_and_headers_as_bytes() -> None:
    assert HEAD == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n"
    assert head_of(SimulatedResponse(999), {}) == b"HTTP/1.1 999 Unknown\r\nContent-Length: 0\r\n\r\n"
