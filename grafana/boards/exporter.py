"""Exporter & Twilio API: is the exporter well, and is it Twilio or us?"""

from __future__ import annotations

from exporter.exposition.catalogue import (
    API_BUDGET,
    API_CONCURRENCY_LIMIT,
    API_DEMAND,
    API_IN_FLIGHT,
    API_PAUSED,
    API_REQUEST_DURATION,
    API_REQUESTS,
    API_RETRIES,
    API_ROTATIONS,
    API_SERVER_DURATION,
    BUILD_INFO,
    CONFIG_RELOAD_SUCCESSFUL,
    CREDENTIALS_VALID,
    ENTITY_FAILURES,
    FETCH_FAILURES,
    FETCHES,
    LOOP_LAG,
    QUEUE_LENGTH,
    RUNS_LOST,
    SCHEDULE_LAG,
    WATCHLIST_FACTORS,
)
from grafana.boards.board import EXPORTER, Board, Line, Section
from grafana.boards.health import exporters_up, last_tick
from grafana.boards.panels import Query, graph, heat_map, one_text, one_value, timeline
from grafana.boards.promql import chosen, increase, of_exporter, quantile, rate
from grafana.boards.states import BAD, CREDENTIALS, GOOD, ODD, PAUSED, RELOAD
from grafana.boards.variables import accounts_and_services, data_source, exporters

_COLLECTIONS = of_exporter("python_gc_collections_total")
_TOO_MANY = 'code="429"'
_NOT_ANSWERED = 'code!~"2..|404"'
_BY_INSTANCE = "{{instance}}"

WELL = Section(
    "Is the exporter well?",
    (
        Line(
            4,
            (
                exporters_up(),
                last_tick(),
                one_value(
                    "Configuration",
                    "Whether the last attempt to load the configuration succeeded. Refused: the one before is in"
                    " force.",
                    f"min({chosen(CONFIG_RELOAD_SUCCESSFUL)})",
                    meanings=RELOAD,
                ),
                one_value(
                    "Credentials",
                    "Whether Twilio accepts each account's credentials. No data: no answer yet.",
                    f"min by (account) ({chosen(CREDENTIALS_VALID)})",
                    meanings=CREDENTIALS,
                    legend="{{account}}",
                ),
                one_value(
                    "Watched factors",
                    "Factors that these exporters watch, listed and discovered, paused ones apart.",
                    f"sum({chosen(WATCHLIST_FACTORS)})",
                    unit="short",
                    none="none",
                    decimals=0,
                ),
                one_value(
                    "Budget used",
                    "What the unstretched intervals ask, as a share of what the account may ask; of the account"
                    " where it is greatest. Above 100 % all intervals of that account are stretched.",
                    f"max(sum by (job, account) ({chosen(API_DEMAND)})"
                    f" / sum by (job, account) ({chosen(API_BUDGET)}))",
                    unit="percentunit",
                    steps=((0.8, ODD), (1, BAD)),
                    base=GOOD,
                    decimals=0,
                ),
                one_value(
                    "Running since",
                    "Start of the exporter that started last.",
                    f"1000 * max({of_exporter('process_start_time_seconds')})",
                    unit="dateTimeFromNow",
                ),
                one_text(
                    "Version",
                    "Version of each exporter; two of them while a new one is rolled out.",
                    f"count by (version) ({chosen(BUILD_INFO)})",
                    "version",
                ),
            ),
        ),
    ),
)

