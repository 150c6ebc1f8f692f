"""The Exporter & Twilio API dashboard: health of the exporter, and requests to Twilio."""

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
    LATE_FETCHES,
    LOOP_LAG,
    QUEUE_LENGTH,
    RUNS_LOST,
    SCHEDULE_LAG,
    SOURCE_LAST_SUCCESS,
    SOURCE_UP,
    STATE_LAST_SAVE,
    STATE_SAVE_FAILURES,
    WATCHLIST_FACTORS,
    WATCHLIST_FALLBACK,
)
from grafana.boards.board import EXPORTER, Board, Line, Section
from grafana.boards.colours import (
    CODE_CLASSES,
    GENERATIONS,
    LOST_RUNS,
    MEASURED,
    NO_EVENTS,
    OPERATIONS,
    QUANTILES,
    REASONS,
    REPORTED,
)
from grafana.boards.health import exporters_up, last_tick
from grafana.boards.panels import Query, counted, graph, heat_map, one_text, one_value, timeline
from grafana.boards.promql import by_class, distribution, exporter_series, increase, quantile, rate, selected
from grafana.boards.states import BAD, CREDENTIALS, GOOD, PAUSED, PLAIN, REACHED, RELOAD, WARN, Word
from grafana.boards.variables import accounts_and_services, data_source, exporters

_COLLECTIONS = exporter_series("python_gc_collections_total")
_TOO_MANY = 'code="429"'
_NOT_ANSWERED = 'code!~"2..|404"'
_BY_INSTANCE = "{{instance}}"
_NO_URL = "No watchlist URL is configured, or no samples"
_NO_STATE_FILE = "No state file is configured, or no samples"
_REFUSED = 2

HEALTH = Section(
    "Is the exporter healthy?",
    (
        Line(
            4,
            (
                exporters_up(),
                last_tick(),
                one_value(
                    "Configuration",
                    "Whether the last configuration reload succeeded. REFUSED: the previous configuration is "
                    "still in use. LAST GOOD: watchlist files or URLs were unusable at the start, and the last "
                    "good watchlist stands in for them.",
                    f"2 * max({selected(WATCHLIST_FALLBACK)}) > 0 or min({selected(CONFIG_RELOAD_SUCCESSFUL)})",
                    meanings=RELOAD,
                ),
                one_value(
                    "Credentials",
                    "Whether Twilio accepts the credentials of all accounts. REFUSED: those of at least one; the "
                    "timeline of accounts below shows which. Unknown: no response yet, or no samples.",
                    f"min({selected(CREDENTIALS_VALID)})",
                    meanings=CREDENTIALS,
                ),
                one_value(
                    "Watched",
                    "Number of factors that the selected exporters watch, including discovered ones, without "
                    "paused ones.",
                    f"sum({selected(WATCHLIST_FACTORS)})",
                    unit="locale",
                    meanings=(Word(0, "NONE", BAD),),
                    decimals=0,
                ),
                one_value(
                    "Budget used",
                    "Requests that the configured intervals need, relative to the budget, for the account where "
                    "this is highest. Above 100%, all intervals of that account are stretched.",
                    f"max(sum by (job, account) ({selected(API_DEMAND)})"
                    f" / sum by (job, account) ({selected(API_BUDGET)}))",
                    unit="percentunit",
                    steps=((0.8, WARN), (1, BAD)),
                    base=GOOD,
                    decimals=0,
                ),
                one_value(
                    "Last start",
                    "Time of the most recent exporter start.",
                    f"1000 * max({exporter_series('process_start_time_seconds')})",
                    unit="dateTimeFromNow",
                ),
                one_text(
                    "Version",
                    "Versions of the exporters; more than one during a rollout.",
                    f"count by (version) ({selected(BUILD_INFO)})",
                    "version",
                ),
            ),
        ),
    ),
)

