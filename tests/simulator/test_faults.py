from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Endpoint, Fault, FaultError, FaultKind, FaultSet
from exporter.simulator.faults import NOTHING
from exporter.simulator.faultspec import as_document, fault_from_mapping, fault_from_text
from exporter.simulator.target import Target

SERVICES = ["VA" + "1" * 32, "VA" + "2" * 32]
FACTORS = ["YF" + "1" * 32, "YF" + "2" * 32]

targets = st.builds(
    Target,
    st.sampled_from(list(Endpoint)),
    st.just("/v2/"),
    service_sid=st.sampled_from(["", *SERVICES]),
    factor_sid=st.sampled_from(["", *FACTORS]),
)
faults = st.builds(
    Fault,
    st.sampled_from(list(FaultKind)),
    factor_sid=st.none() | st.sampled_from(FACTORS),
    service_sid=st.none() | st.sampled_from(SERVICES),
    operation=st.none() | st.sampled_from(list(Endpoint)),
    times=st.none() | st.integers(1, 3),
    seconds=st.none() | st.integers(0, 4),
)


def target(factor_sid: str = FACTORS[0], service_sid: str = SERVICES[0]) -> Target:
    return Target(Endpoint.FETCH, "/v2/", service_sid=service_sid, factor_sid=factor_sid)


def fault_set() -> FaultSet:
    return FaultSet(random.Random(1))


def test_without_faults_nothing_applies() -> None:
    assert fault_set().apply(target()) is NOTHING


def test_the_oldest_fault_applies_and_latencies_add_up() -> None:
    faults = fault_set()
    faults.add(Fault(FaultKind.LATENCY, seconds=2))
    faults.add(Fault(FaultKind.GARBAGE))
    faults.add(Fault(FaultKind.HTML))
    faults.add(Fault(FaultKind.LATENCY))

    applied = faults.apply(target())

    assert applied.latency_seconds == 3
    assert applied.fault is not None
    assert applied.fault.kind is FaultKind.GARBAGE


def test_a_fault_ends_after_its_times() -> None:
    faults = fault_set()
    id_ = faults.add(Fault(times=2))

    assert faults.left(id_) == 2
    assert faults.apply(target()).fault is not None
    assert faults.left(id_) == 1
    assert faults.apply(target()).fault is not None
    assert faults.apply(target()) is NOTHING
    assert len(faults) == 0


def test_faults_are_removed_one_by_one_or_all() -> None:
    faults = fault_set()
    first = faults.add(Fault(factor_sid=FACTORS[0]))
    second = faults.add(Fault(factor_sid=FACTORS[0], status=500))
    third = faults.add(Fault(status=429))
    faults.remove(first)

    assert [id_ for id_, _ in faults] == [second, third]
    faults.remove(second)
    with pytest.raises(LookupError, match="no active fault has the id 1"):
        faults.remove(first)
    faults.clear()
    assert faults.apply(target()) is NOTHING


def test_a_share_of_requests_is_affected_and_depends_on_the_seed_only() -> None:
    runs = []
    for _ in range(2):
        faults = fault_set()
        faults.add(Fault(share=0.25))
        runs.append([faults.apply(target()).fault is not None for _ in range(4000)])

    assert runs[0] == runs[1]
    assert 900 < Counter(runs[0])[True] < 1100


@given(st.lists(faults, max_size=6), st.lists(targets, max_size=12))
def test_the_first_matching_fault_applies(given_: list[Fault], targets: list[Target]) -> None:
    faults = fault_set()
    left = {faults.add(fault): fault.times for fault in given_}
    for call in targets:
        expected: Fault | None = None
        latency = 0.0
        for id_, fault in enumerate(given_, start=1):
            if left[id_] == 0 or not fault.matches(call):
                continue
            if fault.kind is FaultKind.LATENCY:
                latency += 1 if fault.seconds is None else fault.seconds
            elif expected is None:
                expected = fault
            else:
                continue
            times = left[id_]
            left[id_] = None if times is None else times - 1
        assert faults.apply(call) == (latency, expected)
    assert len(faults) == sum(times != 0 for times in left.values())