REQUESTS = Section(
    "Does Twilio answer? (rate, errors, duration)",
    (
        Line(
            8,
            (
                graph(
                    "Requests, by operation and answer",
                    "Requests to the Verify API, by operation and HTTP status. none: no complete answer arrived.",
                    "reqps",
                    Query(rate(API_REQUESTS, ("operation", "code")), "{{operation}} {{code}}"),
                ),
                graph(
                    "Share of requests that failed",
                    "Requests that got neither a good answer nor a 404, by operation. Retries count one by one.",
                    "percentunit",
                    Query(
                        f"({rate(API_REQUESTS, ('operation',), _NOT_ANSWERED)}"
                        f" or 0 * {rate(API_REQUESTS, ('operation',))})"
                        f" / ({rate(API_REQUESTS, ('operation',))} > 0)",
                        "{{operation}}",
                    ),
                ),
                graph(
                    "Duration of a request",
                    "From its start to the last byte, by operation; one request, not a fetch with its retries."
                    " Points: single requests with their Twilio-Request-Id, where Prometheus keeps exemplars.",
                    "s",
                    Query(quantile(0.5, API_REQUEST_DURATION, ("operation",)), "{{operation}} half within"),
                    Query(quantile(0.95, API_REQUEST_DURATION, ("operation",)), "{{operation}} 95 % within", True),
                    Query(quantile(0.99, API_REQUEST_DURATION, ("operation",)), "{{operation}} 99 % within"),
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Failed fetches, by reason",
                    "Fetches that ended without a definite answer, after their retries; auth and forbidden: the"
                    " credentials, rate_limited: 429, internal: the exporter itself.",
                    "short",
                    Query(f"{increase(FETCH_FAILURES, ('reason',))} > 0", "{{reason}}"),
                    bars=True,
                ),
                graph(
                    "Fetches and failed ones",
                    "Fetches that ended, and those without a definite answer; discovery walks of entities that"
                    " failed.",
                    "ops",
                    Query(rate(FETCHES, ()), "fetches"),
                    Query(rate(FETCH_FAILURES, ()), "failed fetches"),
                    Query(rate(ENTITY_FAILURES, ()), "failed walks"),
                    colours={"failed fetches": ODD, "failed walks": BAD},
                ),
                graph(
                    "Retries and fresh clients",
                    "Requests beyond the first of their fetch, and HTTP clients replaced because they were jammed.",
                    "short",
                    Query(f"{increase(API_RETRIES, ('account',))} > 0", "{{account}} retries"),
                    Query(f"{increase(API_ROTATIONS, ('account',))} > 0", "{{account}} fresh clients"),
                    bars=True,
                ),
            ),
        ),
    ),
)

SLOW = Section(
    "Is it slow, and is it Twilio or us?",
    (
        Line(
            9,
            (
                heat_map(
                    "Durations of requests",
                    "How many requests a second took how long: the higher, the slower; the darker, the more.",
                    "s",
                    Query(rate(API_REQUEST_DURATION, ("le",), suffix="_bucket"), "{{le}}"),
                ),
                graph(
                    "Twilio's own duration beside ours",
                    "95 % of the requests were within this: as we measured, and as Twilio says it took them"
                    " (Twilio-Request-Duration). Both high: Twilio is slow. Ours alone: network, proxy or this"
                    " exporter.",
                    "s",
                    Query(quantile(0.95, API_REQUEST_DURATION, ("operation",)), "{{operation}} as we measured"),
                    Query(quantile(0.95, API_SERVER_DURATION, ("operation",)), "{{operation}} as Twilio says"),
                ),
            ),
        ),
    ),
)

LIMITS = Section(
    "Are we limited?",
    (
        Line(
            8,
            (
                graph(
                    "Answers of 429",
                    "Twilio limits the rate. Each halves the account's concurrency and pauses it for a while.",
                    "short",
                    Query(
                        f"{increase(API_REQUESTS, ('account', 'operation'), _TOO_MANY)} > 0",
                        "{{account}} {{operation}}",
                    ),
                    bars=True,
                ),
                timeline(
                    "Pauses",
                    "While an account is paused it asks nothing: after a 429, or for refused credentials.",
                    Query(f"max by (account) ({chosen(API_PAUSED)})", "{{account}}"),
                    PAUSED,
                ),
                graph(
                    "Concurrency",
                    "Requests under way when Prometheus looked, and how many may be; halved by a 429, grows back.",
                    "short",
                    Query(f"sum by (account) ({chosen(API_IN_FLIGHT)})", "{{account}} under way"),
                    Query(f"sum by (account) ({chosen(API_CONCURRENCY_LIMIT)})", "{{account}} limit"),
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Budget",
                    "Requests a second: made, asked by the unstretched intervals, and allowed to the account."
                    " Asked above allowed: intervals are stretched.",
                    "reqps",
                    Query(rate(API_REQUESTS, ("account",)), "{{account}} made"),
                    Query(f"sum by (account) ({chosen(API_DEMAND)})", "{{account}} asked"),
                    Query(f"sum by (account) ({chosen(API_BUDGET)})", "{{account}} allowed"),
                ),
            ),
        ),
    ),
)

