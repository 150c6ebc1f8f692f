"""The parsers of single values: what they accept, their error messages, and that they raise nothing else."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import values
from exporter.config.errors import InvalidValueError
from exporter.watched import canonical_sid
from tests.support.config_texts import problem_of

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

toml_values = st.recursive(
    st.one_of(
        st.text(),
        st.integers(),
        st.just(16**400),
        st.floats(),
        st.booleans(),
        st.dates(),
        st.sampled_from(["1h", "300", "VA" + "0" * 32, "/metrics", "0/1", "", " x ", ":1", "http://[", "9" * 9999]),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=3,
)

PARSERS: list[Callable[[object], object]] = [
    values.parse_account_name,
    values.parse_account_sid,
    values.parse_credential,
    values.parse_duration,
    values.parse_factor_sid,
    values.parse_family_pattern,
    values.parse_file_pattern,
    values.parse_flag,
    values.parse_identity,
    values.parse_interval,
    values.parse_label_table,
    values.parse_name,
    values.parse_label_value,
    values.parse_path,
    values.parse_rate,
    values.parse_service_sid,
    values.parse_shard,
    values.parse_telemetry_path,
    values.parse_text,
    values.parse_timeout,
    values.parse_username,
    lambda value: values.at_least(1, value),
    lambda value: values.one_of(["a", "b"], value),
    lambda value: values.parse_list("[]", value),
]


@given(toml_values)
def test_a_parser_raises_nothing_but_value_errors_with_a_text(value: object) -> None:
    for parse in PARSERS:
        problem = problem_of(parse, value)
        assert problem is None or (0 < len(problem) < 400 and "\n" not in problem)


@given(st.integers(0, 36_500 * 86_400_000))
def test_a_duration_survives_writing_and_reading(milliseconds: int) -> None:
    text = values.format_duration(milliseconds / 1000)
    assert values.parse_duration(text) == milliseconds / 1000
    assert values.format_duration(values.parse_duration(text)) == text


@given(st.lists(st.sampled_from(list(UNITS)), min_size=1, unique=True), st.lists(st.integers(0, 300), min_size=5))
def test_a_duration_is_the_sum_of_its_parts(units: list[str], counts: list[int]) -> None:
    parts = [(unit, count) for unit, count in zip(UNITS, counts, strict=False) if unit in units]
    text = "".join(f"{count}{unit}" for unit, count in parts)
    assert values.parse_duration(text) == sum(count * UNITS[unit] for unit, count in parts) / 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1m1ms", 60.001), ("2d", 172_800), ("90s", 90), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "1", "1.5h", "1 h", "1h 2m", "2m1h", "1m2m", "-1s", "1S", "1µs", "1m1", "٣s", "1sm", "1h\n"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.001, "1ms"), (86_400, "24h"), (172_800, "2d"), (90_000, "25h"), (5400, "1h30m")],
)
def test_writing_durations(seconds: float, text: str) -> None:
    assert values.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (300, 'is a whole number, not a duration; add a unit, for example "300s"'),
        (2.5, 'is a number with a fraction, not a duration; add a unit, for example "30s"'),
        ("300", '"300" has no unit; add one, for example "300s"'),
        ("-1", '"-1" has no unit; add one, for example "30s"'),
        (True, 'is a boolean, not a duration such as "5m"'),
        ("40000d", '"40000d" is longer than 36500d'),
    ],
)
def test_errors_of_durations(value: object, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        values.parse_duration(value)
    assert str(raised.value) == message


@given(
    st.sampled_from(["VA", "va", "Va"]),
    st.text(alphabet="0123456789abcdefABCDEF", min_size=32, max_size=32),
)
def test_a_sid_is_read_in_any_case(prefix: str, digits: str) -> None:
    assert values.parse_service_sid(prefix + digits) == canonical_sid(prefix + digits) == "VA" + digits.lower()


@given(st.text(alphabet=string.ascii_letters + string.digits + "-", min_size=8, max_size=64))
def test_an_identity_is_taken_as_it_is(identity: str) -> None:
    assert values.parse_identity(identity) == identity


@given(st.text(min_size=4))
def test_a_bad_identity_is_never_quoted(identity: str) -> None:
    problem = problem_of(values.parse_identity, identity) or ""
    assert identity not in problem.replace("identity", "").replace("character", "")


@pytest.mark.parametrize("sid", ["swapped-identity", "0123456789abcdef0123456789abcdef", "ac" * 16])
def test_what_may_be_a_secret_in_the_place_of_a_sid_is_not_shown(sid: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        values.parse_service_sid(sid)
    assert sid not in str(raised.value)
    assert sid in raised.value.quoted


@pytest.mark.parametrize("name", ["main", "eu-west", "a_b-c9", "0"])
def test_account_names(name: str) -> None:
    assert values.parse_account_name(name) == name


@pytest.mark.parametrize("name", ["", "Main", "a--b", "-a", "a_", "a b", "é", "a\n"])
def test_no_account_names(name: str) -> None:
    with pytest.raises(ValueError):
        values.parse_account_name(name)


@pytest.mark.parametrize("name", ["x", "Zürich 本社 🔑", "a/b?c=%20", " ", "...", "x" * 128, "מפתח"])
def test_names(name: str) -> None:
    assert values.parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 129, "a\tb", "a\x00", "a\x7f", "a\x85b", "\u202eabc", "a\u2066", "a\u2028b", "\ud800", ".", ".."],
)
def test_no_names(name: str) -> None:
    with pytest.raises(ValueError):
        values.parse_name(name)


@pytest.mark.parametrize("value", ["", ".", "x" * 5000, "Zürich 本社 🔑", 'a"b\\c', "a=b,c"])
def test_label_values(value: str) -> None:
    assert values.parse_label_value(value) == value


@pytest.mark.parametrize(
    "value", ["a\nb", "a\r", "\x00", "\x1b[0m", "a\x85b", "a\u2028b", "a\u2029", "\u202eabc", "\ud800"]
)
def test_no_label_values(value: str) -> None:
    with pytest.raises(ValueError):
        values.parse_label_value(value)


@pytest.mark.parametrize("name", ["team", "_x", "A1", "exporte"])
def test_label_names(name: str) -> None:
    assert values.parse_label_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "1a", "a-b", "é", "__x", "exported_x", "a\n", *sorted(values.RESERVED_LABELS)]
)
def test_no_label_names(name: str) -> None:
    with pytest.raises(ValueError):
        values.parse_label_name(name)


def test_an_empty_label_is_absent() -> None:
    assert values.without_empty({"team": "", "tier": "gold"}) == {"tier": "gold"}


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "/a/b", "/v1.0/~me_x", "/probes", "/configs", "/config/x"]
)
def test_telemetry_paths(path: str) -> None:
    assert values.parse_telemetry_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metrics",
        "/",
        "//",
        "/a//b",
        "/..",
        "/a/../b",
        "/./a",
        "/a?b",
        "/a b",
        "/{x}",
        "/%41",
        "/-",
        "/-/ready",
        "/api",
        "/api/v1/factors",
        "/factors",
        "/factors/x",
        "/probe",
        "/probe/",
        "/config",
        "/config/",
    ],
)
def test_no_telemetry_paths(path: str) -> None:
    with pytest.raises(ValueError):
        values.parse_telemetry_path(path)


@pytest.mark.parametrize("shard", ["0/1", "3/4", "auto/1", "auto/12"])
def test_shards(shard: str) -> None:
    assert values.parse_shard(shard) == shard


@pytest.mark.parametrize(
    "shard", ["", "1/1", "0/0", "-1/2", "a/b", "0", "0/1/2", "Auto", "auto", "auto/0", "auto/", "/1"]
)
def test_no_shards(shard: str) -> None:
    with pytest.raises(ValueError):
        values.parse_shard(shard)


@pytest.mark.parametrize("secret", ["x", "with space", "päss", "0" * 64])
def test_credentials(secret: str) -> None:
    assert values.parse_credential(secret) == secret


@pytest.mark.parametrize("secret", ["", " x", "x ", "x\n", "a\tb", "a\nb", "\u00a0x", "\ufeffx", "x\x00"])
def test_no_credentials(secret: str) -> None:
    with pytest.raises(ValueError) as raised:
        values.parse_credential(secret)
    assert not secret or repr(secret)[1:-1] not in str(raised.value)


@pytest.mark.parametrize("value", [0, -1, 1_000_001, float("nan"), float("inf"), True, "1", None])
def test_no_counts_and_no_rates(value: Any) -> None:
    with pytest.raises(ValueError):
        values.at_least(1, value)
    with pytest.raises(ValueError):
        values.parse_rate(value)


def test_a_number_too_long_to_print() -> None:
    assert problem_of(values.parse_rate, 16**5000) == "the number is not between 0.001 and 1000000"
    assert problem_of(values.parse_duration, 16**5000) == (
        'is a whole number, not a duration; add a unit, for example "30s"'
    )


def test_counts_and_rates() -> None:
    assert values.at_least(2, 2) == 2
    assert values.parse_rate(1) == 1.0
    assert values.parse_rate(0.25) == 0.25


def test_truth_values_from_text() -> None:
    assert values.flag_from_text("true")
    assert not values.flag_from_text("False")
    for text in ("", "1", "yes"):
        with pytest.raises(ValueError):
            values.flag_from_text(text)


def test_parsing_a_list_leaves_its_items_alone() -> None:
    assert values.parse_list("[]", (1, "a")) == [1, "a"]
    with pytest.raises(ValueError, match=r"is a string, not a list; write \[\]"):
        values.parse_list("[]", "a")
