"""The log: one line per event, logfmt or JSON, on standard error, without secrets and identities.

An event is a message and fields (``extra={"fields": {...}}``). What libraries log passes the same formatter, at
every level.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote, quote_plus

from exporter.logs.background import BackgroundWriter
from exporter.logs.folding import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container

REDACTED = "[redacted]"
_IDENTITY_IN_PATH = re.compile(r"(/Entities/)[^/\s?#\"'<>]+", re.IGNORECASE)
_AUTHORIZATION = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=._~-]+")
# An escape of one character, in an address or a repr, is not part of the word that follows it.
_WORD = re.compile(r"%[0-9A-Fa-f]{2}|\\(?:[abfnrtv]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})|[A-Za-z0-9-]+")
_BARE = re.compile(r"[A-Za-z0-9_./:%+@-]+")
_MAX_VALUE = 2000


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return ``extra`` for a logging call: the event's fields, in this order."""
    return {"fields": values}


class Redactor:
    """Removes secrets and identities from a text.

    ``secrets`` and ``identities`` are called at every use, so a reload or a rotated password needs no call here.
    An identity is removed where it is a whole word, and after ``/Entities/`` even if it is not known.
    """

    def __init__(
        self,
        secrets: Callable[[], Collection[str]] = tuple,
        identities: Callable[[], Container[str]] = frozenset,
    ) -> None:
        self._secrets = secrets
        self._identities = identities

    def __call__(self, text: str) -> str:
        """Return the text without secrets and identities."""
        forms = {form for secret in self._secrets() if secret for form in _forms(secret)}
        for form in sorted(forms, key=len, reverse=True):  # one may be the start of another
            text = text.replace(form, REDACTED)
        text = _IDENTITY_IN_PATH.sub(rf"\1{REDACTED}", text)
        text = _AUTHORIZATION.sub(rf"\1 {REDACTED}", text)
        if identities := self._identities():
            text = _WORD.sub(lambda word: REDACTED if word.group() in identities else word.group(), text)
        return text


def _forms(secret: str) -> tuple[str, ...]:
    written = repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    return secret, *written, *(encode(secret, errors="surrogatepass") for encode in (quote, _quote_all, quote_plus))


_quote_all = functools.partial(quote, safe="")


class EventFormatter(logging.Formatter):
    """Renders a record as one line: time, level, logger, message, then the event's fields."""

    def __init__(self, style: str, redact: Redactor) -> None:
        super().__init__()
        self._json = style == "json"
        self._redact = redact

    def set_style(self, style: str) -> None:
        """Write lines in this style from now on."""
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, whatever its values contain."""
        event: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": self._clean(_message(record)),
        }
        for name, value in getattr(record, "fields", {}).items():
            event[name] = value if _is_plain(value) else self._clean(str(value))
        if record.exc_info:
            event["exception"] = self._clean(self.formatException(record.exc_info), limit=None)
        if self._json:
            return json.dumps(event, ensure_ascii=True)
        return " ".join(f"{name}={_logfmt_value(value)}" for name, value in event.items())

    def _clean(self, text: str, limit: int | None = _MAX_VALUE) -> str:
        text = self._redact(text)
        return text if limit is None or len(text) <= limit else f"{text[:limit]}…"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - one bad logging call must not break the log
        return f"log message not formatted, from {record.pathname}:{record.lineno}"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _logfmt_value(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=True)


_OURS = "exporter"
_SCHEDULER = "apscheduler"


class _CollapsingHandler(logging.StreamHandler[Any]):
    """Writes to a stream what the collapsing of repeated lines leaves."""

    def __init__(self, stream: object, repeats: Repeats) -> None:
        super().__init__(stream)
        self._repeats = repeats

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, or a copy with its count, and return whether it was written."""
        written = self._repeats.written(record)
        return written is not None and bool(super().handle(written))


class LogOutput:
    """One stream of log lines, with their style and the collapsing of repeated ones.

    ``style`` is ``logfmt`` or ``json``; ``steady`` gives seconds of a monotonic clock. In the ``background``,
    logging never waits for the reader of the stream, and lines are dropped while there is none.
    """

    def __init__(
        self,
        *,
        style: str,
        redact: Redactor,
        stream: TextIO | None = None,
        background: bool = False,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._formatter = EventFormatter(style, redact)
        self._repeats = Repeats(steady)
        self._writer = BackgroundWriter(stream or sys.stderr) if background else None
        self.handler = _CollapsingHandler(self._writer or stream or sys.stderr, self._repeats)
        self.handler.setFormatter(self._formatter)

    @property
    def lines_dropped(self) -> int:
        """The number of lines that were lost because nobody reads them."""
        return 0 if self._writer is None else self._writer.dropped

    def set_style(self, style: str) -> None:
        """Write lines in this style from now on."""
        self._formatter.set_style(style)

    def write(self, text: str) -> None:
        """Write a text for people, after the lines before it."""
        self.handler.stream.write(f"{text}\n")

    def close(self, timeout_seconds: float) -> None:
        """Wait until the lines in the background are written, but not longer than this."""
        if self._writer is not None:
            self._writer.close(timeout_seconds)

    def flush(self, *, at_the_end: bool = False) -> None:
        """Write the counts of the lines collapsed for five minutes, or of all collapsed lines; called regularly."""
        for record in self._repeats.due(at_the_end=at_the_end):
            if logging.getLogger(record.name).isEnabledFor(record.levelno):
                self.handler.handle(record)


def configure(
    *,
    level: str,
    style: str,
    redact: Redactor,
    stream: TextIO | None = None,
    background: bool = False,
    steady: Callable[[], float] = time.monotonic,
) -> LogOutput:
    """Send every log record of the process to one stream, and return that output.

    Libraries log from ``warning`` on, and from ``debug`` on only when our own level is debug; the scheduler never,
    because it logs several lines per run, and runs every second.
    """
    output = LogOutput(style=style, redact=redact, stream=stream, background=background, steady=steady)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(output.handler)
    set_level(level)
    logging.captureWarnings(True)
    return output


def set_level(level: str) -> None:
    """Change how much is logged: ``debug``, ``info``, ``warning`` or ``error``."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger(_OURS).setLevel(number)
    of_libraries = max(number, logging.WARNING)
    logging.getLogger().setLevel(number if number == logging.DEBUG else of_libraries)
    logging.getLogger(_SCHEDULER).setLevel(of_libraries)
