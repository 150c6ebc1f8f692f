"""Faults of the process and its surroundings as data: what becomes of them, and the test that shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A fault, its outcome, the metric that shows it, what the log says, how it ends, and its test."""

    name: str
    outcome: str
    metric: str
    log: str
    recovery: str
    test: str


PROCESS_ROWS = (
    ProcessRow(
        "nobody reads standard error, and its pipe is full",
        "polling and scrapes continue; 1 MiB of lines waits, further ones are dropped",
        "twilio_verify_exporter_log_lines_dropped_total",
        "the last lines before an exit still come out",
        "lines are written again as soon as somebody reads",
        "tests/daemon/test_unread_log.py::test_a_full_pipe_stops_nothing_and_the_last_lines_come_out",
    ),
    ProcessRow(
        "standard error is closed",
        "polling and scrapes continue; exit status 0 after SIGTERM",
        "twilio_verify_exporter_log_lines_dropped_total",
        "",
        "",
        "tests/daemon/test_unread_log.py::test_closed_standard_error_changes_no_exit_status",
    ),
    ProcessRow(
        "SIGHUP during the start, and while the exporter stops",
        "the first is remembered, the second ignored; neither ends the process",
        "twilio_verify_exporter_config_last_reload_success_timestamp_seconds",
        "`configuration reloaded`, once",
        "the reload follows when the exporter is up",
        "tests/cli/test_run.py::test_a_hangup_during_the_start_is_one_reload_later_and_none_ends_it",
    ),
    ProcessRow(
        "a limit of too few open files",
        "the start ends with exit status 1",
        "",
        "one message with the limit and the fix",
        "starts with a higher limit",
        "tests/cli/test_run.py::test_too_low_a_limit_of_open_files_is_one_line",
    ),
    ProcessRow(
        "no file descriptor is left for a new connection",
        "the connection that has waited longest is closed; others go on",
        "process_open_fds",
        "a warning with a constant message",
        "the next connection is accepted",
        "tests/web/server/test_limits.py::test_without_free_descriptors_a_connection_is_closed",
    ),
    ProcessRow(
        "many clients connect, with a low limit of open files",
        "fetches continue, and clients that scraped within ten minutes are answered",
        "process_open_fds",
        "a warning with a constant message",
        "other clients are answered, the newest first",
        "tests/daemon/test_few_descriptors.py::test_who_scraped_before_is_always_answered",
    ),
    ProcessRow(
        "no file descriptor is left, and a client connects that scraped before",
        "it is answered, in the place of another client",
        "process_open_fds",
        "a warning with a constant message",
        "the next connection is accepted",
        "tests/web/server/test_few_descriptors.py::test_a_client_that_scraped_is_answered_while_descriptors_lack",
    ),
    ProcessRow(
        "a client closes its side after its request",
        "it gets its response",
        "",
        "",
        "",
        "tests/web/server/test_limits.py::test_a_client_that_sends_no_more_gets_its_response",
    ),
    ProcessRow(
        "an `Expect` header that isn't `100-continue`, ASCII or not",
        "417",
        "",
        "",
        "",
        "tests/web/server/test_limits.py::test_an_expectation_that_is_not_met_is_417",
    ),
    ProcessRow(
        "plain HTTP on a TLS address",
        "400, and the connection is closed",
        "",
        "",
        "",
        "tests/web/server/test_plain_http_on_tls.py::test_plain_http_gets_400",
    ),
    ProcessRow(
        "a flood of wrong passwords",
        "a right password waits for a few checks at most; guesses get 401, or 503 while too many wait",
        "",
        "a warning with a constant message while guesses get 503",
        "once accepted, a password needs no further check",
        "tests/web/server/test_checks.py::test_over_http_the_first_scrape_after_a_start_passes_a_flood_of_guesses",
    ),
    ProcessRow(
        "a bcrypt hash with a cost above 12",
        "only passwords of its user wait for its checks",
        "",
        "a warning at the start and from `check`",
        "",
        "tests/web/server/test_checks.py::test_a_costly_hash_delays_only_its_own_user",
    ),
    ProcessRow(
        "a request with a foreign `Host` to reload, log level or probe (DNS rebinding)",
        "403",
        "",
        "",
        "",
        "tests/web/test_allowed_hosts.py::test_a_foreign_name_is_refused",
    ),
    ProcessRow(
        "the system is suspended",
        "statuses of before are withdrawn if they are stale by then; no fetch counts as lost",
        "twilio_verify_factor_last_success_timestamp_seconds",
        "",
        "due factors are fetched, spread out",
        "tests/daemon/test_suspend.py"
        "::test_nothing_known_before_a_suspend_is_shown_after_it_and_nothing_counts_as_lost",
    ),
    ProcessRow(
        "the wall clock is set",
        "jobs are planned again; ages are not affected",
        "twilio_verify_exporter_last_tick_timestamp_seconds",
        "a warning with the size of the step",
        "no run is lost",
        "tests/daemon/test_jobs.py::test_a_step_of_the_wall_clock_plans_the_jobs_again",
    ),
    ProcessRow(
        "the scheduler stands still",
        "`/-/healthy` is 503, and stale statuses are withdrawn at the next scrape",
        "twilio_verify_exporter_last_tick_timestamp_seconds",
        "",
        "a supervisor restarts the process",
        "tests/daemon/test_readiness.py::test_a_scheduler_that_stands_still_is_unhealthy_and_claims_nothing_for_long",
    ),
    ProcessRow(
        "the HTTP client is stuck",
        "the client is replaced",
        "twilio_verify_api_client_rotations_total",
        "a warning with the reason",
        "the next fetches use the new client",
        "tests/daemon/test_rotation.py::test_a_jammed_transport_is_replaced",
    ),
    ProcessRow(
        "the state file is cut off or changed",
        "nothing of it is restored; it is kept as `FILE.refused-TIME`",
        "twilio_verify_exporter_state_last_save_timestamp_seconds",
        "a warning with the reason, and one with the name of the kept file",
        "the next save writes a new file",
        "tests/daemon/test_restart.py::test_a_file_that_is_not_restored_is_kept",
    ),
    ProcessRow(
        "the state file was saved in the future: the clock is set back",
        "nothing of it is restored; it is kept as `FILE.refused-TIME`",
        "twilio_verify_exporter_state_last_save_timestamp_seconds",
        "a warning with the time of the save, and one with the name of the kept file",
        "the next save writes a new file",
        "tests/daemon/test_restart.py::test_a_file_that_is_not_restored_is_kept",
    ),
    ProcessRow(
        "a line of the state file has a time in the future or is no snapshot",
        "all other factors are restored; the file is kept as `FILE.refused-TIME`",
        "twilio_verify_exporter_state_last_save_timestamp_seconds",
        "the number of skipped lines, and a warning with the name of the kept file",
        "the next save writes a new file",
        "tests/daemon/test_restart.py::test_a_file_that_is_not_restored_is_kept",
    ),
    ProcessRow(
        "a fourth state file is refused",
        "the newest three are kept",
        "",
        "a warning with the name of the kept file",
        "",
        "tests/state/test_file.py::test_the_newest_three_refused_files_are_kept",
    ),
    ProcessRow(
        "a state file that isn't restored can't be kept",
        "nothing is saved, so that it isn't overwritten; polling and scrapes continue",
        "twilio_verify_exporter_state_save_failures_total",
        "an error, once",
        "each save tries again to keep it",
        "tests/daemon/test_restart.py::test_what_cannot_be_kept_is_not_overwritten",
    ),
    ProcessRow(
        "the state file is empty",
        "the start is that without a state file, and nothing is kept",
        "twilio_verify_exporter_state_last_save_timestamp_seconds",
        "`no saved state`",
        "the next save replaces it",
        "tests/daemon/test_restart.py::test_an_empty_file_is_a_fresh_start",
    ),
    ProcessRow(
        "a directory or a pipe in place of the state file",
        "nothing is restored, and it stays as it is; polling and scrapes continue",
        "twilio_verify_exporter_state_save_failures_total",
        "a warning, and an error with the fix, once",
        "the first save after it is removed writes the file",
        "tests/daemon/test_restart.py::test_what_is_no_file_is_left_alone_and_counted",
    ),
    ProcessRow(
        "the state file can't be written",
        "polling and scrapes continue; the previous file stays",
        "twilio_verify_exporter_state_save_failures_total",
        "once, and again when it can be written",
        "the next save succeeds",
        "tests/daemon/test_restart.py::test_a_file_that_cannot_be_written_is_logged_once",
    ),
    ProcessRow(
        "writing the state file hangs",
        "polling and scrapes continue, and no second write is started",
        "twilio_verify_exporter_state_last_save_timestamp_seconds",
        "",
        "the next save follows when the write ends",
        "tests/daemon/test_restart.py::test_a_save_that_hangs_stops_nothing_else",
    ),
    ProcessRow(
        "two exporters have one state file",
        "the second one waits a minute for the lock, then ends with exit status 1",
        "",
        "a warning while it waits",
        "it starts as soon as the first one ends",
        "tests/daemon/test_state_lock.py::test_the_second_one_waits_and_starts_when_the_first_ends",
    ),
    ProcessRow(
        "the file system of the state file has no locks",
        "the exporter starts without the lock",
        "",
        "a warning with the problem, once",
        "",
        "tests/daemon/test_state_lock.py::test_where_locks_are_not_supported_it_warns_and_goes_on",
    ),
    ProcessRow(
        "a write of the state file is killed (SIGKILL)",
        "the previous file or the new one is there, whole",
        "twilio_verify_exporter_state_last_save_timestamp_seconds",
        "",
        "temporary files are removed at the next start",
        "tests/state/test_killed_writers.py::test_what_is_left_is_whole",
    ),
    ProcessRow(
        "a watchlist file is cut off or empty at the start, and there is a state file",
        "the last good watchlist is watched; `/-/ready` is 503",
        "twilio_verify_exporter_watchlist_fallback",
        "an error with every problem of the files",
        "once the files are right again, a reload applies them",
        "tests/daemon/test_fallback.py::test_a_process_that_starts_with_a_truncated_watchlist",
    ),
    ProcessRow(
        "the same without a last good watchlist, or an error in the configuration file",
        "the start ends with exit status 1",
        "",
        "every error with its place",
        "starts with the right files",
        "tests/daemon/test_fallback.py::test_a_process_without_a_last_good_watchlist_exits_as_ever",
    ),
    ProcessRow(
        "a watchlist URL dies, answers HTML, an empty list, one bad entry, too much or too slowly",
        "what it listed last is watched, also after a restart; `/-/ready` is 503 only then",
        "twilio_verify_exporter_watchlist_source_up",
        "one error per kind of failure",
        "the next good answer is applied",
        "tests/daemon/test_url_sources.py::test_whatever_happens_to_a_url_what_it_listed_last_is_watched",
    ),
    ProcessRow(
        "a watchlist URL is down at the start, and was never loaded",
        "the other sources are watched; `/-/ready` is 503",
        "twilio_verify_exporter_watchlist_source_up",
        "one error",
        "the first good answer is applied",
        "tests/daemon/test_url_sources.py::test_without_a_last_good_list_the_other_sources_are_watched",
    ),
)


def process_table() -> str:
    """Return a table of all rows."""
    return "\n".join(
        (
            "| fault | outcome | metric | log | recovery | test |",
            "|---|---|---|---|---|---|",
            *(
                f"| {row.name} | {row.outcome} | {f'`{row.metric}`' if row.metric else '–'} | {row.log or '–'} "
                f"| {row.recovery or '–'} | [{row.test.rpartition('/')[2].partition('.')[0]}]"
                f"(../{row.test.partition('::')[0]}) |"
                for row in PROCESS_ROWS
            ),
        )
    )
