"""``check --live``: one authenticated call an account, and what came of it in words."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.commands import Ran

    Check = Callable[..., Awaitable[Ran]]


def write(folder: Path, simulator: Simulator, *factors: dict[str, object], **account: object) -> str:
    accounts = {"main": account_of(simulator, **account)}
    return str(write_config(folder / "config.toml", accounts, factors, polling={"timeout": "400ms"}))


async def test_without_the_flag_no_request_is_sent(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("good", simulator.add_factor()))
    ran = await call_beside("check", "--config.file", path)

    assert (ran.status, ran.out, ran.err) == (0, f"{path} is valid: 1 account, 1 factor\n", "")
    assert simulator.calls.total == 0


async def test_an_account_with_valid_credentials(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    idle, first = simulator.add_factor(), simulator.add_factor(status="unverified")
    path = write(
        tmp_path,
        simulator,
        entry("idle", idle, paused=True),
        entry("first", first),
        entry("second", simulator.add_factor()),
    )
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.err) == (0, "")
    valid, answered = ran.out.splitlines()
    assert valid == f"{path} is valid: 1 account, 3 factors"
    assert re.fullmatch(r"main: credentials work: HTTP 200 in [0-9]+ ms", answered)
    assert dict(simulator.calls.by_factor) == {first.sid: 1}


async def test_a_404_is_no_success(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    gone = simulator.add_factor()
    simulator.delete(gone.sid)
    path = write(tmp_path, simulator, entry("gone", gone))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.out) == (1, f"{path} is valid: 1 account, 1 factor\n")
    assert re.fullmatch(
        r"main: not found: HTTP 404 in [0-9]+ ms for gone; check that service_sid, identity and factor_sid are "
        r"right and belong to this account, and check base_url\n",
        ran.err,
    )


async def test_a_wrong_password(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    path = write(tmp_path, simulator, entry("first", factor), password="a-wrong-secret")
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    assert ran.out == f"{path} is valid: 1 account, 1 factor\n"
    assert ran.err == ("main: refused: HTTP 401, Twilio error 20003; check the account's username and password\n")
    assert simulator.calls.total == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            Fault(status=403),
            "refused: HTTP 403, Twilio error 20403; give the API key permission to read Verify factors",
        ),
        (
            Fault(status=429, retry_after=60),
            (
                "failed: HTTP 429, Twilio error 20429; lower requests_per_second or max_concurrency, "
                "or use longer intervals"
            ),
        ),
        (
            Fault(status=503),
            "failed: HTTP 503, Twilio error 20503; Twilio's API has a problem; check Twilio's status page",
        ),
        (
            Fault(FaultKind.HTML),
            (
                "failed: HTTP 200, but the body is not JSON; "
                "a proxy or gateway may have answered instead of Twilio; check base_url and the proxy"
            ),
        ),
        (
            Fault(FaultKind.STALL_IN_BODY),
            (
                "failed: no complete answer in time; the API is slow or unreachable; "
                "check the network, or raise polling.timeout"
            ),
        ),
    ],
)
async def test_other_failures_are_reported_with_their_hint(
    call_beside: Check, simulator: Simulator, tmp_path: Path, fault: Fault, words: str
) -> None:
    simulator.faults.add(fault)
    path = write(tmp_path, simulator, entry("first", simulator.add_factor()))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.err) == (1, f"main: {words}\n")
    assert simulator.calls.total == 1


async def test_nothing_listens(call_beside: Check, simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        path = write(tmp_path, simulator, entry("first", factor), base_url=base_url)
        ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    assert ran.err == (
        "main: failed: the connection failed: connection refused; check the network, the firewall and the proxy\n"
    )


async def test_each_account_has_its_line_and_one_failure_is_enough(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    accounts = {
        "empty": account_of(simulator),
        "good": account_of(simulator),
        "refused": account_of(simulator, password="wrong"),
        "paused": account_of(simulator),
    }
    factors = [
        entry("refused-one", simulator.add_factor(), account="refused"),
        entry("good-one", simulator.add_factor(), account="good"),
        entry("idle", simulator.add_factor(), account="paused", paused=True),
    ]
    path = str(write_config(tmp_path / "config.toml", accounts, factors))
    ran = await call_beside("check", "--live", "--config.file", path)

    assert ran.status == 1
    assert [line.partition(":")[0] for line in ran.out.splitlines()[1:]] == ["good"]
    assert ran.err.splitlines() == [
        "warning: empty: not checked, because it has no factor or entity to fetch",
        "refused: refused: HTTP 401, Twilio error 20003; check the account's username and password",
        "warning: paused: not checked, because it has no factor or entity to fetch",
    ]


async def test_an_account_without_factors_is_no_failure(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    ran = await call_beside("check", "--live", "--config.file", write(tmp_path, simulator))

    assert ran.status == 0
    assert "warning: main: not checked, because it has no factor or entity to fetch\n" in ran.err


async def test_a_bad_configuration_is_reported_without_a_request(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    path = write(tmp_path, simulator, entry("first", simulator.add_factor()), max_concurrency=0)
    ran = await call_beside("check", "--live", "--config.file", path)

    assert (ran.status, ran.out) == (1, "")
    assert simulator.calls.total == 0


async def test_neither_identity_nor_password_is_shown(
    call_beside: Check, simulator: Simulator, tmp_path: Path
) -> None:
    factor = simulator.add_factor(identity="identity-of-a-person")
    simulator.faults.add(Fault(FaultKind.STATUS, status=400))
    ran = await call_beside("check", "--live", "--config.file", write(tmp_path, simulator, entry("first", factor)))

    assert ran.status == 1
    assert "identity-of-a-person" not in ran.out + ran.err
    assert simulator.password not in ran.out + ran.err
