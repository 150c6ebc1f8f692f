"""The simulated account: its services, entities and factors, and their changes."""

from __future__ import annotations

import dataclasses
import heapq
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.simulator import sids
from exporter.simulator.factors import (
    FactorStatus,
    FactorType,
    SimulatedEntity,
    SimulatedFactor,
    SimulatedService,
    typical_config,
    typical_metadata,
)
from exporter.simulator.script import Action, Script

if TYPE_CHECKING:
    from random import Random

logger = logging.getLogger(__name__)

ChangeCallback = Callable[[SimulatedFactor, FactorStatus, FactorStatus, float], None]


@dataclass(slots=True)
class _Run:
    """A running script: its start time and the index of its next step."""

    script: Script
    began: float
    index: int = 0


class SimulatedApi:
    """Services, entities and factors of one account; all times are Unix times in seconds, passed in."""

    def __init__(self, account_sid: str, rng: Random) -> None:
        self.account_sid = account_sid
        self.on_change: list[ChangeCallback] = []
        self._rng = rng
        self._factors: dict[str, SimulatedFactor] = {}
        self._services: dict[str, SimulatedService] = {}
        self._entities: dict[tuple[str, str], SimulatedEntity] = {}
        self._listed: dict[str, list[str]] = {}
        self._by_sid: dict[str, SimulatedEntity] = {}
        self._before_deletion: dict[str, FactorStatus] = {}
        self._runs: dict[str, _Run] = {}
        self._due: list[tuple[float, str]] = []
        self.factors: Mapping[str, SimulatedFactor] = MappingProxyType(self._factors)
        self.services: Mapping[str, SimulatedService] = MappingProxyType(self._services)
        self.entities: Mapping[tuple[str, str], SimulatedEntity] = MappingProxyType(self._entities)
        self.entities_by_sid: Mapping[str, SimulatedEntity] = MappingProxyType(self._by_sid)

    def add_service(
        self, *, now: float, service_sid: str | None = None, friendly_name: str | None = None
    ) -> SimulatedService:
        """Add a service, or return the existing one with this SID."""
        sid = self._checked("service_sid", service_sid, sids.SERVICE)
        if sid not in self._services:
            name = friendly_name or f"Simulated service {len(self._services) + 1}"
            self._services[sid] = SimulatedService(sid, self.account_sid, name, now)
            self._listed[sid] = []
        return self._services[sid]

    def set_service(self, service_sid: str, *, deleted: bool) -> SimulatedService:
        """Delete or restore a service with everything in it. Raises ``LookupError`` for an unknown SID."""
        sid = sids.canonical(service_sid)
        if sid not in self._services:
            raise LookupError(f"no service has the SID {service_sid}")
        self._services[sid] = dataclasses.replace(self._services[sid], deleted=deleted)
        return self._services[sid]

    def add_entity(
        self, *, now: float, service_sid: str | None = None, identity: str | None = None
    ) -> SimulatedEntity:
        """Add an entity without factors, or return the existing one.

        Without ``service_sid`` it belongs to the account's first service.
        """
        if service_sid is None and self._services:
            service_sid = next(iter(self._services))
        service = self.add_service(now=now, service_sid=service_sid)
        if identity is None:
            identity = f"user-{self._rng.getrandbits(64):016x}"
        if not identity or not identity.isprintable():
            raise ValueError("identity: must not be empty, and all characters must be printable")
        key = (service.sid, identity)
        entity = self._entities.get(key)
        if entity is None:
            sid = sids.random_sid(sids.ENTITY, self._rng)
            entity = self._entities[key] = self._by_sid[sid] = SimulatedEntity(sid, self.account_sid, *key, now)
            self._listed[service.sid].append(sid)
        return entity

    def entity_sids(self, service_sid: str) -> Sequence[str]:
        """Return the SIDs of a service's entities in order of creation, including deleted ones."""
        return self._listed[service_sid]

    def set_entity(self, entity_sid: str, *, deleted: bool) -> SimulatedEntity:
        """Delete or restore an entity with its factors. Raises ``LookupError`` for an unknown SID."""
        entity = self._by_sid.get(sids.canonical(entity_sid))
        if entity is None:
            raise LookupError(f"no entity has the SID {entity_sid}")
        entity.deleted = deleted
        return entity

    def add_factor(
        self,
        *,
        now: float,
        service_sid: str | None = None,
        identity: str | None = None,
        factor_sid: str | None = None,
        factor_type: str = FactorType.TOTP,
        status: str = FactorStatus.VERIFIED,
        friendly_name: str | None = None,
        notification_platform: str | None = None,
        script: Script | None = None,
    ) -> SimulatedFactor:
        """Add a factor and start its script; missing values are generated.

        Raises ``ValueError`` for a SID of the wrong form or in use, an unknown type or status, and a notification
        platform of a factor that isn't a push factor.
        """
        sid = self._checked("factor_sid", factor_sid, sids.FACTOR)
        if sid in self._factors:
            raise ValueError(f"factor_sid: {sid} exists already")
        type_ = FactorType(factor_type)
        status_ = FactorStatus(status)
        if notification_platform is not None and type_ is not FactorType.PUSH:
            raise ValueError(f"notification_platform: a {type_} factor has none; only push factors have one")
        entity = self.add_entity(now=now, service_sid=service_sid, identity=identity)
        config = typical_config(type_, self._rng)
        if notification_platform is not None:
            config["notification_platform"] = notification_platform
        factor = SimulatedFactor(
            sid=sid,
            account_sid=self.account_sid,
            service_sid=entity.service_sid,
            entity_sid=entity.sid,
            identity=entity.identity,
            friendly_name=friendly_name or f"Simulated {type_} factor {len(self._factors) + 1}",
            factor_type=type_,
            status=status_,
            date_created=now,
            date_updated=now,
            config=config,
            metadata=typical_metadata(type_, status_, self._rng),
        )
        self._factors[sid] = factor
        entity.factor_sids.append(sid)
        if script is not None:
            self._runs[sid] = _Run(script, now)
            self._plan(sid)
        return factor

    def set_status(self, factor_sid: str, status: str, *, now: float) -> SimulatedFactor:
        """Set a factor's status; a deleted factor is restored.

        Raises ``LookupError`` for an unknown SID, ``ValueError`` for an unknown status.
        """
        sid = sids.canonical(factor_sid)
        if sid not in self._factors:
            raise LookupError(f"no factor has the SID {factor_sid}")
        factor = self._factors[sid]
        return self._change(factor, factor.with_status(FactorStatus(status), now), now)

    def approve(self, factor_sid: str, *, now: float) -> SimulatedFactor:
        """Have a verified passkeys factor approve a challenge.

        Raises ``LookupError`` for an unknown SID, ``ValueError`` for a factor whose approvals the API doesn't show.
        """
        sid = sids.canonical(factor_sid)
        if sid not in self._factors:
            raise LookupError(f"no factor has the SID {factor_sid}")
        if not self._factors[sid].can_approve:
            raise ValueError(f"{sid} is not a verified passkeys factor; the API shows no approvals of others")
        self._factors[sid] = self._factors[sid].approved(now)
        return self._factors[sid]

    def advance(self, now: float) -> None:
        """Run every scripted step that is due, each with its own scheduled time."""
        while self._due and self._due[0][0] <= now:
            moment, sid = heapq.heappop(self._due)
            run = self._runs[sid]
            step = run.script.step(run.index)
            run.index += 1
            if step is not None:
                self._act(self._factors[sid], step.action, moment)
            self._plan(sid)

    def _plan(self, sid: str) -> None:
        run = self._runs[sid]
        if (step := run.script.step(run.index)) is not None:
            heapq.heappush(self._due, (run.began + step.at_seconds, sid))

    def _act(self, factor: SimulatedFactor, action: Action, moment: float) -> None:
        match action:
            case Action.ENROL:
                changed = factor.enrolled(moment)
            case Action.VERIFY:
                changed = factor.with_status(FactorStatus.VERIFIED, moment)
            case Action.UNVERIFY | Action.ABANDON:
                changed = factor.with_status(FactorStatus.UNVERIFIED, moment)
            case Action.DELETE:
                changed = factor.with_status(FactorStatus.DELETED, moment)
            case Action.APPROVE:
                if factor.can_approve:
                    self._factors[factor.sid] = factor.approved(moment)
                return
            case Action.RESTORE:
                if factor.exists:
                    return
                status = self._before_deletion.get(factor.sid, FactorStatus.UNVERIFIED)
                changed = factor.with_status(status, moment)
        self._change(factor, changed, moment)

    def _change(self, old: SimulatedFactor, new: SimulatedFactor, now: float) -> SimulatedFactor:
        if new.status is old.status and new.date_created == old.date_created:
            return old
        if not new.exists:
            self._before_deletion[old.sid] = old.status
        self._factors[new.sid] = new
        if new.status is not old.status:
            for callback in self.on_change:
                try:
                    callback(new, old.status, new.status, now)
                except Exception:
                    logger.exception("callback for a simulated change failed")
        return new

    def _checked(self, name: str, sid: str | None, prefix: str) -> str:
        if sid is None:
            return sids.random_sid(prefix, self._rng)
        if not sids.is_sid(sid, prefix):
            raise ValueError(f'{name}: "{sid}" is not a SID ({prefix} followed by 32 hex digits)')
        return sids.canonical(sid)
