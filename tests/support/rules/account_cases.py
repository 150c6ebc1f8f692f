"""Cases for the alerts about accounts: credentials, API outages, rate limits and budget."""

from __future__ import annotations

from tests.support.rules.cases import JOB, POD_A, POD_B, Case, ExpectedAlert, name
from tests.support.rules.fetch_cases import phases, steps

ACCOUNT = {**JOB, "account": "main"}
ONE, OTHER = {"service_sid": "VA1"}, {"service_sid": "VA2"}
_EXPORTER = "twilio-verify-exporter?var-account=main"
_VALID = "twilio_verify_credentials_valid"
_INVALID = "CredentialsInvalid"
_DOWN = "APIDown"
_LIMITED = "RateLimited"
_OVER = "OverBudget"


def fetches(values: str, service: dict[str, str] = ONE, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the fetch counter of a service of the account."""
    return {name("twilio_verify_fetches_total", ACCOUNT, service, pod): values}


def failures(
    reason: str, values: str, service: dict[str, str] = ONE, pod: dict[str, str] = POD_A
) -> dict[str, str]:
    """Return the counter of fetches that failed for a reason."""
    return {name("twilio_verify_fetch_failures_total", ACCOUNT, service, {"reason": reason}, pod): values}


def requests(code: str, values: str, operation: str = "fetch", pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the counter of requests of the account with this status code."""
    return {name("twilio_verify_api_requests_total", ACCOUNT, {"operation": operation, "code": code}, pod): values}


def budget(demand: str, allowed: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the demand of the intervals and the budget."""
    return {
        name("twilio_verify_api_demand_requests_per_second", ACCOUNT, pod): demand,
        name("twilio_verify_api_budget_requests_per_second", ACCOUNT, pod): allowed,
    }


CREDENTIALS = (
    Case(
        "refused for a while",
        _INVALID,
        {name(_VALID, ACCOUNT, POD_A): "1x4 0x24 1x10"},
        {4: [], 6: [], 7: [ACCOUNT], 29: [ACCOUNT], 30: []},
        ExpectedAlert(
            10,
            ACCOUNT,
            "Twilio refuses the credentials of an account.",
            "The API refuses the credentials of account main (401 or 403, confirmed by a second request), or "
            "Twilio refuses it an access token. Polling of its factors is paused until the credentials are "
            "accepted again.",
            _EXPORTER,
        ),
    ),
    Case(
        "of two replicas one is refused",
        _INVALID,
        {name(_VALID, ACCOUNT, POD_A): "1x20", name(_VALID, ACCOUNT, POD_B): "0x20"},
        {1: [], 2: [ACCOUNT]},
    ),
    Case(
        "two replicas make one alert",
        _INVALID,
        {name(_VALID, ACCOUNT, POD_A): "0x20", name(_VALID, ACCOUNT, POD_B): "0x20"},
        {5: [ACCOUNT]},
    ),
    Case(
        "the pod that was refused is gone",
        _INVALID,
        {name(_VALID, ACCOUNT, POD_A): "0x9 stale", name(_VALID, ACCOUNT, POD_B): "_x10 1x20"},
        {9: [ACCOUNT], 12: [ACCOUNT], 16: []},
    ),
    Case(
        "refused again after a restart is the same alert",
        _INVALID,
        {name(_VALID, ACCOUNT, POD_A): "0x9 stale _x1 0x20"},
        {9: [ACCOUNT], 10: [ACCOUNT], 11: [ACCOUNT], 20: [ACCOUNT]},
    ),
    Case("no answer yet", _INVALID, {name("up", JOB, POD_A): "1x60"}, {5: [], 60: []}),
)

_REASONS = ("timeout", "connect", "dns", "tls", "server_error", "decode")
OUTAGES = (
    Case(
        "no answers for ten minutes",
        _DOWN,
        fetches("0+10x90") | failures("timeout", phases((0, 20), (10, 10), (0, 60))),
        {24: [], 29: [], 30: [ACCOUNT], 75: [ACCOUNT], 76: []},
        ExpectedAlert(
            30,
            ACCOUNT,
            "The Twilio Verify API is unreachable.",
            "100% of the fetches of account main end in timeouts, connection errors, 5xx or unusable responses: "
            "Twilio is down, the connection to it is, or a proxy or gateway answers in its place. This alert "
            "resolves 45 minutes after the condition clears.",
            _EXPORTER,
        ),
    ),
    Case("everything is answered", _DOWN, fetches("0+10x60") | failures("timeout", "0x60"), {10: [], 60: []}),
    Case("92 % fail", _DOWN, fetches("0+100x60") | failures("timeout", "0+92x60"), {10: [ACCOUNT], 60: [ACCOUNT]}),
    Case("88 % fail", _DOWN, fetches("0+100x60") | failures("timeout", "0+88x60"), {10: [], 60: []}),
    Case(
        "93 % fail since a few minutes",
        _DOWN,
        fetches("0+100x60") | failures("timeout", phases((0, 30), (93, 30))),
        {33: [], 42: [ACCOUNT]},
    ),
    Case("92 % of few fail", _DOWN, fetches("0+1x60") | failures("timeout", "0+0.92x60"), {40: [ACCOUNT]}),
    Case("88 % of few fail", _DOWN, fetches("0+1x60") | failures("timeout", "0+0.88x60"), {40: []}),
    *(
        Case(
            f"of six kinds of outage {reason} is one",
            _DOWN,
            fetches("0+10x60") | failures(reason, phases((0, 30), (9.5, 30))),
            {33: [], 42: [ACCOUNT]},
        )
        for reason in _REASONS
    ),
    *(
        Case(
            f"of six kinds of outage {reason} is one, for few fetches",
            _DOWN,
            fetches("0+0.5x60") | failures(reason, "0+0.5x60"),
            {40: [ACCOUNT], 60: [ACCOUNT]},
        )
        for reason in _REASONS
    ),
    *(
        Case(
            f"{reason} is no outage",
            _DOWN,
            fetches("0+10x60") | failures(reason, "0+10x60"),
            {10: [], 60: []},
        )
        for reason in ("auth", "forbidden", "rate_limited", "bad_request", "unknown_status", "internal")
    ),
    Case(
        "one of two services fails",
        _DOWN,
        fetches("0+10x60") | failures("timeout", "0+10x60") | fetches("0+10x60", OTHER),
        {10: [], 60: []},
    ),
    Case(
        "two services, two pods and two reasons make one alert",
        _DOWN,
        fetches("0+5x60", ONE, POD_A)
        | failures("timeout", "0+5x60", ONE, POD_A)
        | fetches("0+5x60", OTHER, POD_B)
        | failures("dns", "0+5x60", OTHER, POD_B),
        {10: [ACCOUNT], 60: [ACCOUNT]},
    ),
    Case(
        "two failures within 20 minutes are few, though nothing else was fetched",
        _DOWN,
        fetches("0+0.135x60") | failures("timeout", "0+0.135x60"),
        {30: [], 60: []},
    ),
    Case(
        "three failures within 20 minutes are all of a small watchlist",
        _DOWN,
        fetches("0+0.081x60", ONE, POD_A)
        | failures("timeout", "0+0.081x60", ONE, POD_A)
        | fetches("0+0.081x60", OTHER, POD_B)
        | failures("tls", "0+0.081x60", OTHER, POD_B),
        {40: [ACCOUNT], 60: [ACCOUNT]},
    ),
    Case(
        "one factor, fetched every five minutes, all of whose fetches fail",
        _DOWN,
        fetches(steps(5)) | failures("timeout", steps(5)),
        {minute: [ACCOUNT] for minute in range(25, 90)},
    ),
    Case(
        "one factor, fetched every five minutes and a minute late, fails after six good fetches",
        _DOWN,
        fetches(steps(6)) | failures("timeout", steps(6, spared=6)),
        {50: []} | {minute: [ACCOUNT] for minute in range(64, 120)},
    ),
    Case(
        "one factor, fetched every five minutes, with every fourth fetch answered",
        _DOWN,
        fetches(steps(5)) | failures("timeout", steps(5, 5, 10)),
        {minute: [] for minute in range(25, 90, 5)},
    ),
    Case(
        "9.7 failures in five minutes are not many: only the longer window judges them",
        _DOWN,
        fetches("0+1.94x60") | failures("timeout", phases((0, 30), (1.94, 30))),
        {42: [], 57: [ACCOUNT]},
    ),
    Case(
        "10.3 failures in five minutes, of two pods and two services",
        _DOWN,
        fetches("0+1.03x60", ONE, POD_A)
        | failures("timeout", phases((0, 30), (1.03, 30)), ONE, POD_A)
        | fetches("0+1.03x60", OTHER, POD_B)
        | failures("dns", phases((0, 30), (1.03, 30)), OTHER, POD_B),
        {33: [], 42: [ACCOUNT]},
    ),
    Case(
        "an outage of half an hour is over for few fetches",
        _DOWN,
        fetches("0+0.5x120") | failures("timeout", phases((0, 20), (0.5, 30), (0, 70))),
        {37: [], 46: [ACCOUNT], 96: [ACCOUNT], 99: []},
    ),
    Case(
        "a restart of the process in the middle",
        _DOWN,
        fetches("900+10x20 0+10x40") | failures("server_error", "500+10x20 0+10x40"),
        {15: [ACCOUNT], 20: [ACCOUNT], 21: [ACCOUNT], 25: [ACCOUNT], 60: [ACCOUNT]},
    ),
    Case(
        "a restart of the process as it begins",
        _DOWN,
        fetches("0+10x35 0+10x30") | failures("server_error", phases((0, 30), (10, 6)) + " 0+10x30"),
        {33: [], 42: [ACCOUNT]},
    ),
    Case(
        "a restart of the process as it begins, few fetches",
        _DOWN,
        fetches("0+0.5x44 0+0.5x40") | failures("server_error", phases((0, 30), (0.5, 15)) + " 0+0.5x40"),
        {45: [], 58: [ACCOUNT]},
    ),
    Case(
        "a restart of the process in the middle, few fetches",
        _DOWN,
        fetches("90+0.5x40 0+0.5x40") | failures("server_error", "50+0.5x40 0+0.5x40"),
        {40: [ACCOUNT], 43: [ACCOUNT], 52: [ACCOUNT], 60: [ACCOUNT]},
    ),
)

LIMITS = (
    Case(
        "one factor, fetched every five minutes and always limited",
        _LIMITED,
        requests("429", steps(5)),
        {20: []} | {minute: [ACCOUNT] for minute in range(46, 90)},
        severity="warning",
    ),
    Case(
        "limited for an hour",
        _LIMITED,
        requests("200", "0+10x150") | requests("429", phases((0, 30), (2, 60), (0, 60))),
        {30: [], 40: [], 60: [ACCOUNT], 100: [ACCOUNT], 125: []},
        ExpectedAlert(
            80,
            ACCOUNT,
            "Twilio rate-limits an account.",
            "16.67% of the requests of account main are answered with 429, so the exporter slows down and detects "
            "changes later. Lower its request rate, or ask Twilio for a higher limit.",
            _EXPORTER,
        ),
        severity="warning",
    ),
    Case(
        "not for long enough",
        _LIMITED,
        requests("200", "0+90x20") | requests("429", "0+10x20"),
        {14: [], 15: [], 16: [ACCOUNT]},
        severity="warning",
    ),
    Case(
        "5.2 % of all to the API",
        _LIMITED,
        requests("200", "0+948x60") | requests("429", "0+52x60") | requests("200", "0+200x60", "token"),
        {40: [ACCOUNT]},
        severity="warning",
    ),
    Case(
        "4.8 % of all",
        _LIMITED,
        requests("200", "0+952x60") | requests("429", "0+48x60"),
        {40: [], 60: []},
        severity="warning",
    ),
    Case(
        "5.2 limited of 30 minutes, of two pods and two operations",
        _LIMITED,
        requests("429", "0+0.08667x90", "fetch", POD_A) | requests("429", "0+0.08667x90", "list", POD_B),
        {70: [ACCOUNT]},
        severity="warning",
    ),
    Case("4.8 limited of 30 minutes", _LIMITED, requests("429", "0+0.16x90"), {50: [], 90: []}, severity="warning"),
    Case(
        "the first five, and as quiet as before after half an hour",
        _LIMITED,
        requests("200", "0+1x150") | requests("429", phases((0, 40), (1, 6), (0, 100))),
        {58: [], 61: [ACCOUNT], 69: [ACCOUNT], 78: []},
        severity="warning",
    ),
    Case(
        "other answers are no limit",
        _LIMITED,
        requests("200", "0+10x60") | requests("503", "0+10x60"),
        {40: [], 60: []},
        severity="warning",
    ),
    Case(
        "a limit of the token endpoint",
        _LIMITED,
        requests("200", "0+10x60") | requests("429", "0+10x60", "token"),
        {40: [], 60: []},
        severity="warning",
    ),
    Case(
        "two pods and two operations",
        _LIMITED,
        requests("429", "0+1x60", "fetch", POD_A)
        | requests("200", "0+40x60", "fetch", POD_A)
        | requests("429", "0+1x60", "list", POD_B)
        | requests("200", "0+10x60", "list", POD_B),
        {40: []},
        severity="warning",
    ),
    Case(
        "a restart of the process in the middle",
        _LIMITED,
        requests("200", "5000+10x40 0+10x40") | requests("429", "500+2x40 0+2x40"),
        {20: [ACCOUNT], 40: [ACCOUNT], 43: [ACCOUNT], 60: [ACCOUNT]},
        severity="warning",
    ),
    Case(
        "no requests",
        _LIMITED,
        requests("200", "0x60") | requests("429", "0x60"),
        {40: []},
        severity="warning",
    ),
)

BUDGETS = (
    Case(
        "over budget for a while",
        _OVER,
        budget("9x4 25x24 10x20", "10x60"),
        {4: [], 19: [], 20: [ACCOUNT], 29: [ACCOUNT], 30: []},
        ExpectedAlert(
            25,
            ACCOUNT,
            "Polling intervals exceed the request budget.",
            "The polling intervals of account main need 2.5 times the requests that its budget allows. All of them "
            "are stretched by that factor, so changes are detected later.",
            _EXPORTER,
        ),
        severity="warning",
    ),
    Case("demand equals the budget", _OVER, budget("10x40", "10x40"), {20: [], 40: []}, severity="warning"),
    Case(
        "demand slightly above the budget",
        _OVER,
        budget("10.5x40", "10x40"),
        {14: [], 15: [ACCOUNT]},
        severity="warning",
    ),
    Case(
        "of two pods each has its own budget",
        _OVER,
        budget("9x40", "10x40", POD_A) | budget("9x40", "10x40", POD_B),
        {20: []},
        severity="warning",
    ),
    Case(
        "of two pods one is over",
        _OVER,
        budget("9x40", "10x40", POD_A) | budget("11x40", "10x40", POD_B),
        {14: [], 15: [ACCOUNT]},
        severity="warning",
    ),
    Case(
        "the pod that was over is gone",
        _OVER,
        budget("11x19 stale", "10x19 stale", POD_A) | budget("_x21 9x40", "_x21 10x40", POD_B),
        {15: [ACCOUNT], 22: [ACCOUNT], 26: []},
        severity="warning",
    ),
    Case(
        "the demand alone is gone",
        _OVER,
        budget("11x19 stale", "10x60"),
        {22: [ACCOUNT], 26: []},
        severity="warning",
    ),
    Case(
        "the budget alone is gone",
        _OVER,
        budget("11x60", "10x19 stale"),
        {22: [ACCOUNT], 26: []},
        severity="warning",
    ),
    Case(
        "another budget counts at once", _OVER, budget("11x60", "9x11 12x60"), {15: [], 30: []}, severity="warning"
    ),
    Case(
        "another demand counts at once",
        _OVER,
        budget("9x1 11x60", "10x60"),
        {16: [], 17: [ACCOUNT]},
        severity="warning",
    ),
)

CASES = (*CREDENTIALS, *OUTAGES, *LIMITS, *BUDGETS)
