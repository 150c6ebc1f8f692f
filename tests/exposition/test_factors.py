"""The factor families: the series of each state, and that rendered lines equal those of prometheus_client."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition.catalogue import FACTOR_FAMILIES, FACTOR_INFO, FACTOR_PREFIX
from exporter.exposition.factors import (
    BLOCK_FACTORS,
    FactorCollector,
    FactorExposition,
    FactorSamples,
    escape_label_value,
    shown_families,
)
from exporter.exposition.pieces import Alike, Chunk, Snapshot
from exporter.polling.record import FactorRecord
from exporter.verify.outcome import Status
from tests.support.factor_cases import ENTITY_SID, IDENTITY, SERVICE_SID, key_of, labels, page, record_of

if TYPE_CHECKING:
    from exporter.watched import FactorKey, WatchedFactor


# Labels


def test_the_users_labels_are_on_every_series_and_empty_ones_are_absent() -> None:
    exposition = FactorExposition(FactorSamples())
    record = record_of(
        watched={"labels": (("team", "payments"), ("tier", ""), ("Zone", "a"))},
        status=Status.VERIFIED,
        up=True,
        answered_seconds=1.0,
        last_verified_seconds=1.0,
        duration_seconds=0.1,
        created_seconds=1.0,
        updated_seconds=2.0,
        approved_seconds=3.0,
        status_since_seconds=4.0,
        status_change_seen=True,
    )
    exposition.update(record)
    samples = [sample for family in parse_text(page(exposition).decode()) for sample in family.samples]
    assert len(samples) == len(FACTOR_FAMILIES)
    common = {
        "account": "main",
        "service_sid": SERVICE_SID,
        "factor": "factor-0",
        "team": "payments",
        "Zone": "a",
    }
    for sample in samples:
        extra = {"factor_sid", "factor_type", "entity_sid"} if sample.name == FACTOR_INFO.name else set()
        assert {name: value for name, value in sample.labels.items() if name not in extra} == common
        assert sample.labels.keys() == common.keys() | extra


@pytest.mark.parametrize("openmetrics", [False, True])
def test_identity_is_opt_in_and_only_on_info(openmetrics: bool) -> None:
    record = record_of(status=Status.VERIFIED, up=True, answered_seconds=1.0)
    silent, plain = FactorExposition(FactorSamples()), FactorExposition(FactorSamples(identity=identity_of))
    silent.update(record)
    plain.update(record)
    assert IDENTITY.encode() not in page(silent, openmetrics=openmetrics)
    shown = [line for line in page(plain, openmetrics=openmetrics).splitlines() if IDENTITY.encode() in line]
    assert len(shown) == 1
    assert shown[0].startswith(b"twilio_verify_factor_info{")
    assert f'identity="{IDENTITY}"'.encode() in shown[0]


def identity_of(watched: WatchedFactor) -> str:
    return watched.identity


def test_a_new_name_replaces_the_old_series() -> None:
    exposition = FactorExposition(FactorSamples())
    record = record_of()
    exposition.update(record)
    renamed = dataclasses.replace(record.watched, name="renamed", labels=(("team", "new"),))
    exposition.update(FactorRecord(renamed, interval_seconds=300.0))
    assert b'"factor-0"' not in page(exposition)
    assert labels(page(exposition), "info") | {"factor": "renamed", "team": "new"} == labels(
        page(exposition), "info"
    )


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("plain", "plain"),
        ('a"b', 'a\\"b'),
        ("a\\b", "a\\\\b"),
        ("a\nb", "a\\nb"),
        ("\\n", "\\\\n"),
        ('\\"\n', '\\\\\\"\\n'),
        ("Zoë 例 🙂", "Zoë 例 🙂"),
    ],
)
def test_escapes(value: str, escaped: str) -> None:
    assert escape_label_value(value) == escaped


# Which families


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["*"], [family.name for family in FACTOR_FAMILIES]),
        ([], []),
        (["twilio_verify_factor_up"], [FACTOR_PREFIX + "up"]),
        (["*_info", "*_verified"], [FACTOR_PREFIX + "verified", FACTOR_PREFIX + "info"]),
        (["*_timestamp_seconds", "*_up", "*_up"], [
            FACTOR_PREFIX + "up",
            FACTOR_PREFIX + "last_success_timestamp_seconds",
            FACTOR_PREFIX + "last_verified_timestamp_seconds",
            FACTOR_PREFIX + "created_timestamp_seconds",
            FACTOR_PREFIX + "updated_timestamp_seconds",
            FACTOR_PREFIX + "status_since_timestamp_seconds",
            FACTOR_PREFIX + "last_approved_timestamp_seconds",
        ]),
        (["up"], [FACTOR_PREFIX + "up"]),
        (["verified", "in*", "twilio_verify_factor_up"], [FACTOR_PREFIX + "verified"] + [
            FACTOR_PREFIX + name for name in ("up", "interval_seconds", "info")
        ]),
        (["TWILIO*", "Up", "twilio_verify_factor", "fetch_failures", ""], []),
    ],
)  # fmt: skip
def test_shown_families(patterns: list[str], names: list[str]) -> None:
    assert [family.name for family in shown_families(patterns)] == names
    exposition = FactorExposition(FactorSamples(shown_families(patterns)))
    exposition.update(record_of(status=Status.VERIFIED, up=True))
    shown = page(exposition).decode()
    assert [line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE ")] == names


# The same bytes as prometheus_client


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ['"', "\\", "\n", "\\n", '\\"', "a b", "{}", "#", "=", ",", "é", "🙂", "\u2028", "\x00", "\r", "\t"]
)
LABEL_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: (
        name not in {"account", "service_sid", "factor", "factor_sid", "factor_type", "entity_sid", "identity"}
    )
)
NUMBERS = (
    st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1.0, 1e6, 999999.5, 1e16, 1.7e9, 5e-324, 123456789.25])
)
KNOWN = st.fixed_dictionaries(
    {
        "status": st.none() | st.sampled_from(Status),
        "up": st.none() | st.booleans(),
        "answered_seconds": NUMBERS,
        "last_verified_seconds": NUMBERS,
        "duration_seconds": NUMBERS,
        "failures": st.integers(0, 10**12),
        "created_seconds": NUMBERS,
        "updated_seconds": NUMBERS,
        "approved_seconds": NUMBERS,
        "status_since_seconds": NUMBERS,
        "status_change_seen": st.booleans(),
        "interval_seconds": st.floats(0.001, 1e7) | st.sampled_from([60.0, 1.0]),
        "factor_type": st.sampled_from(["", "push", "totp"]),
        "entity_sid": st.sampled_from(["", ENTITY_SID]),
        "watched": st.fixed_dictionaries(
            {
                "name": NAMES,
                "paused": st.booleans(),
                "labels": st.dictionaries(LABEL_NAMES, NAMES | st.just(""), max_size=3).map(
                    lambda given: tuple(given.items())
                ),
            }
        ),
    }
)
EVENTS = st.lists(st.tuples(st.integers(0, 5), st.none() | KNOWN), max_size=12)
FAMILIES = st.lists(st.sampled_from(FACTOR_FAMILIES), unique=True).map(
    lambda chosen: tuple(family for family in FACTOR_FAMILIES if family in chosen)
)


def assert_same_bytes(exposition: FactorExposition, records: dict[FactorKey, FactorRecord]) -> None:
    assert sorted(exposition) == sorted(records)
    registry = CollectorRegistry()
    registry.register(FactorCollector(exposition.samples, lambda: [records[key] for key in exposition]))
    assert page(exposition) == generate_latest(registry)
    openmetrics = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # the library is untyped
    assert page(exposition, openmetrics=True) + b"# EOF\n" == openmetrics


@settings(deadline=None)
@given(events=EVENTS, families=FAMILIES | st.just(FACTOR_FAMILIES), with_identity=st.booleans())
def test_rendered_lines_equal_those_of_prometheus_client(
    events: list[tuple[int, dict[str, Any] | None]], families: tuple[Any, ...], with_identity: bool
) -> None:
    samples = FactorSamples(families, identity_of) if with_identity else FactorSamples(families)
    exposition = FactorExposition(samples)
    records: dict[FactorKey, FactorRecord] = {}
    for number, known in events:
        key = key_of(number)
        if known is not None:
            records[key] = record_of(number, **known)
            exposition.update(records[key])
        elif key in records:
            del records[key]
            exposition.remove(key)
        assert_same_bytes(exposition, records)


# A carriage return and its like are no line ends to Prometheus, but they are to Python's own reading of text.
PARSED_NAMES = NAMES.filter(lambda name: len(name.splitlines()) == 1 and "\n" not in name)


@settings(deadline=None)
@given(name=PARSED_NAMES, label=PARSED_NAMES, seconds=st.floats(0, 4e9), failures=st.integers(0, 10**9))
def test_values_survive_rendering_and_parsing(name: str, label: str, seconds: float, failures: int) -> None:
    exposition = FactorExposition(FactorSamples())
    record = record_of(
        watched={"name": name, "labels": (("team", label),)},
        status=Status.UNVERIFIED,
        up=True,
        answered_seconds=seconds,
        failures=failures,
    )
    exposition.update(record)
    text = page(exposition).decode()
    openmetrics = page(exposition, openmetrics=True).decode() + "# EOF\n"
    both = list(parse_text(text)), list(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]  # the library is untyped
    for families in both:
        read = {sample.name.removeprefix(FACTOR_PREFIX): sample for family in families for sample in family.samples}
        assert {sample.labels["factor"] for sample in read.values()} == {name}
        assert {sample.labels["team"] for sample in read.values()} == {label}
        assert read["verified"].value == 0.0
        assert read["last_success_timestamp_seconds"].value == seconds
        assert read["fetch_failures_total"].value == failures
        assert [family.type for family in families] == [str(family.kind) for family in FACTOR_FAMILIES]


@pytest.mark.parametrize("factors", [BLOCK_FACTORS - 1, BLOCK_FACTORS, BLOCK_FACTORS + 1, 3 * BLOCK_FACTORS])
def test_many_factors(factors: int) -> None:
    exposition = FactorExposition(FactorSamples())
    records = {key_of(number): record_of(number, status=Status.VERIFIED) for number in range(factors)}
    for record in records.values():
        exposition.update(record)
    assert list(exposition) == list(records)
    assert_same_bytes(exposition, records)
    for number in range(0, factors, 3):
        exposition.remove(key_of(number))
        del records[key_of(number)]
    assert_same_bytes(exposition, records)
    for number in itertools.chain(range(0, factors, 6), range(factors, factors + 100)):
        records[key_of(number)] = record_of(number, up=False)
        exposition.update(records[key_of(number)])
    assert_same_bytes(exposition, records)


def test_without_factors_only_help_and_type_are_rendered() -> None:
    exposition = FactorExposition(FactorSamples())
    assert_same_bytes(exposition, {})
    assert all(line.startswith(b"# ") for line in page(exposition).splitlines())


# Pieces


SHORT_NAMES = [family.short_name for family in FACTOR_FAMILIES]


def pieces_of(exposition: FactorExposition) -> list[Chunk]:
    return [chunk for lines in exposition.columns(openmetrics=False)[1::2] for chunk in lines.chunks()]


def test_unchanged_chunks_stay_the_same_objects() -> None:
    exposition = FactorExposition(FactorSamples())
    records = [record_of(number, up=True, duration_seconds=0.5) for number in range(2 * BLOCK_FACTORS + 1)]
    for record in records:
        exposition.update(record)
    first, second = pieces_of(exposition), pieces_of(exposition)
    assert len(first) == 3 * len(FACTOR_FAMILIES)
    assert all(before is after for before, after in zip(first, second, strict=True))

    records[3].duration_seconds = 0.75
    exposition.update(records[3])
    third = pieces_of(exposition)
    changed = [
        position for position, (before, after) in enumerate(zip(first, third, strict=True)) if before is not after
    ]
    names = [family.name for family in FACTOR_FAMILIES]
    assert changed == [3 * names.index("twilio_verify_factor_fetch_duration_seconds")]

    exposition.update(records[3])
    assert all(before is after for before, after in zip(third, pieces_of(exposition), strict=True))


def chunk_of(exposition: FactorExposition, name: str) -> Chunk:
    [chunk] = exposition.columns(openmetrics=False)[1::2][SHORT_NAMES.index(name)].chunks()
    return chunk


def test_of_a_chunk_with_one_value_only_that_is_kept() -> None:
    exposition = FactorExposition(FactorSamples())
    records = {key_of(number): record_of(number) for number in range(4)}
    for record in records.values():
        exposition.update(record)
    assert isinstance(chunk_of(exposition, "interval_seconds"), Alike)
    assert chunk_of(exposition, "up") == b""
    for number, record in enumerate(records.values()):
        assert not isinstance(chunk_of(exposition, "up"), Alike), number
        record.up, record.duration_seconds = True, number / 4
        exposition.update(record)
        assert_same_bytes(exposition, records)
    assert isinstance(chunk_of(exposition, "up"), Alike)
    assert not isinstance(chunk_of(exposition, "fetch_duration_seconds"), Alike)
    assert not isinstance(chunk_of(exposition, "info"), Alike)

    records[key_of(2)].up = False
    exposition.update(records[key_of(2)])
    assert not isinstance(chunk_of(exposition, "up"), Alike)
    assert_same_bytes(exposition, records)
    exposition.remove(records.pop(key_of(2)).watched.key)
    assert_same_bytes(exposition, records)
    assert isinstance(chunk_of(exposition, "interval_seconds"), Alike)
    records[key_of(5)] = record_of(5, up=True)
    exposition.update(records[key_of(5)])
    assert isinstance(chunk_of(exposition, "up"), Alike)
    assert_same_bytes(exposition, records)


def test_new_labels_are_in_all_lines_of_a_chunk_with_one_value() -> None:
    exposition = FactorExposition(FactorSamples())
    records = {key_of(number): record_of(number, up=True) for number in range(3)}
    for record in records.values():
        exposition.update(record)
    records[key_of(1)].watched = record_of(1, watched={"name": "renamed", "labels": (("team", "a"),)}).watched
    exposition.update(records[key_of(1)])
    assert isinstance(chunk_of(exposition, "up"), Alike)
    assert b'factor="renamed"' in bytes(chunk_of(exposition, "up"))
    assert_same_bytes(exposition, records)


def test_zero_and_minus_zero_are_not_the_same_value() -> None:
    exposition = FactorExposition(FactorSamples())
    records = {key_of(number): record_of(number, duration_seconds=0.0) for number in range(3)}
    for record in records.values():
        exposition.update(record)
    assert isinstance(chunk_of(exposition, "fetch_duration_seconds"), Alike)
    records[key_of(1)].duration_seconds = -0.0
    exposition.update(records[key_of(1)])
    assert not isinstance(chunk_of(exposition, "fetch_duration_seconds"), Alike)
    assert_same_bytes(exposition, records)


def test_both_formats_share_the_chunks_of_lines() -> None:
    exposition = FactorExposition(FactorSamples())
    exposition.update(record_of(up=True))
    text, openmetrics = exposition.columns(openmetrics=False), exposition.columns(openmetrics=True)
    assert all(one is other for one, other in zip(text[1::2], openmetrics[1::2], strict=True))


def test_a_snapshot_does_not_change_while_it_is_sent() -> None:
    exposition = FactorExposition(FactorSamples())
    record = record_of(status=Status.UNVERIFIED, up=True)
    exposition.update(record)
    snapshot = Snapshot(exposition.columns(openmetrics=False))
    before = bytes(snapshot)
    record.status = Status.VERIFIED
    exposition.update(record)
    exposition.remove(record.watched.key)
    assert bytes(snapshot) == before
    assert before != page(exposition)


def test_a_removed_factor_disappears_at_once_and_its_number_is_reused() -> None:
    exposition = FactorExposition(FactorSamples())
    for number in range(3):
        exposition.update(record_of(number))
    page(exposition)
    exposition.remove(key_of(1))
    assert b"factor-1" not in page(exposition)
    exposition.update(record_of(7))
    assert list(exposition) == [key_of(0), key_of(7), key_of(2)]
    with pytest.raises(KeyError):
        exposition.remove(key_of(1))


# The collector


def test_registering_the_collector_collects_nothing() -> None:
    def unexpected_call() -> list[FactorRecord]:
        raise AssertionError

    registry = CollectorRegistry(auto_describe=True)
    collector = FactorCollector(FactorSamples(), unexpected_call)
    registry.register(collector)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(FactorCollector(FactorSamples(), unexpected_call))
