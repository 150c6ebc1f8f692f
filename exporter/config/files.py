"""Reading files: bytes, text, TOML and patterns, with error messages that a user can act on."""

from __future__ import annotations

import codecs
import glob
import hashlib
import io
import itertools
import os
import stat
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.config.errors import ConfigWarning, ErrorDetail, UnmatchedPattern, escape
from exporter.config.tomlsyntax import explain_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGEST_SECRET_BYTES = 65_536

_UNREADABLE = "unreadable"
WATCHLIST_SUFFIXES = (".csv", ".toml")


class UnreadableError(Exception):
    """A file that can't be used, and a hint what to do about it; never quotes the file's content."""

    def __init__(self, problem: str, hint: str = "", *, where: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.where = where

    def detail(self, place: str) -> ErrorDetail:
        """Return the error for a file named at a place."""
        return ErrorDetail(f"{place}: {self.where}" if self.where else place, self.problem, self.hint)


def shown_path(path: Path) -> str:
    """Return a path as messages show it, on one line."""
    return escape(str(path), 200)


def read_bytes(path: Path, *, limit: int = -1) -> bytes:
    """Return a file's content, of at most ``limit`` bytes if that is not negative; raises UnreadableError.

    It must be a regular file: every file is read repeatedly, and a pipe would block its reader.
    """
    try:
        with open(path, "rb", opener=_without_blocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableError("is not a regular file", "name a regular file")
            content = file.read() if limit < 0 else file.read(limit + 1)
    except FileNotFoundError:
        raise UnreadableError("does not exist", "create it or correct the path") from None
    except IsADirectoryError:
        raise UnreadableError("is a directory", "name a file in it") from None
    except PermissionError:
        raise UnreadableError("is not readable by this user", "grant this user read permission") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "unusable path"
        raise UnreadableError(f"cannot be read ({reason})", "correct the path") from None
    if 0 <= limit < len(content):
        raise UnreadableError(f"is larger than {limit} bytes", "check the path")
    return content


def _without_blocking(path: str, flags: int) -> int:
    """Open a file without waiting for a writer, in case it is a pipe."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def decode(content: bytes) -> str:
    """Return the text of UTF-8 bytes without a byte-order mark; raises UnreadableError with line and column."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError("is UTF-16", "save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        before = content[content.rfind(b"\n", 0, error.start) + 1 : error.start]
        column = len(before.removeprefix(codecs.BOM_UTF8).decode("utf-8")) + 1
        byte = f"byte 0x{content[error.start]:02X}"
        raise UnreadableError(
            f"is not UTF-8 text ({byte}, maybe Latin-1)",
            "save it as UTF-8",
            where=f"line {line}, character {column}",
        ) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return a TOML document; raises UnreadableError with line and column, and none of the text."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except ValueError as error:
        message = str(error)
    problem, hint, line, column = explain_toml(text, message)
    where = "" if line is None else f"line {line}, column {column}"
    raise UnreadableError(problem, hint, where=where)


def _may_be_file(path: Path) -> bool:
    return path.suffix.lower() in WATCHLIST_SUFFIXES or not os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises


def _unusable_directory(directory: Path, pattern: str) -> Path | None:
    """Return the directory that a pattern names without wildcards if it exists, but can't be listed."""
    named = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    path = directory.joinpath(*named)
    try:
        os.scandir(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return path
    return None


def expand(
    directory: Path, patterns: Iterable[tuple[str, str]]
) -> tuple[list[tuple[str, Path]], list[ConfigWarning]]:
    """Return the files that paths and patterns name, each once, and a warning for every pattern without a match.

    Each pattern comes with its place, and each file with the place of the pattern that named it. A plain path is
    returned whether or not it exists. Hidden files match no pattern, and neither do directories. Broken links,
    pipes, and directories named like a watchlist file are in the place of a file, and so is the directory of a
    pattern if it can't be listed; reading them is an error.
    """
    found: dict[str, tuple[str, Path]] = {}
    warnings: list[ConfigWarning] = []
    for place, pattern in patterns:
        plain = directory / pattern
        if not glob.has_magic(pattern) or os.path.exists(plain):  # noqa: PTH110  Path.exists raises
            matches = [plain]
        else:
            # Path.glob would match the hidden copies of files that a mounted ConfigMap keeps
            names = glob.glob(pattern, root_dir=directory, recursive=True)  # noqa: PTH207  Path.glob refuses absolute patterns
            matches = sorted(path for name in names if _may_be_file(path := directory / name))
            if not matches and (unusable := _unusable_directory(directory, pattern)):
                matches = [unusable]
            elif not matches:
                text = f"{escape(pattern, 200)} matches no file (in {shown_path(directory.absolute())})"
                warnings.append(UnmatchedPattern(place, text))
        for path in matches:
            found.setdefault(os.path.realpath(path), (place, path))
    return list(found.values()), warnings


def _is_blank(content: bytes, *, comments: bool) -> bool:
    """Return whether a content has only white space and comments; stops at the first line that has more."""
    for lines in io.BytesIO(content.removeprefix(codecs.BOM_UTF8)):
        for part in lines.splitlines():  # a line feed is not the only end of a line
            if (line := part.strip()) and not (comments and line.startswith(b"#")):
                return False
    return True


class FileVersion(NamedTuple):
    """The state of a file when it was read: the SHA-256 of its content, and the limit it was read with.

    ``blank`` is a file of nothing but white space and comments.
    """

    sha256: str
    limit_bytes: int = -1
    blank: bool = False


class FileReader:
    """Reads the files of a configuration, and keeps the version of each."""

    def __init__(self) -> None:
        self._versions: dict[Path, FileVersion] = {}

    @property
    def versions(self) -> Mapping[Path, FileVersion]:
        """The files read so far."""
        return MappingProxyType(self._versions)

    def read(self, path: Path, *, limit: int = -1, comments: bool = False) -> bytes:
        """Return a file's content as :func:`read_bytes` does; raises UnreadableError.

        With ``comments``, lines that begin with ``#`` are comments.
        """
        content = read_bytes(path, limit=limit)
        blank = _is_blank(content, comments=comments)
        self._versions[path] = FileVersion(hashlib.sha256(content).hexdigest(), limit, blank)
        return content

    def read_if_possible(self, path: Path, *, limit: int = -1) -> None:
        """Read a file for its version; one that can't be read has a version of its own."""
        try:
            self.read(path, limit=limit)
        except UnreadableError:
            self.note_unreadable(path, limit=limit)

    def note_unreadable(self, path: Path, *, limit: int = -1) -> None:
        """Note that a file can't be read, without reading it again."""
        self._versions[path] = FileVersion(_UNREADABLE, limit)

    def fingerprint(self) -> str:
        """Return a digest in hex of the paths and contents of all files read."""
        digest = hashlib.sha256()
        for path, version in sorted(self._versions.items()):
            digest.update(b"%s\0%s\n" % (os.fsencode(path), version.sha256.encode()))
        return digest.hexdigest()
