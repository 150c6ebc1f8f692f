"""Secrets in files: read on start, read again when they may have changed, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.config.files import LARGEST_SECRET_BYTES, UnreadableError, read_bytes
from exporter.config.values import parse_credential

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.config.files import FileReader

SHORTEST_KEY_BYTES = 32


class PasswordSource:
    """An account's password or client secret: its source and its current value; no ``repr`` shows it.

    ``kind`` is "password" or "client secret", for messages.
    """

    __slots__ = ("_current", "_path", "_problem", "kind")

    def __init__(self, current: str, path: Path | None = None, kind: str = "password") -> None:
        self.kind = kind
        self._current = current
        self._path = path
        self._problem: str | None = None

    @classmethod
    def from_file(cls, path: Path, kind: str = "password") -> PasswordSource:
        """Read a password file; raises UnreadableError."""
        return cls(read_password(path), path, kind)

    @property
    def current(self) -> str:
        """The password to use now."""
        return self._current

    @property
    def path(self) -> Path | None:
        """The file it is read from; None where the configuration itself holds it."""
        return self._path

    @property
    def problem(self) -> str | None:
        """Why the file could not be used when it was last read; None where it could."""
        return self._problem

    def reread(self) -> bool:
        """Read the file again and return whether the password changed.

        A file that can't be used leaves the password unchanged, and ``problem`` says why.
        """
        if self._path is None:
            return False
        try:
            password = read_password(self._path)
        except UnreadableError as error:
            self._problem = error.problem
            return False
        self._problem = None
        changed = password != self._current
        self._current = password
        return changed

    def __repr__(self) -> str:
        return f"PasswordSource(path={str(self._path)!r})" if self._path else "PasswordSource(inline)"


def read_password(path: Path) -> str:
    """Return the password in a file, without one line break at its end; raises UnreadableError."""
    text = _without_line_break(decode_secret(read_bytes(path, limit=LARGEST_SECRET_BYTES)))
    try:
        return parse_credential(text)
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def read_key(path: Path, reader: FileReader) -> bytes:
    """Return the key in a file, without one line break at its end; raises UnreadableError."""
    content = reader.read(path, limit=LARGEST_SECRET_BYTES)
    key = content.removesuffix(b"\n").removesuffix(b"\r") if content.endswith(b"\n") else content
    if len(key) < SHORTEST_KEY_BYTES:
        raise UnreadableError(
            f"holds {len(key)} bytes; a key has at least {SHORTEST_KEY_BYTES}",
            f"create one, for example with: openssl rand -hex {SHORTEST_KEY_BYTES}",
        )
    return key


def decode_secret(content: bytes) -> str:
    """Return a secret's text; a byte-order mark is kept, so that it is found and refused."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("is not UTF-8 text", "write the secret as plain text") from None


def _without_line_break(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
