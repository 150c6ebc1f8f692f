"""Rules about the exporter itself: scrapes, scheduler, watchlist, reloads, shards."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    CONFIG_RELOAD_SUCCESSFUL,
    FETCHES,
    LAST_TICK,
    LATE_FETCHES,
    SHARD_INFO,
    SHARDS,
    SOURCE_UP,
    STATE_LAST_SAVE,
    STATE_SAVE_FAILURES,
    WATCHLIST_FACTORS,
    WATCHLIST_FALLBACK,
    WATCHLIST_LISTED,
    WATCHLIST_TOTAL,
)
from grafana.rules.model import Alert, Dashboard, Group, Recording, Settings, Severity, percent

TOTAL_RECORD = f"job:{WATCHLIST_FACTORS.name}:total"


def exporter_group(settings: Settings) -> Group:
    """Return the rules about the exporter itself."""
    return Group(
        "twilio-verify-exporters",
        (
            _watchlist_total(settings),
            *_scrape_alerts(settings),
            *_schedule_alerts(settings),
            *_watchlist_alerts(settings),
            *_operation_alerts(settings),
            _shard_missing(settings),
            _shard_coverage(settings),
        ),
    )


def watchdog_group(_settings: Settings) -> Group:
    """Return the group with the alert that always fires; it stops only when alerting itself is broken."""
    watchdog = Alert(
        "Watchdog",
        "vector(1)",
        Severity.NONE,
        when="always; for an external dead man's switch",
        summary="The alerting pipeline works.",
        description="This alert always fires. Route it to an external service that pages when it stops arriving: "
        "Prometheus, Alertmanager or the connection between them is down then.",
        dashboard=Dashboard.OVERVIEW,
    )
    return Group("twilio-verify-watchdog", (watchdog,))


def _watchlist_total(settings: Settings) -> Recording:
    # The average of the exporters' estimates: correct with replicas, during a rollout and while a shard is down.
    return Recording(
        TOTAL_RECORD,
        f"avg {settings.without()} "
        f"(last_over_time({WATCHLIST_FACTORS.name}[5m]) * last_over_time({SHARDS.name}[5m]))",
        "Number of factors in the whole watchlist, across all shards.",
    )


def _scrape_alerts(settings: Settings) -> tuple[Alert, ...]:
    return (
        Alert(
            "ExporterDown",
            f"max {settings.without()} (up{{{settings.job_matcher}}}) == 0",
            Severity.CRITICAL,
            pending="5m",
            when="no target of the exporter's job can be scraped",
            summary="The exporter is down or unreachable.",
            description="Prometheus can't scrape any target of job {{ $labels.job }}, so no factor status is "
            "updated. Factor alerts resolve after 15 minutes although nothing was fixed.",
        ),
        Alert(
            "ExporterAbsent",
            f"absent(up{{{settings.job_matcher}}})",
            Severity.CRITICAL,
            pending="10m",
            when="Prometheus has no target of the exporter's job",
            summary="Prometheus has no exporter to scrape.",
            description="Prometheus has no target for job {{ $labels.job }}: the exporter is not deployed, or the "
            "scrape configuration does not discover it.",
        ),
    )


def _schedule_alerts(settings: Settings) -> tuple[Alert, ...]:
    return (
        Alert(
            "SchedulerStalled",
            f"time() - min {settings.without()} ({LAST_TICK.name}) > 120",
            Severity.CRITICAL,
            pending="2m",
            when="an exporter can be scraped, but its scheduler has not run for 2 minutes",
            summary="The exporter's scheduler has stalled.",
            description="The scheduler of an exporter of job {{ $labels.job }} last ran {{ $value | "
            "humanizeDuration }} ago. No factor is polled, and all statuses are getting old.",
        ),
        Alert(
            "ScheduleLagging",
            f"""\
(sum {settings.without()} (increase({LATE_FETCHES.name}[15m])) >= 10)
/
sum {settings.without("account", "service_sid")} (increase({FETCHES.name}[15m]))
> {settings.late_ratio:g}""",
            Severity.WARNING,
            pending="15m",
            when=f"more than {percent(settings.late_ratio)} of fetches, and at least 10, start over a minute late",
            summary="Fetches start late.",
            description="{{ $value | humanizePercentage }} of the fetches of job {{ $labels.job }} start more than "
            "a minute late, so status changes are detected late. Check the request budget, Twilio's latency "
            "and CPU.",
        ),
    )


def _watchlist_alerts(settings: Settings) -> tuple[Alert, ...]:
    shrank = percent(settings.shrink_ratio)
    return (
        Alert(
            "WatchlistEmpty",
            f"max {settings.without()} (last_over_time({WATCHLIST_FACTORS.name}[5m])) == 0",
            Severity.CRITICAL,
            pending="15m",
            when="the exporter watches no factors",
            summary="The exporter watches no factors.",
            description="No exporter of job {{ $labels.job }} has a factor to watch: the watchlist is empty or not "
            "mounted, or all its factors are paused.",
        ),
        Alert(
            "WatchlistShrank",
            f"{TOTAL_RECORD} < {1 - settings.shrink_ratio:g} * max_over_time({TOTAL_RECORD}[1h])",
            Severity.WARNING,
            pending="10m",
            when=f"the watchlist shrank by more than {shrank} within an hour",
            summary=f"The watchlist shrank by more than {shrank}.",
            description=f"Job {{{{ $labels.job }}}} now watches {{{{ $value | humanize }}}} factors, over {shrank} "
            "fewer than at its peak in the last hour. Removed factors raise no alerts: check that this was "
            "intended.",
            dashboard=Dashboard.OVERVIEW,
        ),
    )


def _operation_alerts(settings: Settings) -> tuple[Alert, ...]:
    return (
        Alert(
            "ConfigReloadFailed",
            f"min {settings.without()} (last_over_time({CONFIG_RELOAD_SUCCESSFUL.name}[5m])) == 0",
            Severity.WARNING,
            pending="10m",
            when="the exporter refused a configuration reload and keeps the previous configuration",
            summary="The exporter refused to reload its configuration.",
            description="An exporter of job {{ $labels.job }} refused the current configuration or watchlist and "
            "keeps the previous one. Its log and the check command list the errors.",
        ),
        Alert(
            "StateNotSaved",
            f"""\
