"""The log: one line an event, whatever is in it, and nothing in it that must not be shown."""

from __future__ import annotations

import itertools
import json
import logging
import re
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.logs.output import REDACTED, EventFormatter, Redactor, fields, set_level

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

ANY_TEXT = st.text(st.characters(), max_size=60)  # lone surrogates and control characters too
SECRETS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=8, max_size=40)
IDENTITIES = st.from_regex(r"[A-Za-z0-9-]{8,64}", fullmatch=True)
VALUES = st.one_of(ANY_TEXT, st.none(), st.booleans(), st.integers(), st.floats())
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(
    lambda name: name not in ("ts", "level", "logger", "msg", "exception")
)
PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[A-Za-z0-9_./:%+@-]+)(?: |$)')


def record_of(
    message: str,
    *arguments: object,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **values: object,
) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("exporter.daemon", level, "daemon.py", 1, message, arguments, info)
    record.__dict__.update(fields(**values))
    return record


def read_logfmt(line: str) -> dict[str, str]:
    """Read a line as logfmt readers do: names, "=", and values bare or in quotes."""
    found, place = {}, 0
    while place < len(line):
        pair = PAIR.match(line, place)
        assert pair, line[place:]
        found[pair[1]] = json.loads(pair[2]) if pair[2].startswith('"') else pair[2]
        place = pair.end()
    return found


def raised(error: Exception) -> Exception:
    """Return an error with a traceback."""
    try:
        raise error  # noqa: TRY301 - for its traceback
    except Exception as caught:  # noqa: BLE001 - whichever was given
        return caught


def line_of(record: logging.LogRecord, style: str = "logfmt", redact: Redactor | None = None) -> str:
    return EventFormatter(style, redact or Redactor()).format(record)


def test_a_line_has_time_level_logger_message_and_fields_in_order() -> None:
    record = record_of("fetch %s", "failed", level=logging.WARNING, factor="payments push", attempts=3, up=False)
    record.created = 1_767_225_600.25
    assert line_of(record) == (
        "ts=2026-01-01T00:00:00.250Z level=warning logger=exporter.daemon "
        'msg="fetch failed" factor="payments push" attempts=3 up=false'
    )
    assert json.loads(line_of(record, "json")) == {
        "ts": "2026-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "exporter.daemon",
        "msg": "fetch failed",
        "factor": "payments push",
        "attempts": 3,
        "up": False,
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines\r", r'"two\nlines\r"'),
        ("\x1b[31mred", r'"\u001b[31mred"'),
        ("\u2028\u202e", r'"\u2028\u202e"'),
        ("Zoë", r'"Zo\u00eb"'),
        (None, "null"),
        (True, "true"),
        (0.1 + 0.2, "0.3"),
        (float("nan"), "nan"),
        (10**6, "1000000"),
        (["a"], "\"['a']\""),
    ],
)
def test_values_are_written_as_logfmt(value: object, written: str) -> None:
    assert line_of(record_of("m", x=value)).endswith(f" msg=m x={written}")