REQUESTS = Section(
    "Does Twilio respond? (rate, errors, duration)",
    (
        Line(
            8,
            (
                graph(
                    "Requests by status code",
                    "Requests to the Verify API. 404: not found. 429: too many requests. 4xx: other codes from 400 "
                    "to 499. none: no complete response arrived.",
                    "reqps",
                    Query(by_class(rate(API_REQUESTS, ("code",))), "{{class}}"),
                    colours=CODE_CLASSES,
                ),
                graph(
                    "Request error ratio",
                    "Requests without a 2xx or 404 response, by operation. Every retry counts.",
                    "percentunit",
                    Query(
                        f"({rate(API_REQUESTS, ('operation',), _NOT_ANSWERED)}"
                        f" or 0 * {rate(API_REQUESTS, ('operation',))})"
                        f" / ({rate(API_REQUESTS, ('operation',))} > 0)",
                        "{{operation}}",
                    ),
                    colours=OPERATIONS,
                ),
                graph(
                    "Request duration",
                    "Duration of single requests of all operations until the last byte; the row below has it by "
                    "operation. Points are exemplars with their Twilio-Request-Id, if Prometheus stores exemplars.",
                    "s",
                    Query(quantile(0.5, API_REQUEST_DURATION), "p50"),
                    Query(quantile(0.95, API_REQUEST_DURATION), "p95", True),
                    Query(quantile(0.99, API_REQUEST_DURATION), "p99"),
                    colours=QUANTILES,
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Failed fetches by reason",
                    "Fetches that ended without a definite answer after all retries. auth, forbidden: credentials."
                    " rate_limited: 429. internal: an error in the exporter.",
                    "short",
                    *counted(FETCH_FAILURES, ("reason",), "{{reason}}"),
                    bars=True,
                    colours=REASONS,
                ),
                graph(
                    "Fetches and failures",
                    "Completed fetches, fetches without a definite answer, and failed listings of entities.",
                    "ops",
                    Query(rate(FETCHES, ()), "fetches"),
                    Query(rate(FETCH_FAILURES, ()), "failed fetches"),
                    Query(rate(ENTITY_FAILURES, ()), "failed listings"),
                    colours={"fetches": PLAIN, "failed fetches": WARN, "failed listings": BAD},
                ),
                graph(
                    "Retries and client rotations",
                    "Requests after the first of a fetch, and HTTP clients that were replaced.",
                    "short",
                    Query(f"{increase(API_RETRIES, ('account',))} > 0", "{{account}} retries"),
                    Query(f"{increase(API_ROTATIONS, ('account',))} > 0", "{{account}} rotations"),
                    Query(f"{increase(API_RETRIES, ())} + {increase(API_ROTATIONS, ())} == 0", NO_EVENTS),
                    bars=True,
                    shades=WARN,
                ),
            ),
        ),
    ),
)

LATENCY = Section(
    "Where does latency come from?",
    (
        Line(
            9,
            (
                heat_map(
                    "Request duration heatmap",
                    "Distribution of request durations in requests per second. Darker cells contain more "
                    "requests. Reads classic buckets, or native histograms where Prometheus stores no buckets; "
                    "Grafana 10 may not draw the latter.",
                    "s",
                    Query(distribution(API_REQUEST_DURATION), "{{le}}"),
                ),
                graph(
                    "Request duration: measured and reported by Twilio",
                    "95th percentile as measured by the exporter, and as reported by Twilio "
                    "(Twilio-Request-Duration). Both high: Twilio is slow. Only the measured one: network, proxy "
                    "or exporter.",
                    "s",
                    Query(quantile(0.95, API_REQUEST_DURATION, ("operation",)), "{{operation}} measured"),
                    Query(quantile(0.95, API_SERVER_DURATION, ("operation",)), "{{operation}} reported by Twilio"),
                    colours=MEASURED | REPORTED,
                ),
            ),
        ),
    ),
    collapsed=True,
)

LIMITS = Section(
    "Is Twilio rate limiting?",
    (
        Line(
            8,
            (
                graph(
                    "429 responses",
                    "Twilio rate-limits the account. Each response halves its concurrency and pauses it for a "
                    "while.",
                    "short",
                    *counted(API_REQUESTS, ("account", "operation"), "{{account}} {{operation}}", _TOO_MANY),
                    bars=True,
                    shades=WARN,
                ),
                timeline(
                    "Accounts",
                    "Accounts that send no requests after a 429, and those whose credentials were refused: they "
                    "send only probes.",
                    Query(
                        f"{_REFUSED:d} + (min by (account) ({selected(CREDENTIALS_VALID)}) == 0)"
                        f" or max by (account) ({selected(API_PAUSED)})",
                        "{{account}}",
                    ),
                    (*PAUSED, Word(_REFUSED, "credentials REFUSED", BAD)),
                    none="No accounts, or no samples",
                ),
                graph(
                    "Concurrency",
                    "Requests in flight at scrape time, and the limit. A 429 halves the limit; it recovers over "
                    "time.",
                    "short",
                    Query(f"sum by (account) ({selected(API_IN_FLIGHT)})", "{{account}} in flight"),
                    Query(f"sum by (account) ({selected(API_CONCURRENCY_LIMIT)})", "{{account}} limit"),
                ),
            ),
        ),
        Line(
            8,
            (
                graph(
                    "Request budget",
                    "Requests per second: sent, needed by the configured intervals, and allowed by the budget. If "
                    "the demand exceeds the budget, intervals are stretched.",
                    "reqps",
                    Query(rate(API_REQUESTS, ("account",)), "{{account}} sent"),
                    Query(f"sum by (account) ({selected(API_DEMAND)})", "{{account}} demand"),
                    Query(f"sum by (account) ({selected(API_BUDGET)})", "{{account}} budget"),
                ),
            ),
        ),
    ),
)

