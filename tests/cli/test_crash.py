"""Unexpected errors: exit status 70, one line without any value, and the traceback on request."""

from __future__ import annotations

import errno
import importlib
from typing import TYPE_CHECKING

import pytest

from exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.commands import Ran

SECRET = "c5d9a1e0-payments-oncall"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make ``version`` raise an error."""

    def fail(error: BaseException) -> None:
        def run(_arguments: object) -> int:
            raise error

        monkeypatch.setattr(importlib.import_module("exporter.cli.version"), "run", run)

    return fail


def test_one_line_without_values(call: Callable[..., Ran], failing: Callable[[BaseException], None]) -> None:
    failing(KeyError(SECRET))
    ran = call("version")

    assert (ran.status, ran.out) == (70, "")
    assert ran.err.startswith("verify-factor-exporter version: unexpected error: KeyError")
    assert f"(version {__version__}, Python 3." in ran.err
    assert ran.err.endswith("; run the command again with --traceback, and open an issue with what it prints\n")
    assert ran.err.count("\n") == 1
    assert SECRET not in ran.err


def test_the_line_names_the_place_in_the_package(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def platform() -> str:
        raise LookupError(SECRET)

    monkeypatch.setattr("platform.platform", platform)
    ran = call("version")

    assert ran.status == 70
    assert "LookupError in exporter.cli.version, line " in ran.err


def test_the_reason_of_the_system_is_named(
    call: Callable[..., Ran], failing: Callable[[BaseException], None]
) -> None:
    failing(OSError(errno.ENOSPC, SECRET, SECRET))
    ran = call("version")

    assert ran.status == 70
    assert "unexpected error: OSError, No space left on device" in ran.err
    assert SECRET not in ran.err


def test_a_broken_connection_is_no_closed_output(
    call: Callable[..., Ran], failing: Callable[[BaseException], None]
) -> None:
    failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    ran = call("version")

    assert ran.status == 70
    assert "BrokenPipeError, Broken pipe" in ran.err


def test_an_error_before_the_command_is_known(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def parsers(_complete: object) -> object:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("exporter.cli.parsers", parsers)
    ran = call()

    assert ran.status == 70
    assert ran.err.startswith("verify-factor-exporter: unexpected error: RuntimeError")


def test_the_traceback_on_request_has_no_values_either(
    call: Callable[..., Ran], failing: Callable[[BaseException], None]
) -> None:
    error = ExceptionGroup(SECRET, [TypeError(SECRET), OSError(SECRET)])
    error.__cause__ = ValueError(SECRET)
    failing(error)
    ran = call("version", "--traceback")

    assert (ran.status, ran.out) == (70, "")
    assert SECRET not in ran.err
    kinds = [line.partition(" (")[0] for line in ran.err.splitlines() if line.startswith("builtins.")]
    assert kinds == [f"builtins.{name}" for name in ("ValueError", "ExceptionGroup", "TypeError", "OSError")]
    assert ran.err.count("Traceback (most recent call last):") == 4
    assert 'test_crash.py", line ' in ran.err
    last = ran.err.splitlines()[-1]
    assert last.startswith("verify-factor-exporter version: unexpected error: ExceptionGroup")
    assert last.endswith("; open an issue with these lines")


def test_an_error_that_caused_itself(call: Callable[..., Ran], failing: Callable[[BaseException], None]) -> None:
    error = ValueError(SECRET)
    error.__cause__ = error
    failing(error)

    assert call("version", "--traceback").err.count("Traceback") == 1


def test_the_flag_changes_nothing_without_an_error(call: Callable[..., Ran]) -> None:
    assert call("version", "--traceback") == call("version")
