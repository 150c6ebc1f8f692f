"""Generated data: the same seed gives the same factors, SIDs and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.simulator.factors import FactorStatus, FactorType, SimulatedFactor
from exporter.simulator.faults import Fault, FaultKind
from exporter.simulator.script import Action, Script, Step

if TYPE_CHECKING:
    from random import Random

    from exporter.simulator.server import Simulator

PUSH, TOTP, PASSKEYS = FactorType.PUSH, FactorType.TOTP, FactorType.PASSKEYS
VERIFIED, UNVERIFIED, DELETED = FactorStatus.VERIFIED, FactorStatus.UNVERIFIED, FactorStatus.DELETED


class SeededFactor(NamedTuple):
    """A generated factor, with the name and labels for its watchlist entry."""

    name: str
    factor: SimulatedFactor
    labels: dict[str, str]


class _Plan(NamedTuple):
    name: str
    team: str
    factor_type: FactorType
    status: FactorStatus
    script: Script | None = None


def _steps(*steps: tuple[float, Action], period_seconds: float | None = None) -> Script:
    return Script(tuple(Step(*step) for step in steps), period_seconds)


# One approval every 100 s, so that its age is visible.
_USED = _steps((10, Action.APPROVE), period_seconds=100)

_SMALL = (
    _Plan("payments-oncall-push", "payments", PUSH, VERIFIED),
    _Plan("billing-admin-totp", "billing", TOTP, VERIFIED),
    _Plan("support-lead-passkey", "support", PASSKEYS, VERIFIED, _USED),
    _Plan(
        "new-hire-totp",
        "people",
        TOTP,
        UNVERIFIED,
        _steps((60, Action.VERIFY), (120, Action.UNVERIFY), period_seconds=120),
    ),
    _Plan(
        "contractor-push",
        "people",
        PUSH,
        UNVERIFIED,
        Script((Step(0, Action.ABANDON, lapse_seconds=90), Step(180, Action.ENROL)), 180),
    ),
    _Plan("former-admin-totp", "billing", TOTP, DELETED),
)

_DEMO = (
    _Plan("payments-oncall-push", "payments", PUSH, VERIFIED),
    _Plan("billing-admin-totp", "billing", TOTP, VERIFIED),
    _Plan("support-lead-passkey", "support", PASSKEYS, VERIFIED, _USED),
    _Plan("new-hire-totp", "people", TOTP, UNVERIFIED, _steps((20, Action.VERIFY))),
    _Plan(
        "contractor-push",
        "people",
        PUSH,
        UNVERIFIED,
        Script((Step(0, Action.ABANDON, lapse_seconds=40),)),
    ),
    _Plan(
        "finance-director-push",
        "billing",
        PUSH,
        VERIFIED,
        _steps((60, Action.DELETE), (80, Action.ENROL), (100, Action.VERIFY)),
    ),
    _Plan(
        "warehouse-tablet-totp",
        "logistics",
        TOTP,
        VERIFIED,
        _steps((30, Action.UNVERIFY), (45, Action.VERIFY), period_seconds=45),
    ),
    _Plan("legacy-gateway-totp", "logistics", TOTP, VERIFIED),
    _Plan("partner-portal-passkey", "support", PASSKEYS, VERIFIED),
)

_WORKFORCE = frozenset({"people", "logistics"})  # the teams whose factors are in the demo's second service
_TEAMS = ("payments", "billing", "support", "people", "logistics")


def demo_world(simulator: Simulator) -> list[SeededFactor]:
    """Add nine factors of two services, some of which change within two minutes.

    In seconds from now: new-hire-totp is verified at 20; contractor-push is abandoned, and deleted at 40;
    finance-director-push is deleted at 60, enrolled again at 80 and verified at 100; warehouse-tablet-totp is
    unverified for the last 15 of every 45. Faults make legacy-gateway-totp return 503 and
    partner-portal-passkey 403.
    """
    workforce = simulator.add_service(friendly_name="Workforce")
    seeded = {
        plan.name: _enrolled(simulator, plan, workforce.sid if plan.team in _WORKFORCE else None) for plan in _DEMO
    }
    for name, status in (("legacy-gateway-totp", 503), ("partner-portal-passkey", 403)):
        fault = Fault(FaultKind.STATUS, status=status, factor_sid=seeded[name].factor.sid)
        simulator.faults.add(fault)
    return list(seeded.values())


def small_world(
    simulator: Simulator, count: int, rng: Random, *, entities: int | None = None
) -> list[SeededFactor]:
    """Add ``count`` factors: six named ones that cover all states, then random ones.

    Of the random ones 85 % are verified, 8 % unverified, 4 % alternate between the two, 3 % are deleted. Without
    ``entities`` every factor has an entity of its own; else the factors go to that many entities in turn.
    """
    plans = [*_SMALL[:count], *(_drawn(number, rng) for number in range(len(_SMALL) + 1, count + 1))]
    if entities is None:
        return [_enrolled(simulator, plan) for plan in plans]
    users = [simulator.add_entity() for _ in range(entities)]
    return [
        _enrolled(simulator, plan, identity=users[number % entities].identity) for number, plan in enumerate(plans)
    ]


def _drawn(number: int, rng: Random) -> _Plan:
    factor_type = rng.choice(list(FactorType))
    name, team = f"{factor_type}-{number:05d}", rng.choice(_TEAMS)
    luck = rng.random()
    if luck < 0.85:
        return _Plan(name, team, factor_type, VERIFIED)
    if luck < 0.93:
        return _Plan(name, team, factor_type, UNVERIFIED)
    if luck < 0.96:
        return _Plan(name, team, factor_type, DELETED)
    period_seconds = rng.uniform(60, 600)
    steps = ((period_seconds / 3, Action.UNVERIFY), (period_seconds / 2, Action.VERIFY))
    return _Plan(name, team, factor_type, VERIFIED, _steps(*steps, period_seconds=period_seconds))


def _enrolled(
    simulator: Simulator, plan: _Plan, service_sid: str | None = None, identity: str | None = None
) -> SeededFactor:
    factor = simulator.add_factor(
        service_sid=service_sid,
        identity=identity,
        factor_type=plan.factor_type,
        status=plan.status,
        friendly_name=plan.name,
        script=plan.script,
    )
    return SeededFactor(plan.name, factor, {"team": plan.team})
