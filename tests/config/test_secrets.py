"""Passwords and keys from files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.config import PasswordSource
from exporter.config.files import FileReader, UnreadableError
from exporter.config.secrets import read_key, read_password

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", ["secret", "secret\n", "secret\r\n"])
def test_one_line_break_is_no_part_of_a_password(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_bytes(content.encode())
    assert read_password(tmp_path / "file") == "secret"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"secret\n\n",
        b"secret\r",
        b" secret",
        b"secret \n",
        b"a\nb",
        b"\xffsecret",
        b"\xef\xbb\xbfsecret",
        b"x" * 70_000,
    ],
)
def test_an_error_of_a_password_file_doesnt_show_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableError) as raised:
        read_password(tmp_path / "file")
    assert "secret" not in raised.value.problem.replace("enter the secret", "")


def test_a_password_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("first\n")
    source = PasswordSource.from_file(path)
    assert source.current == "first"
    assert source.path == path
    assert not source.reread()
    path.write_text("first")
    assert not source.reread()
    path.write_text("second\n")
    assert source.reread()
    assert source.current == "second"
    assert source.problem is None


def test_a_password_outlives_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("first\n")
    source = PasswordSource.from_file(path)
    path.unlink()
    assert not source.reread()
    assert source.current == "first"
    assert source.problem == "does not exist"
    path.write_text("half a\npassword")
    assert not source.reread()
    assert source.current == "first"
    assert source.problem is not None
    assert "password" not in source.problem
    path.write_text("second")
    assert source.reread()
    assert source.problem is None


def test_a_password_in_the_configuration_never_changes() -> None:
    source = PasswordSource("inline")
    assert not source.reread()
    assert source.current == "inline"
    assert source.path is None


def test_no_text_of_a_source_shows_the_password(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hunter2")
    for source in (PasswordSource("hunter2"), PasswordSource.from_file(tmp_path / "file")):
        for text in (repr(source), str(source), f"{source}", f"{[source]}"):
            assert "hunter2" not in text
        assert not hasattr(source, "__dict__")


def test_a_key_has_at_least_32_bytes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\x00\xff" * 16 + b"\r\n")
    assert read_key(path, FileReader()) == b"\x00\xff" * 16
    path.write_bytes(b"\x00\xff" * 16)
    assert read_key(path, FileReader()) == b"\x00\xff" * 16
    path.write_bytes(b"x" * 31 + b"\n")
    with pytest.raises(UnreadableError, match="holds 31 bytes"):
        read_key(path, FileReader())


def test_a_pipe_is_no_password_file_and_blocks_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UnreadableError) as raised:
        PasswordSource.from_file(pipe)
    assert raised.value.problem == "is not a regular file"
