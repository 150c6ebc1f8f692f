from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from exporter.simulator import FactorType, Simulator, demo_world, small_world
from exporter.simulator.target import Endpoint, Target

if TYPE_CHECKING:
    from tests.simulator.conftest import Clock


def statuses(simulator: Simulator, names: dict[str, str]) -> dict[str, str]:
    return {name: simulator.factors[sid].status.value for name, sid in names.items()}


def test_the_demo_changes_while_you_watch(clock: Clock) -> None:
    simulator = Simulator(clock=clock)
    began = clock.now
    names = {name: factor.sid for name, factor, _ in demo_world(simulator)}
    seen = {}
    for seconds in (0, 20, 30, 40, 45, 60, 75, 80, 90, 100):
        clock.now = began + seconds
        simulator.advance()
        seen[seconds] = statuses(simulator, names)

    assert {seconds: state["new-hire-totp"] for seconds, state in seen.items() if seconds < 40} == {
        0: "unverified",
        20: "verified",
        30: "verified",
    }
    assert [seen[seconds]["contractor-push"] for seconds in (0, 30, 40, 100)] == [
        "unverified",
        "unverified",
        "deleted",
        "deleted",
    ]
    assert [seen[seconds]["finance-director-push"] for seconds in (45, 60, 80, 100)] == [
        "verified",
        "deleted",
        "unverified",
        "verified",
    ]
    assert [seen[seconds]["warehouse-tablet-totp"] for seconds in (0, 30, 45, 60, 75, 90)] == [
        "verified",
        "unverified",
        "verified",
        "verified",
        "unverified",
        "verified",
    ]
    for steady in ("payments-oncall-push", "billing-admin-totp", "support-lead-passkey"):
        assert {state[steady] for state in seen.values()} == {"verified"}


def test_two_of_the_demo_always_fail() -> None:
    simulator = Simulator()
    struck = {}
    for name, factor, _ in demo_world(simulator):
        applied = simulator.faults.apply(Target(Endpoint.FETCH, "/v2/", factor_sid=factor.sid))
        if applied.fault is not None:
            struck[name] = applied.fault.status

    assert struck == {"legacy-gateway-totp": 503, "partner-portal-passkey": 403}


def test_the_demo_shows_all_types_two_services_and_labels() -> None:
    seeded = demo_world(Simulator())

    assert {factor.factor_type for _, factor, _ in seeded} == set(FactorType)
    assert len({factor.service_sid for _, factor, _ in seeded}) == 2
    assert all(set(labels) == {"team"} for _, _, labels in seeded)


def test_the_small_world_has_all_states_and_goes_on_changing(clock: Clock) -> None:
    simulator = Simulator(clock=clock)
    began = clock.now
    names = {name: factor.sid for name, factor, _ in small_world(simulator, 6, random.Random(0))}
    seen = []
    for seconds in (0, 60, 90, 120, 180, 240, 270):
        clock.now = began + seconds
        simulator.advance()
        seen.append(statuses(simulator, names))

    assert set(seen[0].values()) == {"verified", "unverified", "deleted"}
    assert [state["new-hire-totp"] for state in seen] == [
        "unverified",
        "verified",
        "verified",
        "unverified",
        "verified",
        "unverified",
        "unverified",
    ]
    assert [state["contractor-push"] for state in seen] == [
        "unverified",
        "unverified",
        "deleted",
        "deleted",
        "unverified",
        "unverified",
        "deleted",
    ]


def test_random_factors_depend_on_the_seed_only() -> None:
    worlds = [small_world(Simulator(clock=lambda: 0.0), 1000, random.Random(5)) for _ in range(2)]

    assert worlds[0] == worlds[1]
    assert len({name for name, _, _ in worlds[0]}) == 1000
    counts = Counter(factor.status.value for _, factor, _ in worlds[0])
    assert counts["verified"] > 800
    assert counts["unverified"] > 40
    assert counts["deleted"] > 10


def test_fewer_factors_are_the_first_of_the_named() -> None:
    assert [name for name, _, _ in small_world(Simulator(), 2, random.Random(0))] == [
        "payments-oncall-push",
        "billing-admin-totp",
    ]


def test_factors_belong_to_the_entities_in_turn() -> None:
    simulator = Simulator(clock=lambda: 0.0)
    factors = [factor for _, factor, _ in small_world(simulator, 9, random.Random(0), entities=4)]
    assert [factor.entity_sid for factor in factors] == (list(simulator.world.entities_by_sid) * 3)[:9]
    assert [len(entity.factor_sids) for entity in simulator.world.entities.values()] == [3, 2, 2, 2]


def test_entities_may_have_no_factor() -> None:
    simulator = Simulator()
    small_world(simulator, 2, random.Random(0), entities=5)
    assert [len(entity.factor_sids) for entity in simulator.world.entities.values()] == [1, 1, 0, 0, 0]