LATE = Section(
    "Is the exporter late?",
    (
        Line(
            8,
            (
                graph(
                    "Schedule lag",
                    "How late due fetches start; time in a pause does not count. Late: over budget, or slow"
                    " answers hold the slots.",
                    "s",
                    Query(quantile(0.5, SCHEDULE_LAG), "half within"),
                    Query(quantile(0.99, SCHEDULE_LAG), "99 % within"),
                ),
                graph(
                    "Waiting for a slot",
                    "Factors that are due and wait for a slot of their account.",
                    "short",
                    Query(f"sum by (instance) ({chosen(QUEUE_LENGTH)})", _BY_INSTANCE),
                ),
                graph(
                    "Loop lag",
                    "How late the event loop runs a callback. High: the process lacks CPU, or something holds the"
                    " loop.",
                    "s",
                    Query(quantile(0.5, LOOP_LAG, ("instance",)), "{{instance}} half within"),
                    Query(quantile(0.99, LOOP_LAG, ("instance",)), "{{instance}} 99 % within"),
                ),
            ),
        ),
        Line(
            7,
            (
                graph(
                    "Lost runs of the scheduler",
                    "Runs of its tasks that were missed, refused since the one before still ran, or failed."
                    " Usually none.",
                    "short",
                    Query(f"{increase(RUNS_LOST, ('task', 'reason'))} > 0", "{{task}} {{reason}}"),
                    bars=True,
                ),
                graph(
                    "Scrapes",
                    "How long Prometheus takes to scrape each exporter.",
                    "s",
                    Query(of_exporter("scrape_duration_seconds"), _BY_INSTANCE),
                ),
            ),
        ),
    ),
)

PROCESS = Section(
    "What does it use?",
    (
        Line(
            8,
            (
                graph(
                    "FactorSnapshot",
                    "Resident memory of each exporter.",
                    "bytes",
                    Query(of_exporter("process_resident_memory_bytes"), _BY_INSTANCE),
                ),
                graph(
                    "CPU",
                    "Cores that each exporter uses; 1 is all that one process of Python has.",
                    "short",
                    Query(f"rate({of_exporter('process_cpu_seconds_total')}[$__rate_interval])", _BY_INSTANCE),
                ),
                graph(
                    "Open files",
                    "File descriptors in use, connections included, as a share of what the process may open.",
                    "percentunit",
                    Query(f"{of_exporter('process_open_fds')} / {of_exporter('process_max_fds')}", _BY_INSTANCE),
                ),
            ),
        ),
        Line(
            7,
            (
                graph(
                    "Samples in a scrape",
                    "Samples that each exporter shows; compare with the sample_limit of the scrape.",
                    "short",
                    Query(of_exporter("scrape_samples_scraped"), _BY_INSTANCE),
                ),
                graph(
                    "Garbage collections",
                    "Runs of Python's garbage collector, by generation.",
                    "ops",
                    Query(
                        f"sum by (generation) (rate({_COLLECTIONS}[$__rate_interval]))",
                        "generation {{generation}}",
                    ),
                ),
            ),
        ),
    ),
)

EXPORTER_BOARD = Board(
    EXPORTER,
    "Twilio Verify / Exporter & Twilio API",
    "Is the exporter well, does Twilio answer, is it slow and whose fault is it, are we limited?",
    (data_source(), *exporters(), *accounts_and_services()),
    (WELL, REQUESTS, SLOW, LIMITS, LATE, PROCESS),
)
