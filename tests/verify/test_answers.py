"""What every response to Fetch Factor becomes."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.verify.answers import describe_error, interpret, interpret_page, twilio_error
from exporter.verify.outcome import Answer, Failure, Reason, Status
from tests.support.strategies import DATES, JSON

SID = "YF" + "0123456789abcdef" * 2
OTHER_SID = "YF" + "f" * 32
ENTITY_SID = "YE" + "1" * 32

FACTOR: dict[str, Any] = {
    "sid": SID,
    "account_sid": "AC" + "2" * 32,
    "service_sid": "VA" + "3" * 32,
    "entity_sid": ENTITY_SID,
    "identity": "ff483d1ff591898a9942916050d2ca3f",
    "date_created": "2015-07-30T20:00:00Z",
    "date_updated": "2015-07-31T20:00:00Z",
    "friendly_name": "Ann's iPhone",
    "status": "verified",
    "factor_type": "push",
    "config": {"notification_platform": "apn", "notification_token": "secret-token"},
    "metadata": {"os": "Android"},
    "url": "https://verify.twilio.com/v2/Services/VA/Entities/ff483d1ff591898a9942916050d2ca3f/Factors/YF",
}


def factor(**changes: Any) -> bytes:
    return json.dumps({**FACTOR, **changes}).encode()


def factor_without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in FACTOR.items() if name not in names}).encode()


def reason_of(result: Answer | Failure) -> Reason:
    assert isinstance(result, Failure), result
    return result.reason


def approved_seconds(**changes: Any) -> float | None:
    """Return when a passkeys factor with these fields last approved a challenge."""
    answer = interpret(200, factor(**{"factor_type": "passkeys", **changes}), SID)
    assert isinstance(answer, Answer)
    return answer.approved_seconds


# 200


def test_a_factor_as_the_api_documents_it() -> None:
    assert interpret(200, factor(), SID) == Answer(
        status=Status.VERIFIED,
        created_seconds=1438286400.0,
        updated_seconds=1438372800.0,
        factor_type="push",
        entity_sid=ENTITY_SID,
        notification_platform="apn",
    )


@pytest.mark.parametrize("status", [Status.VERIFIED, Status.UNVERIFIED])
@pytest.mark.parametrize("factor_type", ["push", "totp", "passkeys", "sms_otp-2"])
def test_status_and_type_are_taken(status: Status, factor_type: str) -> None:
    answer = interpret(200, factor(status=status.value, factor_type=factor_type), SID)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.factor_type) == (status, factor_type)


@pytest.mark.parametrize(
    "body",
    [
        factor(status=None),
        factor_without("status"),
        factor(status="pending"),
        factor(status="not_found"),
        factor(status="unknown"),
        factor(status="Verified"),
        factor(status=" verified"),
        factor(status="verified\x00"),
        factor(status="verified\n"),
        factor(status=""),
        factor(status=True),
        factor(status=1),
        factor(status=["verified"]),
        factor(status={"verified": True}),
        factor(status="\ud800"),
        b"{}",
    ],
)
def test_a_missing_or_unknown_status_is_never_unverified(body: bytes) -> None:
    assert reason_of(interpret(200, body, SID)) is Reason.UNKNOWN_STATUS


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \r\n\t", id="white space"),
        pytest.param(b"<html><body>502 Bad Gateway</body></html>", id="HTML"),
        pytest.param(factor()[:-1], id="cut short"),
        pytest.param(factor() + b"{}", id="data after the document"),
        pytest.param(factor() + b"\x00", id="ends with NUL"),
        pytest.param(b"\x00" + factor(), id="begins with NUL"),
        pytest.param(b"\x00\x00\x00\x00", id="NULs"),
        pytest.param(factor().replace(b"push", b"pu\x00sh"), id="NUL within"),
        pytest.param(factor().replace(b"push", b"pu\nsh"), id="line feed within a string"),
        pytest.param(factor().replace(b"push", b"pu\xffsh"), id="invalid UTF-8"),
        pytest.param(factor().replace(b"push", b"pu\xed\xa0\x80sh"), id="surrogate in UTF-8"),
        pytest.param(factor().decode().encode("utf-16"), id="UTF-16"),
        pytest.param(factor().decode().encode("utf-32-be"), id="UTF-32"),
        pytest.param(b"\xef\xbb\xbf\xef\xbb\xbf" + factor(), id="two byte-order marks"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'{"status":"verified","config":NaN}', id="NaN within"),
        pytest.param(b'{"status":"verified","config":-Infinity}', id="-Infinity within"),
        pytest.param(b"{'status':'verified'}", id="Python"),
        pytest.param(b"[" * 100_000, id="deep array"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="deep object"),
        pytest.param(b'{"status":"verified","n":' + b"9" * 10_000 + b"}", id="a number of 10,000 digits"),
    ],
)
def test_bodies_that_are_not_json(body: bytes) -> None:
    assert interpret(200, body, SID) == Failure(Reason.DECODE, "HTTP 200, but the body is not JSON")


@pytest.mark.parametrize("body", [b"null", b"true", b"0", b'"verified"', b"[]", b"[" + factor() + b"]"])
def test_bodies_that_are_not_an_object(body: bytes) -> None:
    assert interpret(200, body, SID) == Failure(Reason.DECODE, "HTTP 200, but the body is not a JSON object")


def test_a_byte_order_mark_is_skipped() -> None:
    assert interpret(200, b"\xef\xbb\xbf" + factor(), SID) == interpret(200, factor(), SID)


@pytest.mark.parametrize("sid", [OTHER_SID, OTHER_SID.lower(), OTHER_SID.upper()])
@pytest.mark.parametrize("status", ["verified", None])
def test_the_body_of_another_factor_is_refused(sid: str, status: str | None) -> None:
    assert reason_of(interpret(200, factor(sid=sid, status=status), SID)) is Reason.DECODE


@pytest.mark.parametrize(
    "body",
    [
        factor(sid=SID.upper()),
        factor(sid=SID.lower()),
        factor_without("sid"),
        factor(sid=None),
        factor(sid=""),
        factor(sid=7),
        factor(sid=[OTHER_SID]),
        factor(sid="YF" + "f" * 31),
        factor(sid="YF" + "g" * 32),
        factor(sid=OTHER_SID + "\n"),
        factor(sid=ENTITY_SID),
    ],
)
def test_a_missing_invalid_or_differently_cased_sid_is_accepted(body: bytes) -> None:
    answer = interpret(200, body, SID)
    assert isinstance(answer, Answer)
    assert answer.status is Status.VERIFIED


@pytest.mark.parametrize("name", ["account_sid", "identity", "url", "service_sid"])
@pytest.mark.parametrize("value", ["AC" + "9" * 32, "someone-else", "", None, 7])
def test_other_fields_are_ignored(name: str, value: Any) -> None:
    assert interpret(200, factor(**{name: value}), SID) == interpret(200, factor(), SID)


@pytest.mark.parametrize("value", [None, "", 7, True, [], {}, "a b", "x" * 65, 'p"ush', "pu\nsh", "тип", "\ud800"])
def test_an_invalid_factor_type_is_left_out(value: Any) -> None:
    answer = interpret(200, factor(factor_type=value), SID)
    assert isinstance(answer, Answer)
    assert answer.factor_type == ""


@pytest.mark.parametrize("value", [None, "", 7, [], "YE1", SID, ENTITY_SID + "\n", ENTITY_SID.replace("1", "g")])
def test_an_invalid_entity_sid_is_left_out(value: Any) -> None:
    answer = interpret(200, factor(entity_sid=value), SID)
    assert isinstance(answer, Answer)
    assert answer.entity_sid == ""


def test_invalid_dates_are_left_out() -> None:
    answer = interpret(200, factor(date_created=None, date_updated="976351423"), SID)
    assert answer == Answer(Status.VERIFIED, factor_type="push", entity_sid=ENTITY_SID, notification_platform="apn")


@pytest.mark.parametrize("place", ["%s", '{"metadata": %s}', '{"links": [%s]}'])
def test_a_duplicate_key_makes_the_body_ambiguous(place: str) -> None:
    body = place % '{"status": "verified", "status": "unverified"}'
    assert interpret(200, body.encode(), SID) == Failure(
        Reason.DECODE, "HTTP 200, but a key occurs twice in the body"
    )


# Every other status


BY_INTERMEDIARIES = [
    b"",
    b" ",
    b"\xff",
    b"<html><body>404 Not Found</body></html>",
    b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    b"default backend - 404",
    b"null",
    b"[]",
    b"{}",
    factor(),
    b"[" * 50_000,
    b'{"code": 20404}',
    b'{"code": 20404, "message": "m"}',
    b'{"code": 20404, "status": CODE}',
    b'{"code": 20404, "message": "m", "status": 500}',
    b'{"code": 20404, "message": "m", "httpStatusCode": "CODE"}',
    b'{"code": 20404, "title": "t", "status": CODE}',
    b'{"code": 20404, "message": null, "status": CODE}',
    b'{"code": "20404", "message": "m", "status": CODE}',
    b'{"code": CODE, "message": "m", "status": CODE}',
    b'{"code": true, "message": "m", "status": CODE}',
    b'{"code": 1000000, "message": "m", "status": CODE}',
    b'{"error": {"code": 20404, "message": "m", "status": CODE}}',
    b'[{"code": 20404, "message": "m", "status": CODE}]',
    b'{"kind": "Status", "status": "Failure", "message": "m", "reason": "NotFound", "code": CODE}',
    b'{"timestamp": 1, "status": CODE, "error": "Not Found", "message": "m", "path": "/v2"}',
    b'{"code": 20003, "code": 20404, "message": "m", "status": CODE}',
]


@pytest.mark.parametrize("body", BY_INTERMEDIARIES)
@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_refusal_or_a_404_that_is_no_twilio_error_says_nothing(code: int, body: bytes) -> None:
    body = body.replace(b"CODE", str(code).encode())
    expected = Failure(Reason.DECODE, f"HTTP {code}, but the body is not a Twilio error")
    assert interpret(code, body, SID) == expected
    assert interpret_page(code, body) == expected


BY_CODE = {401: Reason.DECODE, 403: Reason.DECODE, 404: Reason.DECODE, 429: Reason.RATE_LIMITED}


def expected_reason(code: int) -> Reason:
    if 200 <= code < 300:
        return Reason.DECODE
    return BY_CODE.get(code, Reason.SERVER_ERROR if code >= 500 else Reason.BAD_REQUEST)


@pytest.mark.parametrize("code", [201, 299, 300, 304, 400, 402, 405, 429, 499, 500, 599])
def test_any_other_status_is_a_failure_whatever_the_body(code: int) -> None:
    for body in (b"", factor(), b"<html>", b"[" * 50_000):
        assert interpret(code, body, SID) == Failure(expected_reason(code), f"HTTP {code}")


@given(
    code=st.integers(201, 999),
    body=st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode),
)
def test_only_the_status_decides_about_a_failure(code: int, body: bytes) -> None:
    assert reason_of(interpret(code, body, SID)) is expected_reason(code)


PATH = "/Services/VA/Entities/ff483d1ff591898a9942916050d2ca3f/Factors/YF"


def classic(status: int, code: int) -> dict[str, Any]:
    return {
        "code": code,
        "message": f"The requested resource {PATH} was not found",
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }


def problem(status: int, code: int) -> dict[str, Any]:
    return {
        "type": f"https://www.twilio.com/docs/api/errors/{code}",
        "title": "Something",
        "status": status,
        "code": code,
        "detail": f"{PATH} is wrong",
        "instance": PATH,
        "errors": [{"detail": PATH, "pointer": "#/sid"}],
    }


def standard(status: int, code: int) -> dict[str, Any]:
    return {
        "code": code,
        "message": f"{PATH} is wrong",
        "httpStatusCode": status,
        "params": {"identity": "ff483d1ff591898a9942916050d2ca3f"},
        "userError": True,
    }


@pytest.mark.parametrize("shape", [classic, problem, standard])
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, 60306, Reason.BAD_REQUEST),
        (400, 60300, Reason.BAD_REQUEST),
        (400, 60315, Reason.BAD_REQUEST),
        (400, 60362, Reason.BAD_REQUEST),
        (400, 60363, Reason.BAD_REQUEST),
        (400, 60366, Reason.BAD_REQUEST),
        (400, 60367, Reason.BAD_REQUEST),
        (401, 20003, Reason.AUTH),
        (403, 20003, Reason.FORBIDDEN),
        (403, 20006, Reason.FORBIDDEN),
        (403, 20008, Reason.FORBIDDEN),
        (403, 20403, Reason.FORBIDDEN),
        (403, 60318, Reason.FORBIDDEN),
        (409, 60383, Reason.BAD_REQUEST),
        (429, 20429, Reason.RATE_LIMITED),
        (429, 25109, Reason.RATE_LIMITED),
        (429, 60003, Reason.RATE_LIMITED),
        (429, 60326, Reason.RATE_LIMITED),
        (500, 20500, Reason.SERVER_ERROR),
        (503, 20503, Reason.SERVER_ERROR),
    ],
)
def test_error_responses_in_every_format_of_the_api(shape: Any, status: int, code: int, reason: Reason) -> None:
    body = json.dumps(shape(status, code)).encode()
    assert interpret(status, body, SID) == Failure(reason, f"HTTP {status}, Twilio error {code}")


@pytest.mark.parametrize("shape", [classic, problem, standard])
@pytest.mark.parametrize("code", [20404, 60390, 60392])
def test_a_404_in_every_format_of_the_api(shape: Any, code: int) -> None:
    assert interpret(404, json.dumps(shape(404, code)).encode(), SID) == Answer(Status.NOT_FOUND)


@pytest.mark.parametrize("shape", [classic, problem, standard])
@pytest.mark.parametrize("code", [20003, 20008, 60306, 60391])
def test_a_404_with_another_code_of_twilio_says_nothing_about_the_factor(shape: Any, code: int) -> None:
    expected = Failure(Reason.BAD_REQUEST, f"HTTP 404, Twilio error {code}")
    body = json.dumps(shape(404, code)).encode()
    assert interpret(404, body, SID) == expected
    assert interpret_page(404, body) == expected


@pytest.mark.parametrize("code", [None, True, "20003", "ident-1234", 0, -1, 1_000_000, 20003.5, [20003], {}])
def test_an_invalid_error_code_is_left_out(code: Any) -> None:
    assert describe_error(400, json.dumps({"code": code}).encode()) == "HTTP 400"


def test_a_large_error_body_is_not_parsed() -> None:
    body = json.dumps({"code": 20003}).encode()
    assert describe_error(401, body.ljust(65536)) == "HTTP 401, Twilio error 20003"
    assert describe_error(401, body.ljust(65537)) == "HTTP 401"


WORD = "zqxjkvzqxjkv"  # stands in no sentence of ours


@given(
    code=st.integers(100, 599),
    payload=st.dictionaries(
        st.sampled_from(["code", "message", "detail", "sid", "status", "identity", "date_created", "title"]),
        st.recursive(
            st.sampled_from([WORD, WORD.upper(), f"/Entities/{WORD}"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just(WORD), inner, max_size=1),
            max_leaves=4,
        ),
    ),
    cut=st.integers(0, 3),
)
def test_a_detail_never_repeats_the_body(code: int, payload: dict[str, Any], cut: int) -> None:
    body = json.dumps(payload).encode()
    result = interpret(code, body[: len(body) - cut], SID)
    if isinstance(result, Failure):
        assert result.detail.startswith("HTTP ")
        assert WORD not in result.detail.lower()
    else:
        assert result == Answer(Status.NOT_FOUND)


AAGUID = "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4"


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("2026-11-20T20:00:00Z", 1795204800.0),
        ("2026-11-20T20:00:00.250Z", 1795204800.25),
        ("2026-11-20T12:00:00-08:00", 1795204800.0),
        ("2026-11-20T20:00:00", 1795204800.0),
        ("Fri, 20 Nov 2026 20:00:00 +0000", 1795204800.0),
        (None, None),
        ("", None),
        ("976351423", None),
        (1795204800, None),
        (True, None),
        (["2026-11-20T20:00:00Z"], None),
        ("2026-11-31T20:00:00Z", None),
        ("1969-12-31T20:00:00Z", None),
        ("2026-11-20T20:00:00Z" + " " * 64, None),
    ],
)
def test_the_last_approval_of_a_passkeys_factor(date: object, seconds: float | None) -> None:
    assert approved_seconds(metadata={"aaguid": AAGUID, "date_last_approved": date}) == seconds


@pytest.mark.parametrize("metadata", [None, {}, {"aaguid": AAGUID}, [], "date_last_approved", 1, True])
def test_a_passkeys_factor_without_an_approval(metadata: object) -> None:
    assert approved_seconds(metadata=metadata) is None


@pytest.mark.parametrize("factor_type", ["push", "totp", "Passkeys", "webauthn", "", None])
def test_a_device_cannot_claim_an_approval(factor_type: object) -> None:
    metadata = {"os": "Android", "date_last_approved": "2026-11-20T20:00:00Z"}
    assert approved_seconds(factor_type=factor_type, metadata=metadata) is None


@given(date=DATES | st.datetimes().map(datetime.isoformat) | st.none() | st.integers())
def test_the_last_approval_is_read_as_the_other_dates(date: object) -> None:
    answer = interpret(
        200, factor(factor_type="passkeys", date_created=date, metadata={"date_last_approved": date}), SID
    )
    assert isinstance(answer, Answer)
    assert answer.approved_seconds == answer.created_seconds


def platform_of(**changes: Any) -> str:
    answer = interpret(200, factor(**changes), SID)
    assert isinstance(answer, Answer)
    return answer.notification_platform


@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ({"notification_platform": "apn", "notification_token": "secret-token"}, "apn"),
        ({"notification_platform": "fcm"}, "fcm"),
        ({"notification_platform": "none"}, "none"),
        ({"notification_platform": "hms"}, "other"),
        ({"notification_platform": "APN"}, "other"),
        ({"notification_platform": "other"}, "other"),
        ({"notification_platform": ""}, "other"),
        ({"notification_platform": None}, "other"),
        ({"notification_platform": True}, "other"),
        ({"notification_platform": ["apn"]}, "other"),
        ({"notification_platform": {}}, "other"),
        ({}, "other"),
        (None, "other"),
        (["apn"], "other"),
        ("apn", "other"),
    ],
)
def test_the_notification_platform_of_a_push_factor(config: object, platform: str) -> None:
    assert platform_of(config=config) == platform


@pytest.mark.parametrize("factor_type", ["totp", "passkeys", "Push", "", None])
def test_other_factors_have_no_notification_platform(factor_type: object) -> None:
    assert platform_of(factor_type=factor_type, config={"notification_platform": "apn"}) == ""


@given(config=st.fixed_dictionaries({"notification_platform": JSON}) | JSON)
def test_a_device_cannot_invent_a_notification_platform(config: object) -> None:
    answer = interpret(200, factor(config=config), SID)
    if isinstance(answer, Answer):  # else there is a NaN in it
        assert answer.notification_platform in {"apn", "fcm", "none", "other"}


FACTORS = st.fixed_dictionaries(
    {},
    optional={
        "sid": st.sampled_from([SID, OTHER_SID, None, 1]) | JSON,
        "status": st.sampled_from(["verified", "unverified", None]) | JSON,
        "date_created": DATES | JSON,
        "date_updated": st.datetimes().map(datetime.isoformat) | JSON,
        "factor_type": st.sampled_from(["push", "totp", "passkeys"]) | JSON,
        "metadata": st.fixed_dictionaries({"date_last_approved": DATES | JSON}) | JSON,
        "entity_sid": st.just(ENTITY_SID) | JSON,
        "code": st.integers() | JSON,
    },
)


@given(
    code=st.integers(0, 1000) | st.sampled_from([200, 404]),
    body=st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | FACTORS.map(lambda value: json.dumps(value).encode()),
)
def test_interpret_never_raises_and_keeps_its_ranges(code: int, body: bytes) -> None:
    match interpret(code, body, SID):
        case Answer() as answer:
            assert (answer.status is Status.NOT_FOUND) == (code == 404)
            assert code in (200, 404)
            for seconds in (answer.created_seconds, answer.updated_seconds, answer.approved_seconds):
                assert seconds is None or (seconds > 0 and math.isfinite(seconds))
            assert answer.notification_platform in {"", "apn", "fcm", "none", "other"}
            assert answer.factor_type.isascii()
            assert len(answer.factor_type) <= 64
            assert answer.entity_sid == "" or len(answer.entity_sid) == 34
        case Failure() as failure:
            assert failure.detail.startswith(f"HTTP {code}")


def test_a_response_without_an_error_code_costs_next_to_nothing() -> None:
    began = time.process_time()
    for _ in range(100):
        for code, body in ((404, b"<html>"), (503, b""), (503, b'{"status": 503}'), (200, b'{"factors": []}')):
            assert twilio_error(code, body) is None
    assert time.process_time() - began < 3, "in CPU seconds: failures must not stall the event loop"
