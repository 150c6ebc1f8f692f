"""The rules of the exporter itself: who watches the watcher."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    CONFIG_RELOAD_SUCCESSFUL,
    LAST_TICK,
    SCHEDULE_LAG,
    SHARD_INFO,
    SHARDS,
    WATCHLIST_FACTORS,
)
from grafana.rules.model import Alert, Dashboard, Group, Recording, Settings, Severity

WATCHLIST_TOTAL = f"job:{WATCHLIST_FACTORS.name}:total"
LATE_SECONDS = 60.0


def exporter_group(settings: Settings) -> Group:
    """Return the group of the exporter."""
    return Group(
        "twilio-verify-exporters",
        (
            _total(settings),
            *_reached(settings),
            *_scheduled(settings),
            *_watchlist(settings),
            *_operated(settings),
            _coverage(settings),
        ),
    )


def watchdog_group(_settings: Settings) -> Group:
    """Return the group of the alert that always fires: its silence tells that alerting itself is broken."""
    watchdog = Alert(
        "Watchdog",
        "vector(1)",
        Severity.NONE,
        when="always; for a dead man's switch outside",
        summary="Alerting works.",
        description="This alert always fires. Route it to a service that pages when it stops coming: then "
        "Prometheus, Alertmanager or the way between them is broken.",
        dashboard=Dashboard.OVERVIEW,
    )
    return Group("twilio-verify-watchdog", (watchdog,))


def _total(settings: Settings) -> Recording:
    # Each exporter's own estimate of the whole: right with replicas, while shards roll, and while one is away.
    return Recording(
        WATCHLIST_TOTAL,
        f"avg {settings.without()} "
        f"(last_over_time({WATCHLIST_FACTORS.name}[5m]) * last_over_time({SHARDS.name}[5m]))",
        "The factors of the whole watchlist, over all shards.",
    )


def _reached(settings: Settings) -> tuple[Alert, ...]:
    return (
        Alert(
            "ExporterDown",
            f"max {settings.without()} (up{{{settings.of_job}}}) == 0",
            Severity.CRITICAL,
            pending="5m",
            when="no target of the exporter's job can be scraped",
            summary="The exporter can't be scraped.",
            description="No target of job {{ $labels.job }} answers Prometheus: nothing new is known of any "
            "factor. Alerts of factors end after 15 minutes though nothing was mended.",
        ),
        Alert(
            "ExporterAbsent",
            f"absent(up{{{settings.of_job}}})",
            Severity.CRITICAL,
            pending="10m",
            when="Prometheus has no target of the exporter's job",
            summary="Prometheus knows no exporter.",
            description="Prometheus has no target of job {{ $labels.job }}: the exporter is not running, or the "
            "scrape configuration does not find it.",
        ),
    )


def _scheduled(settings: Settings) -> tuple[Alert, ...]:
    def started(suffix: str, *more: str) -> str:
        return f"sum {settings.without(*more)} (increase({SCHEDULE_LAG.name}_{suffix}[15m]))"

    punctual = started(f'bucket{{le="{LATE_SECONDS}"}}', "le")
    return (
        Alert(
            "SchedulerStalled",
            f"time() - min {settings.without()} ({LAST_TICK.name}) > 120",
            Severity.CRITICAL,
            pending="2m",
            when="an exporter answers Prometheus, but its scheduler has not ticked for 2 minutes",
            summary="The scheduler of the exporter stands still.",
            description="An exporter of job {{ $labels.job }} has not begun a fetch for {{ $value | "
            "humanizeDuration }}: what it shows is growing old.",
        ),
        Alert(
            "ScheduleLagging",
            f"""\
({started("count")} - {punctual} >= 10)
/
{started("count")}
> 0.1""",
            Severity.WARNING,
            pending="15m",
            when="more than 10 % of the fetches start over a minute late, ten or more in number",
            summary="Fetches start late.",
            description="{{ $value | humanizePercentage }} of the fetches of job {{ $labels.job }} start over a "
            "minute late: changes are seen later than the intervals promise.",
        ),
    )


def _watchlist(settings: Settings) -> tuple[Alert, ...]:
    return (
        Alert(
            "WatchlistEmpty",
            f"max {settings.without()} (last_over_time({WATCHLIST_FACTORS.name}[5m])) == 0",
            Severity.CRITICAL,
            pending="15m",
            when="the exporter watches no factor at all",
            summary="The exporter watches nothing.",
            description="No exporter of job {{ $labels.job }} has a factor to watch: the watchlist is empty, not "
            "mounted, or all of it is paused.",
        ),
        Alert(
            "WatchlistShrank",
            f"{WATCHLIST_TOTAL} < 0.8 * max_over_time({WATCHLIST_TOTAL}[1h])",
            Severity.WARNING,
            pending="10m",
            when="a fifth of the watchlist went within an hour",
            summary="The watchlist shrank.",
            description="Job {{ $labels.job }} watches {{ $value | humanize }} factors, over a fifth less than "
            "within the last hour. Nobody is told of a factor that is not watched.",
            dashboard=Dashboard.OVERVIEW,
        ),
    )


def _operated(settings: Settings) -> tuple[Alert, ...]:
    return (
        Alert(
            "ConfigReloadFailed",
            f"min {settings.without()} (last_over_time({CONFIG_RELOAD_SUCCESSFUL.name}[5m])) == 0",
            Severity.WARNING,
            pending="10m",
            when="the exporter refused a new configuration and goes on with the old one",
            summary="The exporter refused its new configuration.",
            description="An exporter of job {{ $labels.job }} refused the configuration or the watchlist as they "
            "are now, and goes on with the ones before.",
        ),
        Alert(
            "ExporterRestarting",
            f"max {settings.without()} (changes(process_start_time_seconds{{{settings.of_job}}}[30m])) > 2",
            Severity.WARNING,
            keep_firing="15m",
            when="an exporter started three times or more within 30 minutes",
            summary="The exporter keeps restarting.",
            description="An exporter of job {{ $labels.job }} started {{ $value | humanize }} times within 30 "
            "minutes.",
        ),
    )


def _coverage(settings: Settings) -> Alert:
    def shards(operator: str) -> str:
        return f"{operator} {settings.without()} (last_over_time({SHARDS.name}[5m]))"

    # Pending for longer than a change of the number of shards takes, in which each pod is seen for 5 minutes more.
    # Where the exporters disagree, the second half tells: then it does not matter which number the first one takes.
    present = f"count without (shard) (group {settings.without()} (present_over_time({SHARD_INFO.name}[5m])))"
    return Alert(
        "ShardCoverage",
        f"""\
{present} < {shards("avg")}
or
{shards("min")} < {shards("max")}""",
        Severity.CRITICAL,
        pending="20m",
        when="a shard has no exporter, or the exporters disagree on the number of shards",
        summary="A part of the watchlist is watched by nobody.",
        description="The exporters of job {{ $labels.job }} do not cover all shards, or disagree on their number "
        "(seen: {{ $value | humanize }}): some factors may be watched by nobody.",
    )
