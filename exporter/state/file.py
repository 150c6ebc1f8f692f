"""The state file: what is known of the factors, so that a restart doesn't begin with nothing.

Lines of JSON: a header, a line for each factor, and the SHA-256 of all of that. A file is written beside the old
one and takes its place when it is whole; one that is not whole, not ours or of a later version is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.config.files import UnreadableError, read_bytes, shown_path
from exporter.polling.snapshot import FactorSnapshot
from exporter.watched import FactorKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMAT = "verify-factor-exporter state"
VERSION = 1
LARGEST_BYTES = 1 << 30
_MODE = 0o600
_ABANDONED_SECONDS = 600.0
_CHUNK_LINES = 1000


class StateFileError(Exception):
    """A state file that can't be used; the message names it, the problem and the hint.

    A ``foreign`` one is somebody else's, and not to be written over.
    """

    def __init__(self, path: Path, problem: str, hint: str, *, foreign: bool = False) -> None:
        super().__init__(f"{shown_path(path)}: {problem}; {hint}")
        self.foreign = foreign


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a state file held: by key, when it was saved (wall seconds), and how many lines could not be used."""

    snapshots: Mapping[FactorKey, FactorSnapshot] = field(repr=False)
    saved_seconds: float
    skipped: int = 0


def write(path: Path, saved_seconds: float, snapshots: Iterable[tuple[FactorKey, FactorSnapshot]]) -> int:
    """Write the file whole or not at all; return its size in bytes. Raises StateFileError.

    May run in a thread. A symlink is followed: its target is replaced, not the link.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        size = _write_beside(beside, saved_seconds, snapshots)
        beside.replace(target)
        _sync(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        problem = error.strerror or type(error).__name__
        raise StateFileError(
            path, f"can't be written ({problem})", "let its directory be writable, with room"
        ) from None
    return size


def _write_beside(beside: Path, saved_seconds: float, snapshots: Iterable[tuple[FactorKey, FactorSnapshot]]) -> int:
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, _MODE)
        digest = hashlib.sha256()

        def put(lines: list[bytes]) -> None:
            chunk = b"".join(lines)
            digest.update(chunk)
            file.write(chunk)

        put([_line({"format": FORMAT, "version": VERSION, "saved": round(saved_seconds, 3)})])
        lines: list[bytes] = []
        for key, snapshot in snapshots:
            lines.append(_line([*key, snapshot.as_fields()]))
            if len(lines) == _CHUNK_LINES:
                put(lines)
                lines = []
        put(lines)
        file.write(digest.hexdigest().encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
        return file.tell()


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _sync(directory: Path) -> None:
    """Let the new name survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, now_wall: float) -> Remembered | None:
    """Return what the file holds, ``None`` where there is none; raises StateFileError for one that can't be used.

    What is not believable (a time in the future) is left out and counted.
    """
    if not os.path.lexists(path):
        return None
    try:
        content = read_bytes(path, limit=LARGEST_BYTES)
    except UnreadableError as error:
        raise StateFileError(path, error.problem, error.hint or "correct its permissions", foreign=True) from None
    body, saved_seconds = _checked(path, content)
    snapshots: dict[FactorKey, FactorSnapshot] = {}
    skipped = 0
    for line in body:
        entry = _entry(line)
        if entry is None or not entry[1].believable(now_wall):
            skipped += 1
        else:
            snapshots[entry[0]] = entry[1]
    return Remembered(snapshots, saved_seconds, skipped)


def _checked(path: Path, content: bytes) -> tuple[list[bytes], float]:
    """Return the lines of the factors and when they were saved, if the file is whole and ours."""
    first, _, _ = content.partition(b"\n")
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StateFileError(
            path, "is no state file of this exporter", "name another file in state.file", foreign=True
        )
    if header.get("version") != VERSION:
        hint = "it is passed over, and written anew in this version's form"
        raise StateFileError(path, "was written by another version", hint)
    head, _, tail = content[:-1].rpartition(b"\n")
    if not content.endswith(b"\n") or tail != hashlib.sha256(head + b"\n").hexdigest().encode():
        raise StateFileError(path, "is cut short or was changed", "it is passed over, and written anew")
    saved = header.get("saved")
    if not isinstance(saved, int | float) or isinstance(saved, bool):
        raise StateFileError(path, "is cut short or was changed", "it is passed over, and written anew")
    return head.split(b"\n")[1:], float(saved)


def _entry(line: bytes) -> tuple[FactorKey, FactorSnapshot] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(part, str) for part in value[:3]):
        return None
    snapshot = FactorSnapshot.from_fields(value[3])
    return None if snapshot is None else (FactorKey(*value[:3]), snapshot)


def sweep(path: Path, now_wall: float | None = None) -> int:
    """Remove what writers that were killed left beside the file; return how many there were.

    The file of a process that lives is left alone, unless it is ten minutes old: the number may be another's now.
    """
    target = Path(os.path.realpath(path))
    ours = re.compile(re.escape(f".{target.name}.") + r"(\d+)\.[0-9a-f]{8}\.tmp")
    now = time.time() if now_wall is None else now_wall
    swept = 0
    with contextlib.suppress(OSError):
        for beside in target.parent.iterdir():
            found = ours.fullmatch(beside.name)
            if found is None:
                continue
            with contextlib.suppress(OSError):
                if not _lives(int(found[1])) or now - beside.stat().st_mtime > _ABANDONED_SECONDS:
                    beside.unlink()
                    swept += 1
    return swept


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
