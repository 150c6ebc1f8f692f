"""The state file: what is known of the factors, so that a restart doesn't start from nothing.

Lines of JSON: a header, one line per factor, and the SHA-256 of all of them. A new file is written next to the old
one and replaces it when complete; an incomplete, foreign or incompatible file is refused, and kept beside it. When
entities were last listed, and the history of statuses, are keys of the header, which versions that don't know them
ignore.
"""

from __future__ import annotations

import base64
import calendar
import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from exporter.config.files import UnreadableError, read_bytes, shown_path
from exporter.polling.snapshot import EARLIEST_SECONDS, FUTURE_SECONDS, FactorSnapshot
from exporter.polling.status_history import SavedHistory, whole
from exporter.watched import FactorKey

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

ListedName: TypeAlias = tuple[str, str, str]

FORMAT = "verify-factor-exporter state"
VERSION = 1
LARGEST_BYTES = 1 << 30
_MODE = 0o600
_ABANDONED_SECONDS = 600.0
_CHUNK_LINES = 1000
_REPLACED = "the next save writes a new one"
_NEVER_LISTED: Mapping[ListedName, float] = MappingProxyType({})
_REFUSED_KEPT = 3
_REFUSED_TIME = "%Y%m%dT%H%M%SZ"


class StateFileError(Exception):
    """An unusable state file; the message names it, the problem and a hint."""

    def __init__(self, path: Path, problem: str, hint: str) -> None:
        super().__init__(f"{shown_path(path)}: {problem}; {hint}")


@dataclass(frozen=True, slots=True)
class SavedState:
    """The content of a state file: snapshots by key, when it was saved (wall seconds), and the unusable lines.

    ``last_listed`` is when entities were last listed completely (wall seconds), by (account, service SID, name).
    ``history`` has the changes of the factors that have a snapshot; ``None`` where there is no readable one.
    """

    snapshots: Mapping[FactorKey, FactorSnapshot] = field(repr=False)
    saved_seconds: float
    skipped: int = 0
    last_listed: Mapping[ListedName, float] = field(default_factory=dict, repr=False)
    history: SavedHistory | None = field(default=None, repr=False)


def write(
    path: Path,
    saved_seconds: float,
    snapshots: Iterable[tuple[FactorKey, FactorSnapshot]],
    last_listed: Mapping[ListedName, float] = _NEVER_LISTED,
    history: SavedHistory | None = None,
) -> int:
    """Write the file atomically; return its size in bytes. Raises StateFileError.

    May run in a thread. Only a regular file is replaced; of a symlink the target is, not the link.
    """
    return replace_file(path, _content(saved_seconds, snapshots, last_listed, history))


