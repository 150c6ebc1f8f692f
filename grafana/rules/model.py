"""Rules, groups of rules, and the settings that a site may change."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tools.release.repository import repository

PREFIX = "TwilioVerify"


class Severity(StrEnum):
    """Who must act: critical pages someone, warning can wait for working hours, none is for machines only."""

    CRITICAL = "critical"
    WARNING = "warning"
    NONE = "none"


class Dashboard(StrEnum):
    """Uids of the dashboards that alerts link to."""

    OVERVIEW = "twilio-verify-overview"
    FACTOR = "twilio-verify-factor"
    EXPORTER = "twilio-verify-exporter"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that differ between sites; the YAML contains each of them verbatim, so that it can be replaced.

    ``dropped`` are the labels that identify a process rather than what it watches; they change when a pod restarts.
    ``job`` selects the exporter's targets in rules that can't use a metric of the exporter. The numbers are
    thresholds of single alerts; rules write them in the format g.
    """

    dropped: tuple[str, ...] = ("instance", "pod", "container", "endpoint", "node")
    job: str = "verify-factor-exporter"
    runbooks: str = f"{repository()}/blob/main/docs/runbooks"
    dashboards: str = "http://localhost:3000"
    # One fetch in twenty may fail unnoticed: a status stays valid through two consecutive failures.
    error_budget: float = 0.05
    late_ratio: float = 0.1
    rate_limited_ratio: float = 0.05
    shrink_ratio: float = 0.2
    # A few devices without a push service are normal, such as Android devices without Google services.
    without_platform_ratio: float = 0.1
    slow_enrolment: float = 3

    def without(self, *more: str) -> str:
        """Return the clause that aggregates away the dropped labels and these."""
        return f"without ({', '.join((*self.dropped, *more))})"

    def ignoring(self) -> str:
        """Return the clause that matches series without the dropped labels."""
        return f"ignoring ({', '.join(self.dropped)})"

    @property
    def job_matcher(self) -> str:
        """The matcher of the exporter's targets."""
        return f'job="{self.job}"'

    def runbook(self, alert: str) -> str:
        """Return the address of an alert's runbook."""
        return f"{self.runbooks}/{alert}.md"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule; ``meaning`` is a sentence for docs/alerts.md."""

    record: str
    expr: str
    meaning: str

    @property
    def name(self) -> str:
        """The name of the recorded series."""
        return self.record


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert rule; ``name`` is without prefix, ``when`` its condition in words for docs/alerts.md.

    ``variables`` maps dashboard variables to the alert labels that set them in the link.
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
        """The name in Prometheus, with the prefix."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates in order, at the same timestamp."""

    name: str
    rules: tuple[Recording | Alert, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alert rules of the group."""
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recording rules of the group."""
        return tuple(rule for rule in self.rules if isinstance(rule, Recording))


def indented(text: str) -> str:
    """Return the lines of an expression with two more spaces before each."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def percent(ratio: float) -> str:
    """Return a ratio as a percentage."""
    return f"{ratio * 100:g}%"
