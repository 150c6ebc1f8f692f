"""What is logged again and again: in full once, then as a count, and its end in a line."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.daemon import daemon, reload
from exporter.logs import events
from exporter.logs.folding import REPEAT_SECONDS, Folding, FullLogger, Line
from exporter.logs.output import LogOutput, Redactor, configure, fields

if TYPE_CHECKING:
    from collections.abc import Iterator


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Book:
    """A log with a clock of its own, and what was written since the last reading."""

    def __init__(self, output: LogOutput, stream: io.StringIO, time: Time) -> None:
        self.output = output
        self.time = time
        self._stream = stream

    def written(self) -> list[dict[str, Any]]:
        lines = self._stream.getvalue().splitlines()
        self._stream.truncate(0)
        self._stream.seek(0)
        return [{k: v for k, v in json.loads(line).items() if k not in ("ts", "logger")} for line in lines]


@pytest.fixture
def book() -> Iterator[Book]:
    """Configure the log as ``run`` does; all is as before after the test."""
    root, ours = logging.getLogger(), logging.getLogger("exporter")
    before = root.handlers[:], root.level, ours.level
    time, stream = Time(), io.StringIO()
    output = configure(level="info", style="json", redact=Redactor(), stream=stream, steady=time)
    yield Book(output, stream, time)
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


library = logging.getLogger("some.library")


def test_the_first_is_in_full_and_the_rest_a_count(book: Book) -> None:
    for second in range(600):
        book.time.now = float(second)
        library.warning("disk %s", "full", extra=fields(device="sda"))
        if second % 10 == 0:
            book.output.flush()
    lines = book.written()
    assert [line.get("repeated") for line in lines] == [None, 300]
    assert {(line["level"], line["msg"], line["device"]) for line in lines} == {("warning", "disk full", "sda")}


def test_what_stopped_is_counted_and_its_end_logged_once(book: Book) -> None:
    for _ in range(4):
        library.error("broken pipe")
    book.written()
    book.time.now = REPEAT_SECONDS - 1
    book.output.flush()
    assert book.written() == []
    book.time.now = REPEAT_SECONDS
    book.output.flush()
    book.output.flush()
    assert book.written() == [
        {"level": "error", "msg": "broken pipe", "repeated": 3},
        {
            "level": "info",
            "msg": "log message not repeated for five minutes",
            "stopped": "broken pipe",
            "from": "some.library",
            "times": 4,
        },
    ]
    library.error("broken pipe")
    assert book.written() == [{"level": "error", "msg": "broken pipe"}], "the next time is news again"


def test_what_happened_once_has_no_second_line(book: Book) -> None:
    library.warning("once")
    book.time.now = REPEAT_SECONDS
    book.output.flush()
    assert [line["msg"] for line in book.written()] == ["once"]


def test_different_events_are_not_collapsed_together(book: Book) -> None:
    for _ in range(2):
        library.warning("a %d", 1)
        library.warning("a %d", 2)
        library.error("a %d", 1)
        logging.getLogger("another").warning("a %d", 1)
        library.warning("a 1", extra=fields(account="x"))
        try:
            raise ValueError  # noqa: TRY301  for the traceback
        except ValueError:
            library.exception("a 1")
    assert len(book.written()) == 6


@pytest.mark.parametrize("log", [events.log, reload.log, daemon.log], ids=lambda log: log.logger.name)
def test_what_is_collapsed_already_or_was_requested_is_always_written(book: Book, log: FullLogger) -> None:
    for _ in range(3):
        log.warning("requested", extra=fields(account="x"))
    assert [line["account"] for line in book.written()] == ["x", "x", "x"]


def test_two_outputs_collapse_and_flush_apart(book: Book) -> None:
    stream = io.StringIO()
    other = LogOutput(style="json", redact=Redactor(), stream=stream, steady=book.time)
    for _ in range(3):
        record = library.makeRecord(library.name, logging.WARNING, "", 0, "again", (), None)
        other.handler.handle(record)
    book.output.flush(at_the_end=True)
    assert book.written() == [], "what another one collapsed"
    library.warning("again")
    assert len(book.written()) == 1, "new here, whatever another output has written"
    other.flush(at_the_end=True)
    assert [json.loads(line).get("repeated") for line in stream.getvalue().splitlines()] == [None, 2]
    assert book.written() == []


def test_two_outputs_count_the_same_repeats(book: Book) -> None:
    stream = io.StringIO()
    other = LogOutput(style="json", redact=Redactor(), stream=stream, steady=book.time)
    logging.getLogger().addHandler(other.handler)
    for second in range(0, 2 * int(REPEAT_SECONDS) + 1, 100):
        book.time.now = float(second)
        library.warning("disk full", extra=fields(device="sda"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("repeated") for line in book.written()] == [None, 3, 3]
    assert [line.get("repeated") for line in lines] == [None, 3, 3]


def test_at_level_debug_nothing_is_collapsed(book: Book) -> None:
    logging.getLogger("exporter").setLevel(logging.DEBUG)
    for _ in range(3):
        library.warning("again")
    assert len(book.written()) == 3


def test_information_is_never_collapsed(book: Book) -> None:
    for _ in range(3):
        logging.getLogger("exporter.polling").info("so it is")
    assert len(book.written()) == 3


def test_at_the_end_all_counts_are_logged(book: Book) -> None:
    for _ in range(3):
        library.warning("again")
    book.output.flush(at_the_end=True)
    book.output.flush(at_the_end=True)
    assert [line.get("repeated") for line in book.written()] == [None, 2]


def test_a_message_whose_arguments_do_not_fit_is_collapsed_too(book: Book) -> None:
    logging.getLogger().handlers[:] = [book.output.handler]  # pytest's own raises
    for _ in range(3):
        library.warning("%s %s", "one")
    [line] = book.written()
    assert line["msg"].startswith("log message not formatted")


def test_a_level_that_is_not_heard_has_no_end_either(book: Book) -> None:
    for _ in range(2):
        library.error("broken")
    logging.getLogger("exporter").setLevel(logging.ERROR)
    book.time.now = REPEAT_SECONDS
    book.output.flush()
    assert [line["level"] for line in book.written()] == ["error", "error"]


# The mechanism


def test_no_more_keys_are_known_than_allowed_and_no_count_is_lost() -> None:
    time = Time()
    folding: Folding[int] = Folding(time, most=10)
    for key in range(100):
        folding.happened(key)
        folding.happened(key)
    assert len(folding) == 10
    counts = list(folding.overdue(all_of_them=True))
    assert len(counts) == 20, "as many dropped counts are kept"
    assert {count.collapsed for count in counts} == {1}
    assert list(folding.overdue(all_of_them=True)) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 400), st.booleans()), max_size=80))
def test_every_event_is_written_in_full_or_counted_once(happened: list[tuple[int, bool, float, bool]]) -> None:
    time = Time()
    folding: Folding[int] = Folding(time, full_lines=2)
    reported = dict.fromkeys(range(4), 0)
    for key, news, wait, flush in happened:
        time.now += wait
        line = folding.happened(key, new=news)
        assert line.again or line in (Line(0), Line(1))
        reported[key] += line.times
        if flush:
            for count in folding.overdue():
                reported[count.key] += count.collapsed
    for count in folding.overdue(all_of_them=True):
        reported[count.key] += count.collapsed
    assert reported == {key: sum(event[0] == key for event in happened) for key in range(4)}


def test_a_count_never_stands_for_what_is_new() -> None:
    time = Time()
    folding: Folding[str] = Folding(time)
    assert folding.happened("a", new=True) == Line(1)
    assert folding.happened("a", new=False) == Line(0)
    time.now = REPEAT_SECONDS + 100
    assert folding.happened("a", new=True) == Line(1)
    assert [count.collapsed for count in folding.overdue(all_of_them=True)] == [1]


def test_those_who_are_quiet_are_forgotten() -> None:
    time = Time()
    folding: Folding[str] = Folding(time)
    folding.happened("a")
    time.now = 200
    folding.happened("b")
    folding.happened("a")
    time.now = 499
    assert list(folding.quiet()) == []
    time.now = 500
    assert sorted((count.key, count.total) for count in folding.quiet()) == [("a", 2), ("b", 1)]
    assert len(folding) == 0
    assert folding.over("a") == 0


def test_the_documentation_has_the_words_of_the_lines(pytestconfig: pytest.Config) -> None:
    root = pytestconfig.rootpath
    _, _, page = (root / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Read the log")
    section, _, _ = page.partition("\n## ")
    code = "".join(
        (root / "exporter/logs" / name).read_text(encoding="utf-8") for name in ("events.py", "folding.py")
    )
    words = re.findall(r"`([a-z' ]+ [a-z' ]+)`", section)
    assert len(words) >= 7
    assert [word for word in words if f'"{word}"' not in code] == []
