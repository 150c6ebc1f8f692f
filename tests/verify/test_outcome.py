"""The closed lists that metrics, logs and pages share."""

from __future__ import annotations

from exporter.verify.outcome import Reason, Status


def test_reasons_that_refuse_the_credentials() -> None:
    assert {reason for reason in Reason if reason.refused} == {Reason.AUTH, Reason.FORBIDDEN}


def test_reasons_that_retries_cannot_fix() -> None:
    assert {reason for reason in Reason if reason.needs_a_change} == {
        Reason.BAD_REQUEST,
        Reason.DECODE,
        Reason.UNKNOWN_STATUS,
    }


def test_the_values_of_the_labels() -> None:
    assert [str(status) for status in Status] == ["verified", "unverified", "not_found"]
    assert {str(reason) for reason in Reason} == {
        "timeout",
        "connect",
        "dns",
        "tls",
        "auth",
        "forbidden",
        "rate_limited",
        "bad_request",
        "server_error",
        "decode",
        "unknown_status",
        "internal",
    }
