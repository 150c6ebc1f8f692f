"""The resources that the API returns: factors of the three types, entities and services."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random


AAGUID = "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4"  # of a widespread authenticator


class FactorType(StrEnum):
    """The factor types of the Verify API."""

    PUSH = "push"
    TOTP = "totp"
    PASSKEYS = "passkeys"


class FactorStatus(StrEnum):
    """A factor's state in the simulator; for ``deleted`` the API returns 404."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class SimulatedFactor:
    """One factor; dates are Unix times in seconds."""

    sid: str
    account_sid: str
    service_sid: str
    entity_sid: str
    identity: str
    friendly_name: str
    factor_type: FactorType
    status: FactorStatus
    date_created: float
    date_updated: float
    config: Mapping[str, object] = field(hash=False)
    metadata: Mapping[str, str] | None = field(hash=False)

    @property
    def exists(self) -> bool:
        """Whether the API returns the factor rather than a 404."""
        return self.status is not FactorStatus.DELETED

    def with_status(self, status: FactorStatus, now: float) -> SimulatedFactor:
        """Return the factor with this status, updated ``now``."""
        metadata = self.metadata
        if self.factor_type is FactorType.PASSKEYS and status is FactorStatus.VERIFIED:
            metadata = {**(metadata or {}), "aaguid": AAGUID}
        return dataclasses.replace(self, status=status, date_updated=now, metadata=metadata)

    def enrolled(self, now: float) -> SimulatedFactor:
        """Return the factor after a new enrolment: unverified and created ``now``."""
        metadata = None if self.factor_type is FactorType.PASSKEYS else self.metadata
        return dataclasses.replace(
            self, status=FactorStatus.UNVERIFIED, date_created=now, date_updated=now, metadata=metadata
        )

    @property
    def can_approve(self) -> bool:
        """Whether an approved challenge shows: the API says nothing of those of push and TOTP factors."""
        return self.factor_type is FactorType.PASSKEYS and self.status is FactorStatus.VERIFIED

    def approved(self, now: float) -> SimulatedFactor:
        """Return the factor after it approved a challenge ``now``."""
        return dataclasses.replace(self, metadata={**(self.metadata or {}), "date_last_approved": timestamp(now)})

    def document(self, base_url: str) -> dict[str, object]:
        """Return the JSON object in the responses of Fetch Factor and List Factors."""
        return {
            "sid": self.sid,
            "account_sid": self.account_sid,
            "service_sid": self.service_sid,
            "entity_sid": self.entity_sid,
            "identity": self.identity,
            "date_created": timestamp(self.date_created),
            "date_updated": timestamp(self.date_updated),
            "friendly_name": self.friendly_name,
            "status": self.status.value,
            "factor_type": self.factor_type.value,
            "config": self.config,
            "metadata": self.metadata,
            "url": f"{base_url}{factor_path(self.service_sid, self.identity, self.sid)}",
        }


@dataclass(slots=True)
class SimulatedEntity:
    """One user of a service; the date is a Unix time in seconds.

    ``factor_sids`` are in order of enrolment, including deleted ones. The API doesn't list a deleted entity, and
    returns 404 for its factors.
    """

    sid: str
    account_sid: str
    service_sid: str
    identity: str
    date_created: float
    factor_sids: list[str] = field(default_factory=list)
    deleted: bool = False

    def document(self, base_url: str) -> dict[str, object]:
        """Return the JSON object in the response of List Entities."""
        factors = f"{base_url}{entity_path(self.service_sid, self.identity)}"
        url = factors.removesuffix("/Factors")
        return {
            "sid": self.sid,
            "identity": self.identity,
            "account_sid": self.account_sid,
            "service_sid": self.service_sid,
            "date_created": timestamp(self.date_created),
            "date_updated": timestamp(self.date_created),
            "url": url,
            "links": {"factors": factors, "new_factors": factors, "challenges": f"{url}/Challenges"},
        }


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """A Verify service; the date is a Unix time in seconds. The API returns 404 for everything in a deleted one."""

    sid: str
    account_sid: str
    friendly_name: str
    date_created: float
    deleted: bool = False

    def document(self, base_url: str) -> dict[str, object]:
        """Return the JSON object in the response of Fetch Service."""
        url = f"{base_url}{service_path(self.sid)}"
        links = {
            "verifications": "Verifications",
            "verification_checks": "VerificationCheck",
            "rate_limits": "RateLimits",
            "messaging_configurations": "MessagingConfigurations",
            "entities": "Entities",
            "webhooks": "Webhooks",
            "access_tokens": "AccessTokens",
        }
        return {
            "sid": self.sid,
            "account_sid": self.account_sid,
            "friendly_name": self.friendly_name,
            "code_length": 6,
            "lookup_enabled": False,
            "psd2_enabled": False,
            "skip_sms_to_landlines": False,
            "dtmf_input_required": True,
            "tts_name": None,
            "do_not_share_warning_enabled": False,
            "custom_code_enabled": False,
            "push": {"include_date": False, "apn_credential_sid": None, "fcm_credential_sid": None},
            "totp": {"issuer": self.friendly_name, "time_step": 30, "code_length": 6, "skew": 1},
            "default_template_sid": None,
            "verify_event_subscription_enabled": False,
            "date_created": timestamp(self.date_created),
            "date_updated": timestamp(self.date_created),
            "url": url,
            "links": {name: f"{url}/{path}" for name, path in links.items()},
        }


def typical_config(factor_type: FactorType, rng: Random) -> dict[str, object]:
    """Return a ``config`` of the form that the API documents for a factor type."""
    match factor_type:
        case FactorType.PUSH:
            return {
                "sdk_version": "3.1.0",
                "app_id": "com.example.authenticator",
                "notification_platform": rng.choice(("apn", "fcm")),
                "notification_token": f"{rng.getrandbits(256):064x}",
            }
        case FactorType.TOTP:
            return {"alg": "sha1", "skew": 1, "code_length": 6, "time_step": 30}
        case FactorType.PASSKEYS:
            return {
                "relying_party": {
                    "id": "example.com",
                    "name": "Example",
                    "origins": ["https://login.example.com"],
                },
                "authenticator_attachment": "platform",
                "discoverable_credentials": "preferred",
                "user_verification": "preferred",
            }


def typical_metadata(factor_type: FactorType, status: FactorStatus, rng: Random) -> dict[str, str] | None:
    """Return the ``metadata`` of a new factor: a map for push factors and verified passkeys, else ``None``."""
    if factor_type is FactorType.PUSH:
        return {"os": rng.choice(("Android", "iOS"))}
    if factor_type is FactorType.PASSKEYS and status is FactorStatus.VERIFIED:
        return {"aaguid": AAGUID}
    return None


def service_path(service_sid: str) -> str:
    """Return the path of a service."""
    return f"/v2/Services/{service_sid}"


def factor_path(service_sid: str, identity: str, factor_sid: str) -> str:
    """Return the path of a factor, its identity percent-encoded."""
    return f"{entity_path(service_sid, identity)}/{factor_sid}"


def entity_path(service_sid: str, identity: str) -> str:
    """Return the path that lists an entity's factors."""
    return f"/v2/Services/{service_sid}/Entities/{quote(identity, safe='')}/Factors"


def timestamp(moment: float) -> str:
    """Return a Unix time in the API's date format: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
