"""The lock of a state file: one holder, known by name, and a file that stays."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from exporter.state.lock import LockUnavailableError, StateLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[StateLock]:
    lock = StateLock(tmp_path / "state.jsonl")
    yield lock
    lock.release()


def test_the_second_one_has_to_wait_and_knows_for_whom(lock: StateLock, tmp_path: Path) -> None:
    assert lock.acquire()
    assert lock.acquire(), "it has it already"
    second = StateLock(tmp_path / "state.jsonl")
    assert not second.acquire()
    assert not second.held
    assert second.holder == f"process {os.getpid()} on host {socket.gethostname()}"
    lock.release()
    lock.release()
    assert second.acquire()
    second.release()
    assert (tmp_path / "state.jsonl.lock").exists()


def test_it_is_its_owners_alone_whatever_the_umask(lock: StateLock) -> None:
    lock.path.touch(mode=0o666)
    before = os.umask(0)
    try:
        assert lock.acquire()
    finally:
        os.umask(before)
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"process 1 on host \x1b[2J\n", b"process 1 on host a\nmore"])
def test_what_is_not_a_holder_is_not_quoted(lock: StateLock, tmp_path: Path, content: bytes) -> None:
    assert lock.acquire()
    lock.path.write_bytes(content)
    second = StateLock(tmp_path / "state.jsonl")
    assert not second.acquire()
    assert second.holder == ""


def test_two_links_to_one_file_have_one_lock(lock: StateLock, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("state.jsonl")
    assert lock.acquire()
    assert not StateLock(tmp_path / "link").acquire()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_is_no_lock_in_use(
    lock: StateLock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(LockUnavailableError, match=os.strerror(number)):
        lock.acquire()
    assert not lock.held


def test_what_is_no_file_is_no_lock_and_blocks_nobody(lock: StateLock) -> None:
    os.mkfifo(lock.path)
    with pytest.raises(LockUnavailableError, match="not a regular file"):
        lock.acquire()
    lock.path.unlink()
    lock.path.mkdir()
    with pytest.raises(LockUnavailableError, match="Is a directory"):
        lock.acquire()
    lock.path.rmdir()
    lock.path.symlink_to("elsewhere")
    with pytest.raises(LockUnavailableError):
        lock.acquire()
    assert not lock.path.with_name("elsewhere").exists()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_removed_meanwhile_is_not_the_lock(
    lock: StateLock, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    flock = fcntl.flock

    def remove(descriptor: int, how: int) -> None:
        lock.path.unlink()
        if replaced:
            lock.path.touch()
        flock(descriptor, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", remove)
        assert not lock.acquire()
    assert lock.acquire()


def test_a_full_disk_is_no_obstacle(lock: StateLock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lock.path.write_text("process 1 on host another\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        assert lock.acquire()
    second = StateLock(tmp_path / "state.jsonl")
    assert not second.acquire()
    assert second.holder == "", "not the one before"
