"""The ``simulate`` command, run in full until a signal ends it."""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import socket
import stat
import sys
import threading
import tomllib
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter.cli import simulate
from exporter.config import load
from exporter.simulator import Simulator, small_world
from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def arguments(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return parser.parse_args(flags)


class FlushedOutput(io.StringIO):
    """Standard output with an event for its first flush."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = threading.Event()

    def flush(self) -> None:
        super().flush()
        self.flushed.set()


@contextmanager
def checked_meanwhile(
    output: FlushedOutput, check: Callable[[list[str]], None], ending: int
) -> Iterator[list[BaseException]]:
    """Check the output of the running command in a thread, then end it with a signal."""
    failures: list[BaseException] = []

    def beside() -> None:
        if not output.flushed.wait(PATIENCE_SECONDS):  # it never started, and would not handle the signal
            return
        try:
            check(output.getvalue().splitlines())
        except BaseException as failure:  # noqa: BLE001  raised again by the test itself
            failures.append(failure)
        os.kill(os.getpid(), ending)

    thread = threading.Thread(target=beside)
    thread.start()
    yield failures
    thread.join()


def run(monkeypatch: pytest.MonkeyPatch, check: Callable[[list[str]], None], ending: int, *flags: str) -> None:
    output = FlushedOutput()
    monkeypatch.setattr(sys, "stdout", output)
    with checked_meanwhile(output, check, ending) as failures:
        assert simulate.run(arguments(*flags)) == 0
    for failure in failures:
        raise failure


def fields(line: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in line.split())


def fetch(line: dict[str, str], username: str) -> tuple[int, bytes]:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, line["base_url"], username, line["password"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
    )
    url = (
        f"{line['base_url']}/v2/Services/{line['service_sid']}/Entities/{line['identity']}"
        f"/Factors/{line['factor_sid']}"
    )
    with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
        return answer.status, answer.read()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_what_a_client_needs_and_serves_until_a_signal(
    monkeypatch: pytest.MonkeyPatch, ending: int
) -> None:
    def check(lines: list[str]) -> None:
        first, *factors = lines
        assert first.startswith("Verify API simulator listening on http://127.0.0.1:")
        assert len(factors) == 6
        values = fields(factors[0])
        assert list(values) == [
            "base_url",
            "account_sid",
            "password",
            "service_sid",
            "identity",
            "factor_sid",
            "username",
        ]
        for username in (values["account_sid"], values["username"]):
            status, body = fetch(values, username)
            assert status == 200
            assert b'"status":"verified"' in body

    run(monkeypatch, check, ending)


def test_the_same_seed_prints_the_same_except_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    for _ in range(2):
        run(monkeypatch, lambda lines: seen.append(lines[1:]), signal.SIGTERM, "--seed=3", "--factors=9")

    assert len(seen[0]) == 9
    assert [line.partition(" ")[2] for line in seen[0]] == [line.partition(" ")[2] for line in seen[1]]


def test_faults_and_latency_are_active_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(lines: list[str]) -> None:
        values = fields(lines[1])
        status, body = fetch(values, values["username"])
        assert (status, body) == (202, b"")

    flags = ("--fault", "latency:seconds=0.01,times=1", "--fault=empty:status=202,operation=fetch")
    run(monkeypatch, check, signal.SIGTERM, "--latency=0.01", *flags)


def test_with_an_app_the_lines_and_the_config_have_it_instead_of_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "simulated.toml"

    def check(lines: list[str]) -> None:
        values = fields(lines[1])
        assert not values.keys() & {"username", "password"}
        assert values["token_url"] == f"{values['base_url']}/v2/token"
        account = tomllib.loads(path.read_text())["accounts"]["main"]
        assert account == {
            "account_sid": values["account_sid"],
            "base_url": values["base_url"],
            "oauth": {name: values[name] for name in ("client_id", "client_secret", "token_url")},
        }
        config = load(path, environ={}, flags={})
        assert config.passwords["main"].current == values["client_secret"]

    run(monkeypatch, check, signal.SIGTERM, "--oauth", "--config-out", str(path))


def test_without_a_key_the_lines_have_no_username(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    simulator.credentials.username = simulator.account_sid
    seeded = small_world(simulator, 1, random.Random(0))
    monkeypatch.setattr(Simulator, "base_url", "http://127.0.0.1:1")

    assert "username" not in fields(list(simulate._lines(simulator, seeded))[1])


def test_a_config_is_readable_by_its_owner_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "simulated.toml"
    path.write_text("old")
    path.chmod(0o644)

    def check(lines: list[str]) -> None:
        config = tomllib.loads(path.read_text())
        printed = [fields(line) for line in lines[1:]]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert config["accounts"]["main"] == {
            name: printed[0][name] for name in ("account_sid", "username", "password", "base_url")
        }
        assert [
            {name: factor[name] for name in ("service_sid", "identity", "factor_sid")}
            for factor in config["factors"]
        ] == [{name: line[name] for name in ("service_sid", "identity", "factor_sid")} for line in printed]
        assert config["factors"][0]["name"] == "payments-oncall-push"
        assert config["factors"][0]["labels"] == {"team": "payments"}
        assert config["polling"] == {
            "interval": "10s",
            "unverified_interval": "5s",
            "not_found_interval": "15s",
        }

    run(monkeypatch, check, signal.SIGTERM, f"--config-out={path}", "--force")


@pytest.mark.parametrize("text", ["# mine\n", ""])
def test_an_existing_config_stays_without_force(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)

    assert simulate.run(arguments(f"--config-out={path}")) == 64
    assert path.read_text() == text
    problem = f"--config-out {path}: exists; choose another file, or replace it with --force"
    assert capsys.readouterr() == ("", f"verify-factor-exporter simulate: {problem}\n")


def test_a_config_lists_the_service_instead_of_its_factors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "simulated.toml"

    def check(lines: list[str]) -> None:
        config = tomllib.loads(path.read_text())
        printed = [fields(line) for line in lines[1:]]
        assert config["services"] == [{"name": "simulated", "service_sid": printed[0]["service_sid"]}]
        assert "factors" not in config
        assert len(printed) == 9
        assert len({line["identity"] for line in printed}) == 4

    flags = ("--factors=9", "--entities=4", f"--config-out={path}", "--config-services")
    run(monkeypatch, check, signal.SIGTERM, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port=65536"], '--port: "65536" is not a whole number from 0 to 65535'),
        (["--port=http"], '--port: "http" is not a whole number from 0 to 65535'),
        (["--factors=0"], '--factors: "0" is not a whole number from 1 to 200000'),
        (["--entities=0"], '--entities: "0" is not a whole number from 1 to 200000'),
        (["--config-services"], "--config-services has no effect without --config-out; add it"),
        (["--seed=-1"], '--seed: "-1" is not a whole number from 0 to '),
        (["--latency=fast"], '--latency: "fast" is not a number of seconds (0 or more)'),
        (["--latency=-1"], '--latency: "-1" is not a number of seconds (0 or more)'),
        (["--latency=inf"], '--latency: "inf" is not a number of seconds (0 or more)'),
        (
            ["--fault=sttaus"],
            '--fault sttaus: kind: unknown fault kind "sttaus" (did you mean "status"?); known kinds: ',
        ),
        (["--fault=status:status=1"], "--fault status:status=1: status: 1 is not a final HTTP status"),
        (["--host=192.0.2.1"], "cannot listen on 192.0.2.1 port 0: Cannot assign requested address; "),
        (["--host=" + "a" * 70], "not a host name; choose another --host or --port"),
        (["--config-out=/nowhere/at/all.toml"], "--config-out /nowhere/at/all.toml: No such file or directory"),
    ],
)
def test_a_bad_flag_is_one_line_and_status_64(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert simulate.run(arguments(*flags)) == 64

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("verify-factor-exporter simulate: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_host_without_an_address_is_one_line_and_status_64(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(Simulator, "start", unknown)

    assert simulate.run(arguments("--host=simulator.test")) == 64
    assert capsys.readouterr().err == (
        "verify-factor-exporter simulate: cannot listen on simulator.test port 0: Name or service not known; "
        "choose another --host or --port\n"
    )


def test_a_port_in_use_is_one_line_and_status_64(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert simulate.run(arguments(f"--port={port}")) == 64

    assert capsys.readouterr().err == (
        f"verify-factor-exporter simulate: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another --host or --port\n"
    )