SCHEDULE = Section(
    "Is polling on schedule?",
    (
        Line(
            8,
            (
                graph(
                    "Schedule lag",
                    "Delay between the due time and the start of fetches, without pauses. High: an account is over "
                    "budget, or slow responses occupy all slots.",
                    "s",
                    Query(quantile(0.5, SCHEDULE_LAG), "p50"),
                    Query(quantile(0.99, SCHEDULE_LAG), "p99"),
                    colours=QUANTILES,
                ),
                graph(
                    "Late fetches",
                    "Fetches that started more than a minute after they were due. Normally none.",
                    "short",
                    *counted(LATE_FETCHES, ("instance",), _BY_INSTANCE),
                    bars=True,
                    shades=WARN,
                ),
                graph(
                    "Queue length",
                    "Due factors that wait for a slot of their account.",
                    "locale",
                    Query(f"sum by (instance) ({selected(QUEUE_LENGTH)})", _BY_INSTANCE),
                ),
                graph(
                    "Event loop lag",
                    "Delay of callbacks in the event loop. High: the process is short of CPU, or a callback "
                    "blocks.",
                    "s",
                    Query(quantile(0.5, LOOP_LAG, ("instance",)), "{{instance}} p50"),
                    Query(quantile(0.99, LOOP_LAG, ("instance",)), "{{instance}} p99"),
                ),
            ),
        ),
        Line(
            7,
            (
                graph(
                    "Lost scheduler runs",
                    "Runs of scheduler tasks that were missed, failed, or skipped because the previous run had not "
                    "ended. Normally none.",
                    "short",
                    *counted(RUNS_LOST, ("task", "reason"), "{{task}} {{reason}}"),
                    bars=True,
                    colours=LOST_RUNS,
                ),
                graph(
                    "Scrape duration",
                    "Time that Prometheus needs to scrape each exporter.",
                    "s",
                    Query(exporter_series("scrape_duration_seconds"), _BY_INSTANCE),
                ),
            ),
        ),
    ),
)

WATCHLIST = Section(
    "Is the watchlist up to date?",
    (
        Line(
            7,
            (
                timeline(
                    "Watchlist URLs",
                    "Whether the last load of each watchlist URL succeeded, by the worst exporter. DOWN: what it "
                    "listed last is watched. No data without [[watchlist.http]].",
                    Query(f"min by (source) ({selected(SOURCE_UP)})", "{{source}}"),
                    REACHED,
                    none=_NO_URL,
                ),
                graph(
                    "Age of the answers of watchlist URLs",
                    "Time since the last successful load of each watchlist URL. No data without "
                    "[[watchlist.http]].",
                    "s",
                    Query(f"time() - min by (source) ({selected(SOURCE_LAST_SUCCESS)})", "{{source}}"),
                ).no_value(_NO_URL),
            ),
        ),
    ),
    collapsed=True,
)

PROCESS = Section(
    "Which resources does it use?",
    (
        Line(
            8,
            (
                graph(
                    "Memory",
                    "Resident memory of each exporter.",
                    "bytes",
                    Query(exporter_series("process_resident_memory_bytes"), _BY_INSTANCE),
                ),
                graph(
                    "CPU",
                    "CPU time used by each exporter, relative to one core; a Python process can use at most one.",
                    "percentunit",
                    Query(f"rate({exporter_series('process_cpu_seconds_total')}[$__rate_interval])", _BY_INSTANCE),
                ),
                graph(
                    "Open file descriptors",
                    "File descriptors in use, including connections, relative to the limit of the process.",
                    "percentunit",
                    Query(
                        f"{exporter_series('process_open_fds')} / {exporter_series('process_max_fds')}",
                        _BY_INSTANCE,
                    ),
                ),
            ),
        ),
        Line(
            7,
            (
                graph(
                    "Samples per scrape",
                    "Samples that each exporter exposes; compare with sample_limit in the scrape configuration.",
                    "locale",
                    Query(exporter_series("scrape_samples_scraped"), _BY_INSTANCE),
                ),
                graph(
                    "Garbage collections",
                    "Runs of Python's garbage collector by generation.",
                    "ops",
                    Query(
                        f"sum by (generation) (rate({_COLLECTIONS}[$__rate_interval]))",
                        "generation {{generation}}",
                    ),
                    colours=GENERATIONS,
                ),
                graph(
                    "Age of the state file",
                    "Time since the last successful save, which is due every minute. No data without state.file.",
                    "s",
                    Query(f"time() - {selected(STATE_LAST_SAVE)}", _BY_INSTANCE),
                ).no_value(_NO_STATE_FILE),
                graph(
                    "Failed saves of the state file",
                    "Normally none; the log has the reason.",
                    "short",
                    *counted(STATE_SAVE_FAILURES, ("instance",), _BY_INSTANCE),
                    bars=True,
                    shades=WARN,
                ).no_value(_NO_STATE_FILE),
            ),
        ),
    ),
    collapsed=True,
)

EXPORTER_BOARD = Board(
    EXPORTER,
    "Twilio Verify / Exporter & Twilio API",
    "Health of the exporter, requests to Twilio, latency, rate limits, schedule and resources.",
    (data_source(), *exporters(), *accounts_and_services()),
    (HEALTH, REQUESTS, LATENCY, LIMITS, SCHEDULE, WATCHLIST, PROCESS),
)
