"""The reason of a failed attempt, from the chain of its causes."""

from __future__ import annotations

import itertools
import socket
import ssl

import aiohttp
import httpx
import pytest

from exporter.verify.outcome import Reason
from exporter.verify.transport import failure_of
from tests.support.transport_attempts import CUT_SHORT


def chained(*links: BaseException) -> BaseException:
    for outer, inner in itertools.pairwise(links):
        outer.__cause__ = inner
    return links[0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (chained(httpx.ConnectTimeout(""), aiohttp.ServerDisconnectedError()), Reason.CONNECT),
        (chained(httpx.ConnectTimeout(""), aiohttp.ConnectionTimeoutError()), Reason.TIMEOUT),
        (chained(httpx.ReadError(""), aiohttp.SocketTimeoutError()), Reason.TIMEOUT),
        (chained(httpx.ConnectError(""), OSError(), TimeoutError()), Reason.TIMEOUT),
        (ExceptionGroup("", [ConnectionRefusedError(111, "refused"), OSError(101, "unreachable")]), Reason.CONNECT),
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [ssl.SSLError()])]), Reason.TLS),
        (chained(ValueError(), KeyError()), Reason.INTERNAL),
        (EOFError(), Reason.CONNECT),
    ],
)
def test_the_most_specific_cause_wins(error: BaseException, reason: Reason) -> None:
    assert failure_of(error).reason is reason


@pytest.mark.parametrize("waited", [ssl.SSLWantReadError(2, "read"), ssl.SSLWantWriteError(3, "write")])
@pytest.mark.parametrize("outer", [None, httpx.ConnectError("")])
def test_a_reset_while_the_handshake_waits_is_a_failed_connection(
    waited: ssl.SSLError, outer: httpx.ConnectError | None
) -> None:
    """Python 3.14 raises the reset while it handles what asks for more data."""
    reset = ConnectionResetError()
    reset.__context__ = waited
    error = reset if outer is None else chained(outer, reset)
    failure = failure_of(error)
    assert failure.reason is Reason.CONNECT
    assert failure.detail == "the connection failed: closed before the response was complete"


def test_an_error_of_the_handshake_stays_one_after_a_wait() -> None:
    refused = ssl.SSLCertVerificationError()
    refused.__context__ = ssl.SSLWantReadError()
    assert failure_of(refused).reason is Reason.TLS


def test_a_cyclic_chain_of_causes_ends() -> None:
    first, second = OSError(), ValueError()
    first.__cause__, second.__context__ = second, first
    assert failure_of(second).reason is Reason.CONNECT


def test_an_error_without_a_message_gets_no_words() -> None:
    assert failure_of(OSError()).detail == "the connection failed"
    assert failure_of(ssl.SSLError()).detail == "the TLS handshake failed"
    assert failure_of(aiohttp.ClientConnectionError()).detail == "the connection failed"
    assert failure_of(EOFError()).detail == CUT_SHORT
    assert failure_of(socket.gaierror()).detail == "the host name could not be resolved"
