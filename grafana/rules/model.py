"""A rule, a group of rules, and what a site may set in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

PREFIX = "TwilioVerify"


class Severity(StrEnum):
    """Whom an alert asks for: critical wakes people, warning waits for working hours, none is for machines."""

    CRITICAL = "critical"
    WARNING = "warning"
    NONE = "none"


class Dashboard(StrEnum):
    """Uids of the dashboards that an alert's link leads to."""

    OVERVIEW = "twilio-verify-overview"
    FACTOR = "twilio-verify-factor"
    EXPORTER = "twilio-verify-exporter"


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs from site to site; each value stands in the YAML as it is here, so that it can be replaced.

    ``dropped`` are the labels that name a process or its place and not what it watches: a pod's restart changes
    them. ``job`` selects the exporter's targets where no metric of its own can.
    """

    dropped: tuple[str, ...] = ("instance", "pod", "container", "endpoint", "node")
    job: str = "verify-factor-exporter"
    runbooks: str = "https://example.org/verify-factor-exporter/docs/runbooks"
    dashboards: str = "http://localhost:3000"

    def without(self, *more: str) -> str:
        """Return the clause that aggregates the dropped labels away, and these too."""
        return f"without ({', '.join((*self.dropped, *more))})"

    @property
    def of_job(self) -> str:
        """The matcher of the exporter's targets."""
        return f'job="{self.job}"'


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule; ``meaning`` is one sentence for the documentation."""

    record: str
    expr: str
    meaning: str

    @property
    def name(self) -> str:
        """The name that it is known by."""
        return self.record


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert rule. ``name`` has no prefix, ``when`` is its condition in words, for the documentation.

    ``variables`` are labels of the alert by the variable of the dashboard that they choose.
    """

    name: str
    expr: str
    severity: Severity
    when: str
    summary: str
    description: str
    pending: str = ""
    keep_firing: str = ""
    dashboard: Dashboard = Dashboard.EXPORTER
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name as Prometheus knows it."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, at one moment."""

    name: str
    rules: tuple[Recording | Alert, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alert rules among them."""
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recording rules among them."""
        return tuple(rule for rule in self.rules if isinstance(rule, Recording))
