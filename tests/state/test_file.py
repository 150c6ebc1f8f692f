"""The state file: whole or refused, readable by its owner alone, and never in the way of another's file."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.polling.snapshot import FactorSnapshot
from exporter.polling.status_history import CHANGE_BYTES, MOST_CHANGES, SavedHistory
from exporter.state import file as statefile
from exporter.state.file import StateFileError, keep_refused, read, refused_files, remove_abandoned, write
from exporter.verify.outcome import Status
from exporter.watched import FactorKey
from tests.support.factors import key
from tests.support.snapshots import NOW, snapshots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KNOWN = [(key(n), FactorSnapshot(status=Status.VERIFIED, answered_seconds=NOW - n)) for n in range(3)]
on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.jsonl"


@pytest.mark.slow
@on_disk
@given(st.dictionaries(st.builds(FactorKey, st.text(), st.text(), st.text()), snapshots, max_size=5))
def test_what_is_written_is_read_back(path: Path, known: dict[FactorKey, FactorSnapshot]) -> None:
    size = write(path, NOW, known.items())
    remembered = read(path, NOW)
    assert remembered is not None
    assert remembered.snapshots == known
    assert (remembered.saved_seconds, remembered.skipped) == (NOW, 0)
    assert size == path.stat().st_size


@on_disk
@given(
    st.dictionaries(st.tuples(st.text(), st.text(), st.text()), st.integers(1_000_000_000, int(NOW)), max_size=5)
)
def test_when_entities_were_listed_is_read_back(path: Path, listed: dict[tuple[str, str, str], float]) -> None:
    write(path, NOW, KNOWN, listed)
    saved = read(path, NOW)
    assert saved is not None
    assert saved.last_listed == listed
    assert saved.snapshots == dict(KNOWN)


@pytest.mark.parametrize(
    "listed",
    [
        None,
        "text",
        {"main": 1},
        [["main", "VA1", "ops"]],
        [["main", "VA1", "ops", "now"]],
        [["main", "VA1", 1, NOW]],
        [["main", "VA1", "ops", NOW + 86_400]],
        [["main", "VA1", "ops", 0]],
        [["main", "VA1", "ops", True]],
    ],
)
def test_what_says_nothing_about_listings_is_ignored(path: Path, listed: object) -> None:
    path.write_bytes(sealed(listed=listed))
    saved = read(path, NOW)
    assert saved is not None
    assert (saved.last_listed, saved.skipped) == ({}, 0)


def test_a_file_from_before_listings_were_saved_is_read(path: Path) -> None:
    path.write_bytes(sealed([*key(1), {"status": "verified", "answered_seconds": NOW}]))
    saved = read(path, NOW)
    assert saved is not None
    assert (set(saved.snapshots), saved.last_listed) == ({key(1)}, {})


def test_a_missing_file_is_no_fault(path: Path) -> None:
    assert read(path, NOW) is None


def test_an_empty_file_and_a_link_to_none_are_a_fresh_start(path: Path) -> None:
    path.touch()
    assert read(path, NOW) is None
    path.unlink()
    path.symlink_to("nowhere")
    assert read(path, NOW) is None


def test_it_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        write(path, NOW, KNOWN)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_lines_are_written_in_chunks(path: Path) -> None:
    known = [(key(n), FactorSnapshot(status=Status.VERIFIED, answered_seconds=NOW)) for n in range(2500)]
    write(path, NOW, known)
    remembered = read(path, NOW)
    assert remembered is not None
    assert len(remembered.snapshots) == 2500


@on_disk
@given(st.integers(0, 10_000))
def test_one_that_is_cut_short_is_refused(path: Path, length: int) -> None:
    write(path, NOW, KNOWN)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, length % len(content))])
    with pytest.raises(StateFileError):
        read(path, NOW)


@on_disk
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_with_a_changed_byte_is_refused(path: Path, place: int, change: int) -> None:
    write(path, NOW, KNOWN)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    with pytest.raises(StateFileError):
        read(path, NOW)


def sealed(*lines: object, version: int = 1, **header: object) -> bytes:
    """Return a file with a good checksum, whatever is in it."""
    first = {"format": statefile.FORMAT, "version": version, "saved": NOW} | header
    body = b"".join(json.dumps(line).encode() + b"\n" for line in (first, *lines))
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[polling]\ninterval = '5m'\n", "not a state file of this exporter"),
        (b'{"format": "another"}\n', "not a state file of this exporter"),
        (b"[" * 5000, "not a state file of this exporter"),
        (b"\0" * 5000, "not a state file of this exporter"),
        (sealed(version=2), "written by another version"),
        (sealed()[:-1], "truncated or modified"),
        (sealed(saved="now"), "truncated or modified"),
        (sealed(saved=True), "truncated or modified"),
        (sealed(saved=float("nan")), "truncated or modified"),
        (sealed(saved=NOW + 86_400), r"saved at 2027-01-16 08:00:00 UTC, in the future; set the clock"),
        (sealed(saved=1e300), "in the future"),
    ],
)
def test_refusals(path: Path, content: bytes, problem: str) -> None:
    path.write_bytes(content)
    with pytest.raises(StateFileError, match=problem) as refused:
        read(path, NOW)
    assert str(path) in str(refused.value)


def test_a_clock_a_little_behind_is_none_in_the_past(path: Path) -> None:
    path.write_bytes(sealed(saved=NOW + 4))
    assert read(path, NOW) is not None
    path.write_bytes(sealed(saved=NOW + 6))
    with pytest.raises(StateFileError):
        read(path, NOW)


@pytest.mark.parametrize("kind", ["pipe", "directory", "loop"])
def test_what_is_no_file_blocks_nobody_and_stays(path: Path, kind: str) -> None:
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(path.name)
    with pytest.raises(StateFileError, match=str(path)):
        read(path, NOW)
    assert keep_refused(path, NOW) is None
    if kind != "loop":  # its replacement is none of the link's targets
        with pytest.raises(StateFileError, match=r"name a file in state\.file"):
            write(path, NOW, KNOWN)
        assert not path.is_file()
    assert {one.name for one in path.parent.iterdir()} == {path.name}


def test_a_refused_file_is_kept_and_the_next_save_loses_nothing(path: Path) -> None:
    path.write_text("first")
    kept = keep_refused(path, 1_795_852_528.9)
    assert kept == path.with_name("state.jsonl.refused-20261128T075528Z")
    assert keep_refused(path, 1_795_852_600.0) == kept, "it is the same file"
    write(path, NOW, KNOWN)
    assert kept is not None
    assert kept.read_text() == "first"
    assert keep_refused(path.with_name("missing"), NOW) is None


def test_the_newest_three_refused_files_are_kept(path: Path) -> None:
    other = path.with_name("state.jsonl.refused-by-hand")
    other.touch()
    for number in range(5):
        beside = path.with_name("new")
        beside.write_text(str(number))
        beside.replace(path)
        keep_refused(path, NOW)  # all of them in one second
    assert [kept.read_text() for kept in refused_files(path)] == ["2", "3", "4"]
    path.with_name("new").write_text("5")
    path.with_name("new").replace(path)
    kept = keep_refused(path, NOW - 86_400)
    assert kept is not None
    assert kept.read_text() == "5", "the clock is behind, but it is the newest"
    assert refused_files(path)[-1] == kept
    assert len(refused_files(path)) == 3
    assert other.exists()
    assert refused_files(path.parent / "nowhere" / "state") == []


def test_without_hard_links_a_refused_file_is_moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    path.write_text("first")
    monkeypatch.setattr(os, "link", fail)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", fail)
        with pytest.raises(StateFileError, match="can't be kept as"):
            keep_refused(path, NOW)
    kept = keep_refused(path, NOW)
    assert kept is not None
    assert kept.read_text() == "first"
    assert not path.exists()


def test_one_that_is_too_large_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, NOW, KNOWN)
    monkeypatch.setattr(statefile, "LARGEST_BYTES", 10)
    with pytest.raises(StateFileError, match="larger than"):
        read(path, NOW)


def test_lines_that_cannot_be_are_left_out_and_counted(path: Path) -> None:
    good = [*key(1), {"status": "verified", "answered_seconds": NOW}]
    future = [*key(2), {"status": "verified", "answered_seconds": NOW + 100}]
    path.write_bytes(sealed(good, future, [], "x", [1, 2, 3, {}], [*key(3), {"status": "odd"}], [*key(4)]))
    remembered = read(path, NOW)
    assert remembered is not None
    assert list(remembered.snapshots) == [key(1)]
    assert remembered.skipped == 6


def test_a_line_that_is_no_json_is_left_out(path: Path) -> None:
    body = json.dumps({"format": statefile.FORMAT, "version": 1, "saved": NOW}).encode() + b"\nnot json\n"
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode() + b"\n")
    remembered = read(path, NOW)
    assert remembered is not None
    assert remembered.skipped == 1


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_write_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write(path, NOW, KNOWN[:1])
    before = path.read_bytes()

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def known() -> Iterator[tuple[FactorKey, FactorSnapshot]]:
        yield from KNOWN
        if call == "write":
            fail()

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", fail)
        with pytest.raises(StateFileError, match=r"not writable \(No space left on device\); make its directory"):
            write(path, NOW, known())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="No such file or directory"):
        write(tmp_path / "nowhere" / "state", NOW, KNOWN)


def test_a_symlink_stays_one(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    link = tmp_path / "state"
    link.symlink_to("volume/state")
    write(link, NOW, KNOWN)
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "volume").iterdir()] == ["state"]


def test_what_killed_writers_left_is_swept(path: Path) -> None:
    write(path, NOW, KNOWN)
    dead, alive = 2**22 + 1, os.getppid()
    left = [
        path.with_name(f".{path.name}.{dead}.0123abcd.tmp"),
        path.with_name(f".{path.name}.{alive}.0123abcd.tmp"),
    ]
    others = [path.with_name(name) for name in (".other.1.0123abcd.tmp", f".{path.name}.tmp", "state.jsonl.1.tmp")]
    for one in (*left, *others):
        one.touch()
    assert remove_abandoned(path) == 1
    assert not left[0].exists()
    assert left[1].exists()
    assert remove_abandoned(path, time.time() + 601) == 1
    assert {one.name for one in path.parent.iterdir()} == {path.name, *(one.name for one in others)}


def test_nothing_to_sweep_where_there_is_no_directory(tmp_path: Path) -> None:
    assert remove_abandoned(tmp_path / "nowhere" / "state") == 0


packed_changes = st.integers(1, MOST_CHANGES).flatmap(
    lambda count: st.binary(min_size=count * CHANGE_BYTES, max_size=count * CHANGE_BYTES)
)
times = st.floats(-1e10, 1e10)
histories = st.builds(
    SavedHistory,
    times,
    times,
    st.lists(st.tuples(times, times), max_size=3),
    st.dictionaries(st.sampled_from([key(n) for n in range(3)]), packed_changes),
)


@on_disk
@given(histories, st.integers(1, 4))
def test_the_history_is_read_back(path: Path, history: SavedHistory, lines: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statefile, "_CHUNK_LINES", lines)
        size = write(path, NOW, KNOWN, history=history)
    saved = read(path, NOW)
    assert saved is not None
    assert saved.history is not None
    assert saved.history == history
    assert (saved.snapshots, saved.skipped, size) == (dict(KNOWN), 0, path.stat().st_size)


def test_the_history_of_an_unknown_factor_is_left_out(path: Path) -> None:
    changes = {key(n): bytes(CHANGE_BYTES) for n in (1, 7)}
    write(path, NOW, KNOWN, history=SavedHistory(NOW, 0.0, [], changes))
    saved = read(path, NOW)
    assert saved is not None
    assert saved.history == SavedHistory(NOW, 0.0, [], {key(1): bytes(CHANGE_BYTES)})


GOOD_HISTORY = {"since": NOW, "drift": 0.5, "interruptions": [[NOW, NOW]], "changes": [[*key(1)[:2], {}]]}
CHANGE = base64.b64encode(bytes(CHANGE_BYTES)).decode()


@pytest.mark.parametrize(
    "history",
    [
        None,
        "text",
        [],
        {},
        GOOD_HISTORY | {"since": None},
        GOOD_HISTORY | {"drift": "0"},
        GOOD_HISTORY | {"since": float("nan")},
        GOOD_HISTORY | {"since": 10**400},
        GOOD_HISTORY | {"interruptions": [[NOW]]},
        GOOD_HISTORY | {"interruptions": [NOW]},
        GOOD_HISTORY | {"interruptions": [[NOW, None]]},
        GOOD_HISTORY | {"changes": {}},
        GOOD_HISTORY | {"changes": [["main"]]},
        GOOD_HISTORY | {"changes": [[*key(1)[:2], {"YF1": 1}]]},
        GOOD_HISTORY | {"changes": [[*key(1)[:2], {"YF1": ""}]]},
        GOOD_HISTORY | {"changes": [[*key(1)[:2], {"YF1": "AAAA"}]]},
        GOOD_HISTORY | {"changes": [[*key(1)[:2], {"YF1": CHANGE[:-1] + "ü"}]]},
        GOOD_HISTORY | {"changes": [[*key(1)[:2], {"YF1": CHANGE * (MOST_CHANGES + 1)}]]},
    ],
)
def test_a_malformed_history_is_none(path: Path, history: object) -> None:
    """Without one part, the rest would claim more than was observed."""
    path.write_bytes(sealed([*key(1), {"status": "verified", "answered_seconds": NOW}], history=history))
    saved = read(path, NOW)
    assert saved is not None
    assert (set(saved.snapshots), saved.history, saved.skipped) == ({key(1)}, None, 0)
    path.write_bytes(sealed(history=GOOD_HISTORY))
    saved = read(path, NOW)
    assert saved is not None
    assert saved.history == SavedHistory(NOW, 0.5, [(NOW, NOW)], {})


def test_a_version_without_histories_reads_the_file_as_before(path: Path) -> None:
    """It ignores keys of the header that it doesn't know, and would refuse any other line."""
    write(path, NOW, KNOWN)
    before = path.read_bytes().splitlines()
    write(path, NOW, KNOWN, history=SavedHistory(NOW, 0.0, [(NOW, NOW)], {key(1): bytes(CHANGE_BYTES)}))
    after = path.read_bytes().splitlines()
    assert before[1:-1] == after[1:-1]
    header = json.loads(after[0])
    assert header.pop("history")
    assert header == json.loads(before[0])
    path.write_bytes(sealed([*key(1), {"status": "verified", "answered_seconds": NOW}], of_a_later_version=[1]))
    saved = read(path, NOW)
    assert saved is not None
    assert (set(saved.snapshots), saved.skipped) == ({key(1)}, 0)


def test_a_change_takes_few_bytes_in_the_file(path: Path) -> None:
    keys = [key(number) for number in range(1000)]
    known = [(one, FactorSnapshot(status=Status.VERIFIED, answered_seconds=NOW)) for one in keys]
    sizes = [
        write(path, NOW, known, history=SavedHistory(NOW, 0.0, [], dict.fromkeys(keys, bytes(CHANGE_BYTES * n))))
        for n in (1, 5)
    ]
    without = write(path, NOW, known, history=SavedHistory(NOW, 0.0, [], {}))
    assert (sizes[1] - sizes[0]) / 4 == 8 * len(keys)
    assert sizes[0] - without < 50 * len(keys)
