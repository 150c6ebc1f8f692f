"""Collapsing of repeated log lines: the first is written in full, the rest as a count every five minutes.

No clock and no output of its own: time is passed in, and what to write is returned.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, MutableMapping

_LONGEST_KEY = 500
_IN_FULL = "in_full"  # the attribute of a record that is never collapsed


class FullLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines are never collapsed.

    For a module that collapses its events itself, or that answers a request: whoever sent it waits for the line.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Mark the record."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), _IN_FULL: True}}


class _Event(NamedTuple):
    """What makes two records the same event."""

    logger: str
    level: int
    message: str
    fields: str
    error: str


class Repeats:
    """Passes a warning or an error in full once, then every five minutes with a count, the field ``repeated``.

    At level debug everything passes, and the lines of a :class:`FullLogger` always do. ``steady`` gives seconds of
    a monotonic clock. A record is never changed, because other outputs get the same one.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._folding: Folding[_Event] = Folding(steady)
        self._lock = threading.Lock()

    def written(self, record: logging.LogRecord) -> logging.LogRecord | None:
        """Return what is written of a record: itself, a copy with its count, or nothing."""
        if record.levelno < logging.WARNING or hasattr(record, _IN_FULL):
            return record
        if logging.getLogger("exporter").isEnabledFor(logging.DEBUG):
            return record  # the debug log is complete
        with self._lock:
            line = self._folding.happened(_event_of(record))
        if line.times == 0:
            return None
        if line.again and line.times > 1:
            record = copy(record)
            record.__dict__["fields"] = {**getattr(record, "fields", {}), "repeated": line.times}
        return record

    def due(self, *, at_the_end: bool = False) -> Iterator[logging.LogRecord]:
        """Yield records with the counts of five minutes, or all counts, and with what has stopped."""
        with self._lock:
            counts = list(self._folding.overdue(all_of_them=at_the_end))
            stopped = [count for count in self._folding.quiet() if count.total > 1]
        for event, collapsed, _ in counts:
            yield _record(event.logger, event.level, event.message, repeated=collapsed)
        for event, _, total in stopped:
            details = {"stopped": event.message, "from": event.logger, "times": total}
            yield _record(__name__, logging.INFO, "log message not repeated for five minutes", **details)


def _event_of(record: logging.LogRecord) -> _Event:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - the formatter reports it
        message = str(record.msg)
    error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    details = str(getattr(record, "fields", ""))
    return _Event(record.name, record.levelno, message[:_LONGEST_KEY], details[:_LONGEST_KEY], error)


def _record(logger: str, level: int, message: str, **values: object) -> logging.LogRecord:
    record = logging.LogRecord(logger, level, "", 0, message, None, None)
    record.__dict__.update({"fields": values, _IN_FULL: True})
    return record


K = TypeVar("K", bound="Hashable")

REPEAT_SECONDS = 300.0
MOST_EPISODES = 1000


class Line(NamedTuple):
    """How one event is written: for so many ``times``, 0 if not at all; ``again`` as a count and not in full."""

    times: int
    again: bool = False


NOTHING = Line(0)
IN_FULL = Line(1)


class Count(NamedTuple, Generic[K]):
    """How many events of a key were collapsed since its last line, and how many there were in all."""

    key: K
    collapsed: int
    total: int


@dataclass(slots=True)
class _Episode:
    """The events of a key, from the first one until it ends or falls silent."""

    written_at: float
    last_at: float
    full: int = 0
    collapsed: int = 0
    total: int = 0


class Folding(Generic[K]):
    """Decides which events of many keys are written; ``steady`` gives seconds of a monotonic clock.

    In every five minutes the first ``full_lines`` new events are written in full. At most ``most`` keys are kept:
    beyond that the key that was silent for longest is dropped, and its count is part of the next counts.
    """

    def __init__(self, steady: Callable[[], float], *, full_lines: int = 1, most: int = MOST_EPISODES) -> None:
        self._steady = steady
        self._full_lines = full_lines
        self._most = most
        self._episodes: OrderedDict[K, _Episode] = OrderedDict()
        self._dropped: deque[Count[K]] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._episodes)

    def happened(self, key: K, *, new: bool | None = None) -> Line:
        """Take one more event and return how it is written; only a ``new`` one is ever written in full.

        By default the first event of a key is new.
        """
        now = self._steady()
        episode = self._episodes.get(key)
        new = episode is None if new is None else new
        if episode is None:
            if len(self._episodes) >= self._most:
                self._drop(*self._episodes.popitem(last=False))
            episode = self._episodes[key] = _Episode(written_at=now, last_at=now)
        self._episodes.move_to_end(key)
        episode.last_at = now
        episode.total += 1
        if now - episode.written_at >= REPEAT_SECONDS and new:
            episode.written_at, episode.full = now, 0  # a new event is never part of a count
        elif now - episode.written_at >= REPEAT_SECONDS:
            line = Line(episode.collapsed + 1, again=True)
            episode.written_at, episode.full, episode.collapsed = now, 0, 0
            return line
        if new and episode.full < self._full_lines:
            episode.full += 1
            return IN_FULL
        episode.collapsed += 1
        return NOTHING

    def _drop(self, key: K, episode: _Episode) -> None:
        if episode.collapsed:
            self._dropped.append(Count(key, episode.collapsed, episode.total))

    def over(self, key: K) -> int:
        """End the episode of a key; return how many events there were, 0 if there were none."""
        episode = self._episodes.pop(key, None)
        return 0 if episode is None else episode.total

    def quiet(self) -> Iterator[Count[K]]:
        """End and yield every episode without an event for five minutes."""
        now = self._steady()
        for key, episode in list(self._episodes.items()):
            if now - episode.last_at < REPEAT_SECONDS:
                break  # episodes are in the order of their last event
            del self._episodes[key]
            yield Count(key, episode.collapsed, episode.total)

    def overdue(self, *, all_of_them: bool = False) -> Iterator[Count[K]]:
        """Yield the counts of five minutes or longer, or all of them, and start counting again."""
        while self._dropped:
            yield self._dropped.popleft()
        now = self._steady()
        for key, episode in self._episodes.items():
            if episode.collapsed and (all_of_them or now - episode.written_at >= REPEAT_SECONDS):
                collapsed, episode.collapsed = episode.collapsed, 0
                episode.written_at, episode.full = now, 0
                yield Count(key, collapsed, episode.total)
