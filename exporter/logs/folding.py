"""Repetition in the log: what goes on is written in full at first, then as a count each five minutes.

Pure: time is asked of a clock that is passed in, and what to write is returned.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

# What these log is either folded already, or somebody asked for it and waits for its line.
_IN_FULL = frozenset(
    ("exporter.logs.events", "exporter.daemon.reload", "exporter.daemon.engine", "exporter.daemon.daemon")
)
_LONGEST_KEY = 500


class _Event(NamedTuple):
    """What makes two records the same event."""

    logger: str
    level: int
    message: str
    fields: str
    error: str


class RepeatFilter(logging.Filter):
    """Passes a warning or an error in full once, then each five minutes with a count, the field ``repeated``.

    At level debug everything passes. ``steady`` gives seconds of a monotonic clock.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        super().__init__()
        self._folding: Folding[_Event] = Folding(steady)
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written, as it is or with its count."""
        if record.levelno < logging.WARNING or record.name in _IN_FULL or hasattr(record, "told"):
            return True
        if logging.getLogger("exporter").isEnabledFor(logging.DEBUG):
            return True  # whoever asks for all of it gets all of it
        with self._lock:
            line = self._folding.happened(_event_of(record))
        if line.again and line.times > 1:
            record.__dict__["fields"] = {**getattr(record, "fields", {}), "repeated": line.times}
        return line.times > 0

    def due(self, *, at_the_end: bool = False) -> Iterator[logging.LogRecord]:
        """Yield records that tell what was folded for five minutes, or all of it, and what has ended."""
        with self._lock:
            counts = list(self._folding.overdue(all_of_them=at_the_end))
            ended = [count for count in self._folding.quiet() if count.total > 1]
        for event, folded, _ in counts:
            yield _record(event.logger, event.level, event.message, repeated=folded)
        for event, _, total in ended:
            told = {"what": event.message, "from": event.logger, "times": total}
            yield _record(__name__, logging.INFO, "not repeated for five minutes", **told)


def _event_of(record: logging.LogRecord) -> _Event:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - the formatter tells of it
        message = str(record.msg)
    error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    told = str(getattr(record, "fields", ""))
    return _Event(record.name, record.levelno, message[:_LONGEST_KEY], told[:_LONGEST_KEY], error)


def _record(logger: str, level: int, message: str, **values: object) -> logging.LogRecord:
    record = logging.LogRecord(logger, level, "", 0, message, None, None)
    record.__dict__.update(fields=values, told=True)
    return record


K = TypeVar("K", bound="Hashable")

REPEAT_SECONDS = 300.0
MOST_EPISODES = 1000


class Line(NamedTuple):
    """How one event is written: for so many ``times``, 0 where it isn't; ``again`` as a count and not in full."""

    times: int
    again: bool = False


NOTHING = Line(0)
IN_FULL = Line(1)


class Count(NamedTuple, Generic[K]):
    """Events of a key that were folded since its last line, and how many there were in all."""

    key: K
    folded: int
    total: int


@dataclass(slots=True)
class _Episode:
    """One trouble while it lasts."""

    told_at: float
    last_at: float
    full: int = 0
    folded: int = 0
    total: int = 0


class Folding(Generic[K]):
    """Decides for events of many keys which are written; ``steady`` gives seconds of a monotonic clock.

    In each five minutes the first ``full_lines`` that are news are written in full. At most a thousand keys are
    known at a time: the one that was silent for longest is given up, and its count with the next ones told.
    """

    def __init__(self, steady: Callable[[], float], *, full_lines: int = 1, most: int = MOST_EPISODES) -> None:
        self._steady = steady
        self._full_lines = full_lines
        self._most = most
        self._episodes: OrderedDict[K, _Episode] = OrderedDict()
        self._given_up: deque[Count[K]] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._episodes)

    def happened(self, key: K, *, news: bool | None = None) -> Line:
        """Take one more event and return how it is written; what isn't ``news`` is never written in full.

        Where that isn't said, the first event of a key is news.
        """
        now = self._steady()
        episode = self._episodes.get(key)
        news = episode is None if news is None else news
        if episode is None:
            if len(self._episodes) >= self._most:
                self._give_up(*self._episodes.popitem(last=False))
            episode = self._episodes[key] = _Episode(told_at=now, last_at=now)
        self._episodes.move_to_end(key)
        episode.last_at = now
        episode.total += 1
        if now - episode.told_at >= REPEAT_SECONDS and news:
            episode.told_at, episode.full = now, 0  # a count of others must not stand for what is news
        elif now - episode.told_at >= REPEAT_SECONDS:
            line = Line(episode.folded + 1, again=True)
            episode.told_at, episode.full, episode.folded = now, 0, 0
            return line
        if news and episode.full < self._full_lines:
            episode.full += 1
            return IN_FULL
        episode.folded += 1
        return NOTHING

    def _give_up(self, key: K, episode: _Episode) -> None:
        if episode.folded:
            self._given_up.append(Count(key, episode.folded, episode.total))

    def over(self, key: K) -> int:
        """Forget a key whose trouble is over; return how many events there were, 0 for one that had none."""
        episode = self._episodes.pop(key, None)
        return 0 if episode is None else episode.total

    def quiet(self) -> Iterator[Count[K]]:
        """Forget and yield every key that had no event for five minutes."""
        now = self._steady()
        for key, episode in list(self._episodes.items()):
            if now - episode.last_at < REPEAT_SECONDS:
                break  # in the order of their last event
            del self._episodes[key]
            yield Count(key, episode.folded, episode.total)

    def overdue(self, *, all_of_them: bool = False) -> Iterator[Count[K]]:
        """Yield what was folded five minutes ago or longer, or all that was; then begin anew to count."""
        while self._given_up:
            yield self._given_up.popleft()
        now = self._steady()
        for key, episode in self._episodes.items():
            if episode.folded and (all_of_them or now - episode.told_at >= REPEAT_SECONDS):
                folded, episode.folded = episode.folded, 0
                episode.told_at, episode.full = now, 0
                yield Count(key, folded, episode.total)