def replace_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file of mode 0600 that replaces the old one when complete; return its size in bytes.

    Raises StateFileError. A symlink is followed.
    """
    target = Path(os.path.realpath(path))
    _require_regular(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        size = _write_beside(beside, chunks)
        beside.replace(target)
        _sync(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        problem = error.strerror or type(error).__name__
        raise StateFileError(
            path, f"not writable ({problem})", "make its directory writable, with free space"
        ) from None
    return size


def _require_regular(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # missing: writing it reports any other problem
    if not stat.S_ISREG(mode):
        problem = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
        raise StateFileError(path, problem, "name a file in state.file")


def _write_beside(beside: Path, chunks: Iterable[bytes]) -> int:
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, _MODE)
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(descriptor)
        return file.tell()


def _content(
    saved_seconds: float,
    snapshots: Iterable[tuple[FactorKey, FactorSnapshot]],
    last_listed: Mapping[ListedName, float],
    history: SavedHistory | None,
) -> Iterator[bytes]:
    digest = hashlib.sha256()
    listed = [[*name, round(seconds, 3)] for name, seconds in last_listed.items()]
    header = {"format": FORMAT, "version": VERSION, "saved": round(saved_seconds, 3), "listed": listed}
    for chunk in _header(header, history):
        digest.update(chunk)
        yield chunk
    lines: list[bytes] = []
    for key, snapshot in snapshots:
        lines.append(_line([*key, snapshot.as_fields()]))
        if len(lines) == _CHUNK_LINES:
            chunk = b"".join(lines)
            digest.update(chunk)
            yield chunk
            lines = []
    chunk = b"".join(lines)
    digest.update(chunk)
    yield chunk
    yield digest.hexdigest().encode() + b"\n"


def _header(header: dict[str, object], history: SavedHistory | None) -> Iterator[bytes]:
    """Yield the line of the header in parts: encoding a long history at once would stop all other threads."""
    if history is None:
        yield _line(header)
        return
    times = {"since": history.since_seconds, "drift": history.drift_seconds}
    start = header | {"history": times | {"interruptions": history.interruptions, "changes": []}}
    yield _json(start).removesuffix(b"]}}")
    separator = b""
    changes = iter(history.changes.items())
    while chunk := list(islice(changes, _CHUNK_LINES)):
        for group in _by_service(chunk):
            yield separator + _json(group)
            separator = b","
    yield b"]}}\n"


def _by_service(changes: Iterable[tuple[FactorKey, bytes]]) -> Iterator[list[object]]:
    """Yield an account, the SID of a service, and the packed changes of its factors by SID, for each service."""
    services: dict[tuple[str, str], dict[str, str]] = {}
    for key, packed in changes:
        services.setdefault(key[:2], {})[key.factor_sid] = base64.b64encode(packed).decode()
    for service, factors in services.items():
        yield [*service, factors]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _line(value: object) -> bytes:
    return _json(value) + b"\n"


def _sync(directory: Path) -> None:
    """Make the new name survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, now_wall: float) -> SavedState | None:
    """Return what the file holds, ``None`` if it is missing or empty; raises StateFileError for an unusable one.

    Implausible lines, such as one with a time in the future, are skipped and counted.
    """
    if _missing(path):
        return None
    try:
        content = read_bytes(path, limit=LARGEST_BYTES)
    except UnreadableError as error:
        raise StateFileError(path, error.problem, error.hint or "correct its permissions") from None
    if not content:
        return None
    body, header, saved_seconds = _checked(path, content)
    if saved_seconds > now_wall + FUTURE_SECONDS:
        problem = f"saved at {_shown_time(saved_seconds)}, in the future"
        raise StateFileError(path, problem, f"set the clock of this machine; {_REPLACED}")
    snapshots: dict[FactorKey, FactorSnapshot] = {}
    skipped = 0
    for line in body:
        entry = _entry(line)
        if entry is None or not entry[1].believable(now_wall):
            skipped += 1
        else:
            snapshots[entry[0]] = entry[1]
    history = _history(header.get("history"), snapshots)
    return SavedState(snapshots, saved_seconds, skipped, _last_listed(header.get("listed"), now_wall), history)


def _last_listed(entries: object, now_wall: float) -> dict[ListedName, float]:
    """Return when entities were last listed, without entries that are malformed or implausible."""
    found: dict[ListedName, float] = {}
    for entry in entries if isinstance(entries, list) else ():
        match entry:
            case [str() as account, str() as service_sid, str() as name, int() | float() as seconds]:
                if EARLIEST_SECONDS <= seconds <= now_wall + FUTURE_SECONDS:
                    found[account, service_sid, name] = float(seconds)
    return found


def _history(value: object, known: Container[FactorKey]) -> SavedHistory | None:
    """Return the history of known factors, ``None`` where any part of it is malformed: it would have gaps."""
    match value:
        case {"since": since, "drift": drift, "interruptions": list(interruptions), "changes": list(groups)}:
            try:
                changes = dict(change for group in groups for change in _changes(group) if change[0] in known)
                times = [(_seconds(start), _seconds(end)) for start, end in interruptions]
                return SavedHistory(_seconds(since), _seconds(drift), times, changes)
            except (ValueError, TypeError, OverflowError):
                return None
    return None


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _changes(group: object) -> Iterator[tuple[FactorKey, bytes]]:
    match group:
        case [str(account), str(service_sid), dict(factors)]:
            for factor_sid, encoded in factors.items():
                packed = base64.b64decode(encoded if isinstance(encoded, str) else "", validate=True)
                if not whole(packed):
                    raise ValueError
                yield FactorKey(account, service_sid, factor_sid), packed
        case _:
            raise ValueError


