"""Standard output that is closed, full or unread, or whose encoding lacks a character."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.cli import COMMANDS, streams
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import output_of, spawned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.simulator import Simulator

COMMAND = (sys.executable, "-W", "error", "-m", "exporter")
NAME = "Zoë — 日本語"
BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN_1 = {"PYTHONIOENCODING": "latin-1"}


@pytest.fixture
def path(tmp_path: Path, simulator: Simulator) -> str:
    """A configuration with one factor, in a file whose name isn't ASCII."""
    factors = [entry(NAME, simulator.add_factor())]
    return str(write_config(tmp_path / "zoë.toml", {"main": account_of(simulator)}, factors))


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    """Yield the write end of a pipe whose read end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


PRINT = [
    ("version",),
    ("--version",),
    ("--help",),
    pytest.param(("completion", "bash"), marks=pytest.mark.slow),
    pytest.param(("check",), marks=pytest.mark.slow),
    pytest.param(("check", "--output", "json"), marks=pytest.mark.slow),
    pytest.param(("plan",), marks=pytest.mark.slow),
    pytest.param(("fetch",), marks=pytest.mark.slow),
    pytest.param(("fetch", "--output", "openmetrics"), marks=pytest.mark.slow),
    pytest.param(("simulate",), marks=pytest.mark.slow),
    pytest.param(("demo", "--web.listen-address", "127.0.0.1:0"), marks=pytest.mark.slow),
    *(pytest.param((command, "--help"), marks=pytest.mark.slow) for command in COMMANDS),
]


def with_config(words: tuple[str, ...], path: str) -> tuple[str, ...]:
    configured = words[0] in {"check", "plan", "fetch"} and "--help" not in words
    return (*words, "--config.file", path) if configured else words


@pytest.mark.parametrize("words", PRINT)
async def test_a_command_ends_quietly_if_nobody_reads_its_output(path: str, words: tuple[str, ...]) -> None:
    with closed_pipe() as writer:
        status, _, err = await output_of(*COMMAND, *with_config(words, path), stdout=writer, env=BUFFERED)

    assert (status, err) == (141, b"")


@pytest.mark.parametrize("words", [("version",), ("--help",), pytest.param(("fetch",), marks=pytest.mark.slow)])
async def test_unbuffered_output_ends_quietly_too(path: str, words: tuple[str, ...]) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with closed_pipe() as writer:
        status, _, err = await output_of(*COMMAND, *with_config(words, path), stdout=writer, env=environ)

    assert (status, err) == (141, b"")


@pytest.mark.parametrize("words", [("rum",), ("check", "--config.file", "nowhere.toml")])
async def test_errors_that_nobody_reads_end_quietly_too(words: tuple[str, ...]) -> None:
    with closed_pipe() as writer:
        status, _, _ = await output_of(*COMMAND, *words, stdout=writer, stderr=writer)

    assert status == 141


@pytest.mark.slow
async def test_the_demo_stops_when_its_reader_goes() -> None:
    reader, writer = os.pipe()
    words = (*COMMAND, "demo", "--web.listen-address", "127.0.0.1:0")
    async with spawned(*words, stdout=writer, stderr=-1) as process:
        os.close(writer)
        first = b""
        while not first.endswith(b"\n"):
            first += os.read(reader, 1)
        os.close(reader)
        _, err = await process.communicate()  # the first change follows within seconds

    assert first.startswith(b"metrics ")
    assert process.returncode == 141
    assert all(line.startswith(b"ts=") for line in err.splitlines()), "nothing but the log"


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_output_that_can_not_be_written_is_reported(unbuffered: str) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123  a device
        status, _, err = await output_of(*COMMAND, "version", stdout=full, env=environ)

    assert status == 70
    assert b"No space left on device" in err
    assert err.count(b"\n") == 1
    if not unbuffered:
        assert err == b"verify-factor-exporter: standard output can't be written: No space left on device\n"


@pytest.mark.parametrize(
    "words",
    [
        ("version",),
        ("--help",),
        pytest.param(("check",), marks=pytest.mark.slow),
        pytest.param(("fetch",), marks=pytest.mark.slow),
    ],
)
async def test_closed_output_is_no_error(path: str, words: tuple[str, ...]) -> None:
    closing = ("sh", "-c", 'exec "$@" >&-', "sh")
    status, out, err = await output_of(*closing, *COMMAND, *with_config(words, path))

    assert (status, out) == (0, b"")
    assert err == b"" or (words == ("fetch",) and err.count(b"\n") == 1)  # its summary


@pytest.mark.parametrize("words", [("rum",), ("check", "--bogus"), ("version",)])
async def test_closed_standard_error_is_no_error(words: tuple[str, ...]) -> None:
    closing = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    status, out, err = await output_of(*closing, *COMMAND, *words)

    assert (status, bool(out), err) == ({"rum": 64, "check": 1, "version": 0}[words[0]], words == ("version",), b"")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [ASCII, C_LOCALE, LATIN_1], ids=["ascii", "c-locale", "latin-1"])
@pytest.mark.parametrize(
    "words", [("check",), ("check", "--output", "github"), ("plan",), ("fetch",), ("fetch", "Zoé")]
)
async def test_characters_that_the_encoding_lacks_are_escaped(
    path: str, words: tuple[str, ...], encoding: dict[str, str]
) -> None:
    command = (*COMMAND, *with_config(words, path))
    status, out, err = await output_of(*command, env={**os.environ, **encoding})
    usual = await output_of(*command, env={**os.environ, "PYTHONIOENCODING": "utf-8"})

    name = "latin-1" if encoding is LATIN_1 else "ascii"
    assert status == usual[0]
    assert b"Traceback" not in err
    for text, expected in ((out, usual[1]), (err, usual[2])):
        if encoding is C_LOCALE:  # it has the words of the command line in other characters
            assert text.isascii()
            continue
        escaped = expected.decode().encode(name, "backslashreplace").decode(name)
        assert text.decode(name).split()[:2] == escaped.split()[:2]  # durations differ
    if words == ("fetch",):
        assert rb"\u65e5\u672c\u8a9e" in out


@pytest.mark.parametrize("words", [("--help",), ("simulate", "--help"), ("run", "--help"), ("run", "--flüg")])
async def test_help_and_usage_errors_are_escaped(words: tuple[str, ...]) -> None:
    status, out, err = await output_of(*COMMAND, *words, env={**os.environ, **ASCII})

    assert status == (1 if "--flüg" in words else 0)
    assert (out + err).isascii()
    assert b"Traceback" not in err


async def test_a_file_name_that_is_no_text_is_escaped() -> None:
    words = (*COMMAND, "check", "--config.file", os.fsdecode(b"\xff.toml"))
    status, out, err = await output_of(*words)

    assert (status, out) == (1, b"")
    assert err.startswith(b"\\udcff.toml: does not exist; ")


@pytest.mark.slow
async def test_the_changes_of_the_demo_are_escaped() -> None:
    words = (*COMMAND, "demo", "--web.listen-address", "127.0.0.1:0")
    async with spawned(*words, stdout=-1, env={**os.environ, **ASCII}) as process:
        assert process.stdout is not None
        while b"\\u2192" not in (line := await process.stdout.readline()):
            assert line


def test_what_has_no_reader() -> None:
    with closed_pipe() as writer, os.fdopen(writer, "w", encoding="utf-8", closefd=False) as unread:
        assert streams.unread(unread)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "w", encoding="utf-8") as read:
        assert not streams.unread(read)
    here, there = socket.socketpair()
    with here, here.makefile("w", encoding="utf-8") as stream:
        assert not streams.unread(stream)
        there.close()
        assert streams.unread(stream)
    assert not streams.unread(io.StringIO())
    assert not streams.unread(None)
