"""When files that are read again and again have content worth loading; pure, with time passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.daemon.reload import RETRY_SECONDS, ContentWatch


def test_the_content_in_force_is_not_read_again() -> None:
    watch = ContentWatch("a")
    assert not any(watch.changed("a", now) for now in range(0, 1000, 5))


def test_new_content_is_loaded_when_two_readings_agree() -> None:
    watch = ContentWatch("a")
    assert not watch.changed("b", 0)
    assert watch.changed("b", 5)
    watch.applied("b")
    assert not watch.changed("b", 10)


def test_a_file_that_is_still_written_is_left_alone() -> None:
    watch = ContentWatch("a")
    assert not any(watch.changed(content, 0) for content in ("b", "bc", "bcd", "a", "b"))
    assert watch.changed("b", 5)


def test_a_refused_content_is_tried_again_each_minute() -> None:
    watch = ContentWatch("a")
    watch.changed("b", 0)
    assert watch.changed("b", 5)
    watch.refused(5)
    assert not any(watch.changed("b", now) for now in range(10, int(5 + RETRY_SECONDS), 5))
    assert watch.changed("b", 5 + RETRY_SECONDS)
    watch.refused(5 + RETRY_SECONDS)
    assert not watch.changed("b", 10 + RETRY_SECONDS)


def test_a_third_content_is_read_at_once_after_a_refusal() -> None:
    watch = ContentWatch("a")
    watch.changed("b", 0)
    watch.changed("b", 5)
    watch.refused(5)
    assert not watch.changed("c", 10)
    assert watch.changed("c", 15)


def test_restoring_the_old_content_ends_a_refusal() -> None:
    watch = ContentWatch("a")
    watch.changed("b", 0)
    watch.changed("b", 5)
    watch.refused(5)
    assert not watch.changed("a", 10)
    assert watch.changed("a", 15)
    watch.applied("a")
    assert not watch.changed("a", 20)


@given(st.lists(st.sampled_from("abc"), max_size=40), st.sets(st.sampled_from("bc")))
def test_what_is_read_was_seen_twice_in_a_row(contents: list[str], bad: set[str]) -> None:
    watch, in_force, before = ContentWatch("a"), "a", "a"
    for number, content in enumerate(contents):
        if watch.changed(content, number * 5.0):
            assert content == before
            if content in bad:
                watch.refused(number * 5.0)
            else:
                watch.applied(content)
                in_force = content
        elif content == before and content != in_force:
            assert content in bad, "seen twice and not read"
        before = content
