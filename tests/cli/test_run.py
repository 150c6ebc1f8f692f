"""``run``: which flags lie over what, and how it starts and ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.cli import run as run_command
from exporter.cli.process import unless_stopped
from exporter.config import ListenAddress
from exporter.config.tree import settings_tree
from exporter.web.server.sockets import ListenError
from tests.support.config_files import write_config
from tests.support.list_server import source_table
from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.served_exporter import ACCOUNT_SID, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from exporter.config import Settings
    from exporter.daemon.daemon import Daemon
    from tests.support.commands import Ran

ACCOUNT = {"account_sid": ACCOUNT_SID, "password": "made-up", "base_url": "http://127.0.0.1:1"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    tables = {"web": {"listen_address": "127.0.0.1:0"}, "log": {"level": "warning", "format": "logfmt"}}
    return str(write_config(tmp_path / "config.toml", {"main": ACCOUNT}, entries("factor"), **tables))


@pytest.fixture
def settings_of(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return the settings that a command line runs with; nothing is served."""
    seen: list[Settings] = []

    async def serve(daemon: Daemon, *_parts: object) -> None:
        seen.append(daemon.engine.config.settings)
        await daemon.engine.poller.drain(0)

    monkeypatch.setattr(run_command, "serve", serve)

    def settings(*words: str) -> Settings:
        assert call("run", *words).status == 0
        return seen.pop()

    return settings


def test_the_file_applies_by_default(path: str, settings_of: Callable[..., Settings]) -> None:
    settings = settings_of("--config.file", path)

    assert settings.web.listen_address == (ListenAddress("127.0.0.1", 0),)
    assert (settings.log.level, settings.log.format) == ("warning", "logfmt")
    assert settings.web.telemetry_path == "/metrics"


@pytest.mark.parametrize(
    ("variable", "in_environment", "flag", "on_line", "key"),
    [
        ("LOG__LEVEL", "error", "--log.level", "debug", "log.level"),
        ("LOG__FORMAT", "json", "--log.format", "logfmt", "log.format"),
        ("WEB__TELEMETRY_PATH", "/from-env", "--web.telemetry-path", "/from-flag", "web.telemetry_path"),
        ("WEB__LISTEN_ADDRESS", "127.0.0.1:1", "--web.listen-address", "127.0.0.1:2", "web.listen_address"),
    ],
)
def test_flags_override_the_environment_which_overrides_the_file(
    path: str,
    settings_of: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    in_environment: str,
    flag: str,
    on_line: str,
    key: str,
) -> None:
    def value(settings: Settings) -> str:
        table, _, name = key.partition(".")
        found = getattr(getattr(settings, table), name)
        return str(found[0] if isinstance(found, tuple) else found)

    monkeypatch.setenv(f"VERIFY_EXPORTER_{variable}", in_environment)
    assert value(settings_of("--config.file", path)) == in_environment
    assert value(settings_of("--config.file", path, flag, on_line)) == on_line
    assert value(settings_of(f"{flag}={on_line}", f"--config.file={path}")) == on_line


def test_the_listen_address_may_be_repeated(path: str, settings_of: Callable[..., Settings]) -> None:
    settings = settings_of(
        "--config.file", path, "--web.listen-address", "127.0.0.1:1", "--web.listen-address=[::1]:2"
    )

    assert settings.web.listen_address == (ListenAddress("127.0.0.1", 1), ListenAddress("::1", 2))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--log.level=loud"], '--log.level: "loud" is not one of debug, info, warning, error'),
        (["--log.format=xml"], '--log.format: "xml" is not one of logfmt, json'),
        (["--web.telemetry-path=metrics"], '--web.telemetry-path: "metrics" is not a path such as "/metrics"'),
        (["--web.listen-address=10069"], '--web.listen-address[0]: "10069" needs a colon: ":10069"'),
        (["--web.listen-address=:1", "--web.listen-address=:1"], '--web.listen-address: ":1" is listed twice'),
        (["--shard=4/4"], '--shard: "4/4" is not a shard such as "0/4"'),
        (["--web.config.file=no-web.yml"], "--web.config.file: no-web.yml does not exist; "),
    ],
)
def test_a_bad_value_is_reported_with_its_flag(
    call: Callable[..., Ran], path: str, words: list[str], fault: str
) -> None:
    ran = call("run", "--config.file", path, *words)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(fault)
    assert ran.err.count("\n") == 1