time() - min {settings.without()} ({STATE_LAST_SAVE.name}) > 600
or
max {settings.without()} (increase({STATE_SAVE_FAILURES.name}[10m])) > 5""",
            Severity.WARNING,
            pending="5m",
            when="saving the state file fails repeatedly, or the last save is more than 10 minutes old",
            summary="The exporter can't save its state.",
            description="An exporter of job {{ $labels.job }} has a state file and does not save it. After a "
            "restart, it will start from the last saved state, or from none.",
        ),
        Alert(
            "WatchlistFallback",
            f"max {settings.without()} (last_over_time({WATCHLIST_FALLBACK.name}[5m])) == 1",
            Severity.WARNING,
            pending="5m",
            when="the exporter started with unusable watchlist files or URLs and runs on the last good watchlist",
            summary="The exporter runs on the last good watchlist.",
            description="An exporter of job {{ $labels.job }} started with watchlist files or URLs that are "
            "missing, invalid or empty. It watches what they listed last, and is not ready. Its log and the check "
            "command list the errors.",
        ),
        Alert(
            "WatchlistSourceDown",
            f"min {settings.without()} (last_over_time({SOURCE_UP.name}[5m])) == 0",
            Severity.WARNING,
            pending="15m",
            when="a watchlist URL can't be loaded, or its answer is refused",
            summary="A watchlist URL can't be used.",
            description="An exporter of job {{ $labels.job }} can't load the watchlist URL {{ $labels.source }}, "
            "or refuses its answer. What the URL listed last stays in effect; if the exporter never loaded it, "
            "nothing that it lists is watched, and the exporter is not ready. Its log has the reason.",
        ),
        Alert(
            "ExporterRestarting",
            f"max {settings.without()} (changes(process_start_time_seconds{{{settings.job_matcher}}}[30m])) > 2",
            Severity.WARNING,
            keep_firing="15m",
            when="an exporter started at least three times within 30 minutes",
            summary="The exporter restarts repeatedly.",
            description="An exporter of job {{ $labels.job }} started {{ $value | humanize }} times within 30 "
            "minutes. Check the end of its previous log for the cause.",
        ),
    )


def _shard_missing(settings: Settings) -> Alert:
    # During a resize, there are exporters of two numbers of shards. Nothing is unwatched if every shard of the
    # larger number has an exporter, of either number: one of the smaller number watches what its shard has, and
    # what it will give away. Nor is anything if the exporters of the smaller number are complete.
    smallest = f"min {settings.without()} ({SHARDS.name})"
    of_smallest = f"{SHARDS.name} == {settings.ignoring()} group_left () {smallest}"
    # Without windows: while a scrape fails, its shard counts as missing, for which the alert waits anyway.
    return Alert(
        "ShardMissing",
        f"""\
count without (shard) (group {settings.without()} ({SHARD_INFO.name}))
< max {settings.without()} ({SHARDS.name})
unless
count without (shard) (
  group {settings.without()} ({SHARD_INFO.name} and ignoring (shard) ({of_smallest}))
)
== {smallest}""",
        Severity.CRITICAL,
        pending="5m",
        when="a shard has no exporter that can be scraped, and no other one watches its factors",
        summary="Part of the watchlist is not watched.",
        description="Only {{ $value | humanize }} shards of job {{ $labels.job }} have an exporter that can be "
        "scraped. The factors of the other shards are not polled; their alerts resolve although nothing was fixed.",
    )


def _shard_coverage(settings: Settings) -> Alert:
    def shards(operator: str) -> str:
        return f"{operator} {settings.without()} (last_over_time({SHARDS.name}[5m]))"

    # Pending for longer than a rollout takes: last_over_time shows a replaced pod for another 5 minutes.
    # shard_info tells shards apart; replicas of a shard count once.
    with_shard = (
        f"present_over_time({SHARD_INFO.name}[5m]) * ignoring (shard) group_left "
        f"last_over_time({WATCHLIST_LISTED.name}[5m])"
    )
    listed = f"sum without (shard) (max {settings.without()} ({with_shard}))"
    # Each exporter loads a URL at a time of its own: the lengths are compared only while they stay the same.
    # Then the smallest one of the last minutes is also the last.
    whole_list = f"max {settings.without()} (min_over_time({WATCHLIST_TOTAL.name}[5m]))"
    changed = f"max {settings.without()} (changes({WATCHLIST_TOTAL.name}[1h])) > 0"
    return Alert(
        "ShardCoverage",
        f"""\
{shards("min")} < {shards("max")}
or
(
  {listed} != {whole_list}
  unless
  {changed}
)""",
        Severity.CRITICAL,
        pending="20m",
        when="the exporters disagree on the number of shards, or the factors listed for the shards don't add up to "
        "a watchlist that has not changed for an hour",
        summary="The shards do not add up to the watchlist.",
        description="The exporters of job {{ $labels.job }} disagree on the number of shards, or have different "
        "watchlists, so some factors may not be polled or are polled twice.",
    )
