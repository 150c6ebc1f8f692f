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
