"""The lock of a state file: at most one exporter uses it.

Apart from file.py because a lock is held for the life of a process, while a file is read once and written often.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
from pathlib import Path

_MODE = 0o600
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_IN_USE = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EINTR}
_HOLDER = re.compile(rb"process ([0-9]{1,10}) on host ([A-Za-z0-9._-]{1,253})\n")
_LONGEST_BYTES = 512


class LockUnavailableError(Exception):
    """Locking isn't possible: the file system doesn't support it, or the lock file is unusable."""


class StateLock:
    """An exclusive flock on ``FILE.lock``, beside the target of a symlink.

    The file has mode 0600, names the process that holds the lock, and stays when that ends. ``holder`` is who has
    it, in words; empty where that isn't known.
    """

    def __init__(self, state_file: Path) -> None:
        target = Path(os.path.realpath(state_file))
        self.path = target.with_name(f"{target.name}.lock")
        self.holder = ""
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock without waiting; return whether it is held now. Raises LockUnavailableError."""
        if self.held:
            return True
        try:
            descriptor = os.open(self.path, _FLAGS, _MODE)
        except OSError as error:
            raise LockUnavailableError(error.strerror or type(error).__name__) from None
        try:
            if self._lock(descriptor):
                self._descriptor, descriptor = descriptor, -1
        finally:
            if descriptor != -1:
                os.close(descriptor)
        return self.held

    def _lock(self, descriptor: int) -> bool:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LockUnavailableError("not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _IN_USE:
                raise LockUnavailableError(error.strerror or type(error).__name__) from None
            found = _HOLDER.fullmatch(os.pread(descriptor, _LONGEST_BYTES, 0))
            self.holder = found[0].decode().strip() if found else ""
            return False
        if not self._is_current(descriptor):
            return False  # the file was replaced meanwhile, and another process may have locked the new one
        with contextlib.suppress(OSError):  # on a full disk, the lock holds all the same
            os.fchmod(descriptor, _MODE)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on host {socket.gethostname()}\n".encode(), 0)
        return True

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except OSError:
            return False

    def release(self) -> None:
        """Let others take the lock; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