@given(message=ANY_TEXT, values=st.dictionaries(NAMES, VALUES, max_size=5))
@example(message="%s %d %(name)s", values={})
@example(message="a\u2028b\x85c\x0bd", values={"x": "\udc80"})
def test_an_event_is_one_ascii_line_that_reads_back(message: str, values: dict[str, Any]) -> None:
    record = record_of(message, **values)
    for style in ("logfmt", "json"):
        line = line_of(record, style)
        assert line.isascii()
        assert line.isprintable()
        assert len(line.splitlines()) == 1
    read = read_logfmt(line_of(record))
    assert list(read) == ["ts", "level", "logger", "msg", *values]
    assert read["msg"] == message
    document = json.loads(line_of(record, "json"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(document) == list(read)
    assert document["msg"] == message
    for name, value in values.items():
        if isinstance(value, str):
            assert read[name] == document[name] == value
    assert datetime.fromisoformat(document["ts"]).tzinfo is not None


@given(secret=SECRETS, before=ANY_TEXT, after=ANY_TEXT, other=SECRETS)
@example(secret="p'a\"ss\\word", before="", after="", other="another-one")
@example(secret="passwords", before="", after="", other="password")
@example(secret="Pässwörd/+", before="%", after="", other="x" * 8)
def test_a_secret_is_in_no_line(secret: str, before: str, after: str, other: str) -> None:
    redact = Redactor(lambda: [other, secret])
    texts = [
        f"{before}{secret}{after}",
        repr(secret),
        json.dumps({"password": secret}),
        f"https://user:{quote(secret, safe='')}@host/",
        f"{secret}{secret}",
    ]
    for text in texts:
        record = record_of("%s", text, error=raised(ValueError(text)), detail=text, listed=[text])
        for style in ("logfmt", "json"):
            line = line_of(record, style, redact)
            for form in {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1]}:
                assert form not in line


@given(identity=IDENTITIES, before=st.sampled_from(["", " ", "'", "=", ":", "%2F", "\\n", "_", "(", "ü"]))
def test_an_identity_is_in_no_line_where_it_stands_as_a_word(identity: str, before: str) -> None:
    redact = Redactor(identities=lambda: {identity})
    for text in (
        f"{before}{identity}",
        f"{before}{identity} and {identity}.",
        f"GET /v2/Services/VA1/Entities/{identity}/Factors/YF1",
        f"next=%2Fv2%2FServices%2FVA1%2FEntities%2F{identity}%2FFactors",
        repr(f"line\n{identity}\t"),
        json.dumps([identity]),
    ):
        for style in ("logfmt", "json"):
            assert identity not in line_of(record_of("%s", text, detail=text), style, redact)


@given(identity=st.text(st.characters(exclude_characters="/?#\"'<>", exclude_categories=("Z", "C")), min_size=1))
def test_what_stands_behind_entities_is_never_shown(identity: str) -> None:
    """The log doesn't know this identity."""
    assert Redactor()(f"GET /v2/Entities/{identity}/Factors") == f"GET /v2/Entities/{REDACTED}/Factors"
    assert Redactor()(f"/entities/{identity}?x") == f"/entities/{REDACTED}?x"


def test_other_words_are_left_alone() -> None:
    redact = Redactor(lambda: ["s3cret-word", ""], lambda: {"user-0123456789"})
    text = "user-01234567890 user-012345678 my-user-0123456789 fetch failed: 100% of VA1"
    assert redact(text) == text


def test_credentials_in_a_header_are_not_shown() -> None:
    assert Redactor()("Authorization: Basic QUM6cGFzcw==, x") == f"Authorization: Basic {REDACTED}, x"
    assert Redactor()("{'authorization': 'bearer x', 'Authorization': 'Bearer abc.def-_~'}").endswith(
        f"'Bearer {REDACTED}'}}"
    )


def test_secrets_and_identities_are_read_at_every_use() -> None:
    secrets, identities = ["first-password"], {"first-identity"}
    redact = Redactor(lambda: secrets, lambda: identities)
    assert redact("first-password first-identity") == f"{REDACTED} {REDACTED}"
    secrets[0] = "second-password"
    identities.add("second-identity")
    assert redact("second-password second-identity") == f"{REDACTED} {REDACTED}"


def test_a_long_value_is_cut_after_redaction() -> None:
    """Cut first, half a secret would stay."""
    text = "x" * 1995 + "the-password" + "y" * 100
    line = line_of(record_of("m", body=text), redact=Redactor(lambda: ["the-password"]))
    assert "the-p" not in line
    assert line.endswith('xxxx[reda\\u2026"')


def test_a_message_whose_arguments_do_not_fit_is_no_traceback(
    logged: Callable[..., io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    log = logged(Redactor(lambda: ["the-password"]))
    logging.getLogger("exporter").error("%s %s", "the-password")  # noqa: PLE1206 - on purpose
    [line] = log.getvalue().splitlines()
    assert "log message not formatted" in line
    assert capsys.readouterr().err == ""


def test_an_exception_is_part_of_the_line() -> None:
    error = raised(RuntimeError("secret-password\nsecond line"))
    line = line_of(record_of("failed", error=error), "json", Redactor(lambda: ["secret-password"]))
    document = json.loads(line)
    assert document["exception"].startswith("Traceback")
    assert document["exception"].endswith(f"RuntimeError: {REDACTED}\nsecond line")


def test_libraries_are_heard_from_warning_on_and_at_debug_in_full(logged: Callable[..., io.StringIO]) -> None:
    log = logged()
    ours, library = logging.getLogger("exporter.polling"), logging.getLogger("some.library")
    number = itertools.count()

    def said() -> list[str]:
        for logger in (ours, library):
            for level in ("debug", "info", "warning"):
                getattr(logger, level)("%s-%s.%d", logger.name, level, next(number))  # each another event
        words = re.findall(r"msg=(\S+)\.\d", log.getvalue())
        log.truncate(0)
        log.seek(0)
        return words

    assert said() == ["exporter.polling-info", "exporter.polling-warning", "some.library-warning"]
    set_level("error")
    assert said() == []
    set_level("debug")
    assert len(said()) == 6
    set_level("warning")
    assert said() == ["exporter.polling-warning", "some.library-warning"]


def test_configured_again_there_is_still_one_line_an_event(logged: Callable[..., io.StringIO]) -> None:
    first, second = logged(), logged(style="json")
    logging.getLogger("exporter").warning("once")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["msg"] == "once"


def test_a_warning_of_python_is_an_event_too(logged: Callable[..., io.StringIO]) -> None:
    log = logged()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("something is old", DeprecationWarning, stacklevel=1)
    [line] = log.getvalue().splitlines()
    assert "level=warning logger=py.warnings" in line
    assert "something is old" in line
