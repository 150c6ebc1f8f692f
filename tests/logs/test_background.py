"""Lines that a thread writes: in order, none lost while somebody reads, and nobody waits."""

from __future__ import annotations

import io
import os
import threading

import pytest

from exporter.logs.background import BackgroundWriter
from tests.support.processes import PATIENCE_SECONDS
from tests.support.unread_pipe import PIPE_BYTES, unread_pipe


def numbered(count: int) -> list[str]:
    return [f"line {number} {'x' * 80}" for number in range(count)]


def test_lines_come_out_in_order_and_all_of_them() -> None:
    stream = io.StringIO()
    writer = BackgroundWriter(stream)
    for line in numbered(1000):
        writer.write(f"{line}\n")
    writer.close(PATIENCE_SECONDS)
    writer.write("after the end\n")
    assert stream.getvalue().splitlines() == [*numbered(1000), "after the end"]
    assert writer.dropped == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_lines_wait_for_a_reader_and_the_newest_are_dropped_and_counted(blocking: bool) -> None:
    with unread_pipe() as pipe:
        os.set_blocking(pipe.write_end.fileno(), blocking)
        writer = BackgroundWriter(pipe.write_end, most_characters=2 * PIPE_BYTES)
        for line in numbered(1000):
            writer.write(f"{line}\n")
        writer.close(0.01)  # nobody reads: it gives up
        dropped = writer.dropped
        assert 0 < dropped < 1000

        read = [int(pipe.line().split()[1]) for _ in range(1000 - dropped)]
        assert read == sorted(read)
        assert read[:10] == list(range(10)), "the oldest ones waited"
        writer.close(PATIENCE_SECONDS)
        writer.write("somebody reads\n")
        assert pipe.rest() == ["somebody reads"]
        assert writer.dropped == dropped


def test_every_line_is_written_or_counted_whoever_logs() -> None:
    with unread_pipe() as pipe:
        writer = BackgroundWriter(pipe.write_end, most_characters=PIPE_BYTES)

        def work() -> None:
            for _ in range(500):
                writer.write("x" * 99 + "\n")

        loggers = [threading.Thread(target=work) for _ in range(2)]
        for thread in loggers:
            thread.start()
        for thread in loggers:
            thread.join()
        read = [pipe.line() for _ in range(1000 - writer.dropped)]
        writer.close(PATIENCE_SECONDS)
        assert read == ["x" * 99 + "\n"] * (1000 - writer.dropped)
        assert pipe.rest() == []


def test_a_reader_that_is_gone_and_a_closed_stream_lose_lines_and_harm_nobody() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w", encoding="utf-8") as stream:
        gone, closed = BackgroundWriter(stream), BackgroundWriter(None)
        for writer in (gone, closed):
            writer.write("one\n")
            writer.write("two\n")
            writer.flush()
            writer.close(PATIENCE_SECONDS)
            writer.write("three\n")
            assert writer.dropped == 3


def test_what_the_encoding_lacks_is_escaped() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as reader, os.fdopen(write_end, "w", encoding="ascii") as stream:
        writer = BackgroundWriter(stream)
        writer.write("é\n")
        writer.close(PATIENCE_SECONDS)
        assert reader.readline() == b"\\xe9\n"