def test_every_flag_of_the_settings_tree_is_one_of_run(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = " ".join(call("run", "--help").out.split())

    declared = [key for key in settings_tree().leaves() if key.flag]
    assert len(declared) >= 6
    for key in declared:
        assert key.flag is not None
        purpose = key.summary.replace("`", "").partition(" ")[2]
        assert re.search(
            rf" {re.escape(f'{key.flag.name} {key.flag.value}')} \w+ {re.escape(purpose)}[ ;]", f"{shown} "
        )
    assert [key.dotted for key in declared if key.flag and key.flag.repeatable] == ["web.listen_address"]
    assert shown.count("; repeatable") == 1


@pytest.mark.parametrize("limit", [8, 12, 31])
async def test_too_low_a_limit_of_open_files_is_one_line(path: str, limit: int) -> None:
    shell = f'ulimit -n {limit}; exec "$0" -m exporter run --config.file "$1"'
    status, out, err = await output_of("sh", "-c", shell, sys.executable, path)

    assert (status, out) == (1, b"")
    assert err.decode() == f"the limit of open files is {limit}; raise it to at least 32 (ulimit -n)\n"


@pytest.mark.slow
async def test_the_lowest_limit_of_open_files_is_enough(path: str) -> None:
    shell = 'ulimit -n 32; exec "$0" -m exporter run --config.file "$1" --log.level info'
    pipe = asyncio.subprocess.PIPE
    async with (
        spawned("sh", "-c", shell, sys.executable, path, stderr=pipe) as process,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        assert process.stderr is not None
        assert b"msg=listening" in await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


MODULES_OF_A_RUN = """
import sys
from exporter.cli import main
status = main(sys.argv[1:])
print(*sorted(sys.modules))
sys.exit(status)
"""


async def test_what_no_page_and_no_file_needs_is_not_imported(path: str) -> None:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-c", MODULES_OF_A_RUN, "run", "--config.file", path)
    flags = ("--log.level", "info", "--log.format", "json")
    async with spawned(*command, *flags, stdout=pipe, stderr=pipe) as process, asyncio.timeout(PATIENCE_SECONDS):
        assert process.stderr is not None
        status = await status_line(json.loads(await process.stderr.readline())["address"])
        process.send_signal(signal.SIGTERM)
        out, _err = await process.communicate()

    assert process.returncode == 0
    assert b" 200 " in status
    modules = set(out.decode().split())
    assert "exporter.web.pages" in modules
    assert modules & {"jinja2", "yaml", "exporter.config.lines", "exporter.cli.findings", "tqdm"} == set()


def test_a_port_in_use_is_one_line(call: Callable[..., Ran], path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = call("run", "--config.file", path, "--web.listen-address", address)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == (
        f"web.listen_address: {address}: the port is in use; stop the program that uses it, "
        "or set another with --web.listen-address\n"
    )


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5://127.0.0.1:1", "names a socks5 proxy; only http and https are supported"),
        ("http://127.0.0.1:no-port", "is not a URL; write it as http://host:port"),
    ],
)
@pytest.mark.parametrize(("words", "status"), [(["run"], 1), (["fetch"], 64), (["check", "--live"], 1)])
def test_a_proxy_that_can_t_be_used_is_one_line(
    call: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    status: int,
    proxy: str,
    problem: str,
) -> None:
    account = ACCOUNT | {"base_url": "https://verify.example"}
    path = write_config(
        tmp_path / "config.toml", {"main": account}, entries("factor"), web={"listen_address": "127.0.0.1:0"}
    )
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    ran = call(*words, "--config.file", str(path))

    assert (ran.status, ran.err) == (status, f"accounts.main: proxy_url or HTTPS_PROXY {problem}\n")


def test_warnings_are_logged(call: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(daemon: Daemon, *_parts: object) -> None:
        await daemon.engine.poller.drain(0)
        raise ListenError("made up")

    monkeypatch.setattr(run_command, "serve", serve)
    path = write_config(tmp_path / "config.toml", {"main": ACCOUNT})
    ran = call("run", "--config.file", str(path), "--log.format=json")

    assert ran.status == 1
    warning, refused = ran.err.splitlines()
    event = json.loads(warning)
    assert (event["level"], event["msg"]) == ("warning", "configuration warning")
    assert "the watchlist is empty, so nothing is fetched" in event["warning"]
    assert refused == "web.listen_address: made up"


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_on_each_address_until_the_signal(path: str, ending: signal.Signals) -> None:
    command = (
        *(sys.executable, "-W", "error", "-m", "exporter", "run", "--config.file", path),
        *("--web.listen-address=127.0.0.1:0", "--web.listen-address=localhost:0"),
        *("--log.level=info", "--log.format=json"),
    )
    pipe = asyncio.subprocess.PIPE
    async with spawned(*command, stdout=pipe, stderr=pipe) as process, asyncio.timeout(PATIENCE_SECONDS):
        assert process.stderr is not None
        events = [json.loads(await process.stderr.readline()) for _ in range(3)]
        addresses = [event["address"] for event in events[:2]]
        process.send_signal(signal.SIGHUP)
        events.append(json.loads(await process.stderr.readline()))
        while not events[-1]["msg"].startswith("configuration reloaded"):  # a fetch may have failed before
            events.append(json.loads(await process.stderr.readline()))
        pages = [await status_line(address) for address in addresses]
        process.send_signal(ending)
        out, err = await process.communicate()
    events += [json.loads(line) for line in err.splitlines()]

    assert process.returncode == 0
    assert out == b""
    assert len(set(addresses)) == 2
    assert pages == [b"HTTP/1.1 200 OK\r\n"] * 2
    messages = [event["msg"] for event in events if event["level"] == "info"]
    assert messages == ["listening", "listening", "polling", "configuration reloaded", "stopping", "stopped"]
    counted = [events[2][kind] for kind in ("accounts", "factors", "entities", "services")]
    assert counted == [1, 1, 0, 0]
    assert {event["level"] for event in events} <= {"info", "warning"}  # the fetch may have failed by then
    assert not any("exception" in event for event in events)


HANGUPS = """
import atexit, os, signal, sys
from exporter import cli
from exporter.cli import run

def hangs_up(call):
    def first(*arguments, **options):
        os.kill(os.getpid(), signal.SIGHUP)
        return call(*arguments, **options)
    return first

read = run.load_config
def load_config(arguments, **options):
    run.load_config = read
    return hangs_up(read)(arguments, **options)

run.add_arguments, run.load_config = hangs_up(run.add_arguments), load_config
atexit.register(os.kill, os.getpid(), signal.SIGHUP)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
async def test_a_hangup_during_the_start_is_one_reload_later_and_none_ends_it(path: str) -> None:
    command = (sys.executable, "-c", HANGUPS, "run", "--config.file", path, "--log.level=info", "--log.format=json")
    pipe = asyncio.subprocess.PIPE
    async with spawned(*command, stdout=pipe, stderr=pipe) as process, asyncio.timeout(PATIENCE_SECONDS):
        assert process.stderr is not None
        messages = [""]
        while messages[-1] != "configuration reloaded":
            messages.append(json.loads(await process.stderr.readline())["msg"])
        process.send_signal(signal.SIGTERM)
        _out, err = await process.communicate()
    messages += [json.loads(line)["msg"] for line in err.splitlines()]

    assert process.returncode == 0
    logged = [message for message in messages if not message.startswith("fetch")]
    assert logged == ["", "listening", "polling", "configuration reloaded", "stopping", "stopped"]


async def status_line(address: str) -> bytes:
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_wait_for_a_watchlist_url(tmp_path: Path, number: signal.Signals) -> None:
    """As process 1 of a container it would be ignored without a handler."""
    arrived = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        path = write_config(tmp_path / "config.toml", {"main": ACCOUNT}, entries("factor"))
        path.write_text(path.read_text() + source_table("silent", f"http://127.0.0.1:{port}/", timeout="1h"))
        command = (sys.executable, "-m", "exporter", "run", "--config.file", str(path))
        async with spawned(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE) as process:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await arrived.wait()
                process.send_signal(number)
                output = await process.communicate()
            assert (process.returncode, output) == (0, (b"", b""))


def test_a_stop_during_the_first_load_serves_nothing(
    path: str, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(work: Coroutine[object, object, object]) -> None:
        work.close()

    served: list[Daemon] = []
    monkeypatch.setattr(run_command, "unless_stopped", stopped)
    monkeypatch.setattr(run_command, "serve", served.append)
    assert (call("run", "--config.file", path).status, served) == (0, [])


async def test_work_ends_with_its_result_its_error_or_a_signal() -> None:
    async def fails() -> None:
        raise KeyError

    assert await unless_stopped(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError):
        await unless_stopped(fails())
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
    assert await unless_stopped(asyncio.sleep(3600, "done")) is None