def _missing(path: Path) -> bool:
    """Return whether nothing is there; a symlink to nothing counts, and the first save creates its target."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # reading it reports why
    return False


def _shown_time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"second {seconds:.0f}"


def _checked(path: Path, content: bytes) -> tuple[list[bytes], dict[str, Any], float]:
    """Return the lines of the factors, the header, and when they were saved, if the file is whole and ours."""
    first, _, _ = content.partition(b"\n")
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StateFileError(path, "not a state file of this exporter", _REPLACED)
    if header.get("version") != VERSION:
        raise StateFileError(path, "written by another version", _REPLACED)
    head, _, tail = content[:-1].rpartition(b"\n")
    if not content.endswith(b"\n") or tail != hashlib.sha256(head + b"\n").hexdigest().encode():
        raise StateFileError(path, "truncated or modified", _REPLACED)
    saved = header.get("saved")
    if not isinstance(saved, int | float) or isinstance(saved, bool) or not math.isfinite(saved):
        raise StateFileError(path, "truncated or modified", _REPLACED)
    return head.split(b"\n")[1:], header, float(saved)


def _entry(line: bytes) -> tuple[FactorKey, FactorSnapshot] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(part, str) for part in value[:3]):
        return None
    snapshot = FactorSnapshot.from_fields(value[3])
    return None if snapshot is None else (FactorKey(*value[:3]), snapshot)


def keep_refused(path: Path, now_wall: float) -> Path | None:
    """Keep a file that isn't restored as ``FILE.refused-TIME`` (UTC); return that path. Raises StateFileError.

    The newest three are kept. Returns ``None`` where there is nothing to keep: no regular file. A file that is kept
    already gets no second name; it stays in its place too, where the file system has hard links.
    """
    target = Path(os.path.realpath(path))
    if not target.is_file():
        return None
    others = refused_files(path)
    for other in others:
        with contextlib.suppress(OSError):
            if other.samefile(target):
                return other
    refused = _refused_name(target, others, now_wall)
    try:
        try:
            os.link(target, refused)
        except OSError:  # a file system without hard links, or another user's file
            target.rename(refused)
    except OSError as error:
        problem = f"can't be kept as {shown_path(refused)} ({error.strerror or type(error).__name__})"
        raise StateFileError(path, problem, "make its directory writable, or move the file away") from None
    for other in others[: 1 - _REFUSED_KEPT]:
        with contextlib.suppress(OSError):
            other.unlink()
    return refused


def _refused_name(target: Path, others: list[Path], now_wall: float) -> Path:
    """Return a name that sorts after the others, whatever the clock says."""
    stamp = time.strftime(_REFUSED_TIME, time.gmtime(now_wall))
    newest = others[-1].name.rpartition("-")[2] if others else ""
    with contextlib.suppress(ValueError):  # not a time: renamed by hand
        if stamp <= newest:
            after = calendar.timegm(time.strptime(newest, _REFUSED_TIME)) + 1
            stamp = time.strftime(_REFUSED_TIME, time.gmtime(after))
    return target.with_name(f"{target.name}.refused-{stamp}")


def refused_files(path: Path) -> list[Path]:
    """Return the files that :func:`keep_refused` kept, oldest first."""
    target = Path(os.path.realpath(path))
    kept = re.compile(re.escape(f"{target.name}.refused-") + r"\d{8}T\d{6}Z")
    try:
        return sorted(beside for beside in target.parent.iterdir() if kept.fullmatch(beside.name))
    except OSError:
        return []


def remove_abandoned(path: Path, now_wall: float | None = None) -> int:
    """Remove the temporary files of killed writers; return how many there were.

    The file of a living process is kept, unless it is ten minutes old: the process ID may have been reused.
    """
    target = Path(os.path.realpath(path))
    ours = re.compile(re.escape(f".{target.name}.") + r"(\d+)\.[0-9a-f]{8}\.tmp")
    now = time.time() if now_wall is None else now_wall
    removed = 0
    with contextlib.suppress(OSError):
        for beside in target.parent.iterdir():
            found = ours.fullmatch(beside.name)
            if found is None:
                continue
            with contextlib.suppress(OSError):
                if not _lives(int(found[1])) or now - beside.stat().st_mtime > _ABANDONED_SECONDS:
                    beside.unlink()
                    removed += 1
    return removed


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
