"""Folds what is logged again and again, whoever logs it; polling's own events are folded where they arise."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

from exporter.folding import Folding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What these log is either folded already, or somebody asked for it and waits for its line.
_IN_FULL = frozenset(("exporter.events", "exporter.reloading", "exporter.engine", "exporter.daemon"))
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