def test_sids_are_matched_without_case() -> None:
    faults = fault_set()
    faults.add(Fault(factor_sid="yf" + "AB" * 16, service_sid="va" + "CD" * 16))

    assert faults.apply(target("YF" + "ab" * 16, "VA" + "cd" * 16)).fault is not None


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"kind": "statsu"}, "kind", r'"statsu" must be one of latency, status, html'),
        (
            {"operation": "delete"},
            "operation",
            r'"delete" must be one of fetch, list, list_entities, service, token, other',
        ),
        ({"factor_sid": "YF1"}, "factor_sid", r"YF followed by 32 hex digits"),
        ({"service_sid": FACTORS[0]}, "service_sid", r"VA followed by 32 hex digits"),
        ({"status": 199}, "status", r"199 is not a final HTTP status \(200 to 999\)"),
        ({"share": 0}, "share", r"above 0, at most 1"),
        ({"share": 1.1}, "share", r"above 0, at most 1"),
        ({"share": math.nan}, "share", r"above 0, at most 1"),
        ({"times": 0}, "times", r"1 or more"),
        ({"seconds": -1}, "seconds", r"0 or more"),
        ({"seconds": math.inf}, "seconds", r"0 or more"),
        ({"retry_after": "1\r\nX: y"}, "retry_after", r"printable ASCII only"),
        ({"location": "http://exämple/"}, "location", r"printable ASCII only"),
        ({"retry_after": "soon", "retry_after_as_date": True}, "retry_after", r"not a number of seconds"),
        ({"retry_after": math.nan, "retry_after_as_date": True}, "retry_after", r"not a number of seconds"),
        ({"retry_after": 1e300, "retry_after_as_date": True}, "retry_after", r"not a number of seconds"),
        ({"retry_after_as_date": True}, "retry_after", r"not a number of seconds"),
    ],
)
def test_invalid_faults_are_refused(values: dict[str, object], field: str, message: str) -> None:
    with pytest.raises(FaultError, match=message) as refused:
        Fault(**values)  # type: ignore[arg-type]  # that it is refused is the test
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


@given(faults)
def test_a_fault_survives_its_json(fault: Fault) -> None:
    assert fault_from_mapping(as_document(fault)) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("garbage", Fault(FaultKind.GARBAGE)),
        ("status:status=503,share=0.1", Fault(status=503, share=0.1)),
        ("status:status=429,retry_after=5,times=3", Fault(status=429, retry_after=5, times=3)),
        ("status:status=429,retry_after=0.5", Fault(status=429, retry_after=0.5)),
        ("status:status=429,retry_after=soon", Fault(status=429, retry_after="soon")),
        (
            "status:status=429,retry_after=30,retry_after_as_date=true",
            Fault(status=429, retry_after=30, retry_after_as_date=True),
        ),
        ("latency:seconds=2.5,operation=list", Fault(FaultKind.LATENCY, seconds=2.5, operation=Endpoint.LIST)),
        (
            f"redirect:location=http://[::1]:9/,factor_sid={FACTORS[0]}",
            Fault(FaultKind.REDIRECT, location="http://[::1]:9/", factor_sid=FACTORS[0]),
        ),
    ],
)
def test_a_fault_is_read_from_a_line(text: str, fault: Fault) -> None:
    assert fault_from_text(text) == fault


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("", "kind", r'unknown fault kind ""; known kinds: latency, '),
        ("dribbel", "kind", r'did you mean "dribble"'),
        ("status:sttaus=1", "sttaus", r'unknown field \(did you mean "status"\?\); accepted fields: kind, status'),
        ("status:status", "status", r"missing value; write key=value"),
        ("status:status=many", "status", r"'many' is not a whole number"),
        ("status:status=99", "status", r"99 is not a final HTTP status"),
        ("latency:seconds=long", "seconds", r"'long' is not a number"),
        ("status:retry_after_as_date=maybe", "retry_after_as_date", r"neither true nor false"),
    ],
)
def test_text_that_is_no_fault_is_refused(text: str, field: str, message: str) -> None:
    with pytest.raises(FaultError, match=message) as refused:
        fault_from_text(text)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"^kind: missing; must be one of latency, status"),
        ({"kind": 3}, r"^kind: 3 is not a string"),
        ({"kind": "status", "status": True}, r"^status: True is not a whole number"),
        ({"kind": "status", "status": 429.5}, r"^status: 429.5 is not a whole number"),
        ({"kind": "status", "share": "half"}, r"^share: 'half' is not a number"),
        ({"kind": "status", "share": True}, r"^share: True is not a number"),
        ({"kind": "status", "retry_after": []}, r"^retry_after: \[\] is neither a number nor a string"),
        ({"kind": "status", "retry_after_as_date": 1}, r"^retry_after_as_date: 1 is neither true nor false"),
        ({"kind": "redirect", "location": 1}, r"^location: 1 is not a string"),
    ],
)
def test_json_that_is_no_fault_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        fault_from_mapping(values)


def test_null_fields_are_ignored() -> None:
    assert fault_from_mapping({"kind": "html", "status": None, "times": None}) == Fault(FaultKind.HTML)
