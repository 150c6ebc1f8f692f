"""Rules about services, entities and accounts: one alert for what affects many factors."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    API_BUDGET,
    API_DEMAND,
    API_REQUESTS,
    CREDENTIALS_VALID,
    DISCOVERY_INTERVAL,
    ENTITY_FACTORS,
    ENTITY_FAILURES,
    ENTITY_LAST_LISTED,
    FACTOR_UP,
    FACTORS,
    FETCH_FAILURES,
    FETCHES,
    SERVICE_ENTITIES_TRUNCATED,
    SERVICE_EXISTS,
)
from exporter.polling.record import UNKNOWN
from exporter.verify.outcome import Operation, Reason, Status
from grafana.rules.model import Alert, Dashboard, Group, Recording, Settings, Severity, indented, percent

# Failure reasons that indicate an outage of the API or of the connection to it.
UNREACHABLE = (Reason.TIMEOUT, Reason.CONNECT, Reason.DNS, Reason.TLS, Reason.SERVER_ERROR, Reason.DECODE)
# Listings are retried at the next interval; several in a row must fail.
NOT_LISTED_HOURS = 3
NOT_LISTED_INTERVALS = 4
RATE_WINDOWS = ("5m", "30m", "1h", "6h")

# Factors may have labels of their own, and exporters other labels of their targets: only these are always the same.
ONE_SERVICE = "job, account, service_sid"
FAILING = f"service:{FACTOR_UP.name}:failing"

_ACCOUNT = {"account": "account"}
_SERVICE = {"account": "account", "service": "service_sid"}


def failure_ratio(window: str) -> str:
    """Return the name of the series that records the ratio of failed fetches over a window."""
    return f"service:{FETCH_FAILURES.name.removesuffix('_total')}:ratio_rate{window}"


def service_group(settings: Settings) -> Group:
    """Return the rules about services and their entities."""
    return Group(
        "twilio-verify-services",
        (
            *_ratios(settings),
            _failing(),
            _entity_without_verified_factor(settings),
            _entity_not_listed(settings),
            _service_truncated(settings),
            _data_stale(settings),
            _service_missing(settings),
            _mass_missing(settings),
            _error_budget_burn(settings),
        ),
    )


def account_group(settings: Settings) -> Group:
    """Return the rules about accounts: credentials, API outages, rate limits and budget."""
    return Group(
        "twilio-verify-accounts",
        (_credentials_invalid(settings), _api_down(settings), _rate_limited(settings), _over_budget(settings)),
    )


def _ratios(settings: Settings) -> tuple[Recording, ...]:
    return tuple(
        Recording(
            failure_ratio(window),
            f"sum {settings.without('reason')} (rate({FETCH_FAILURES.name}[{window}]))\n"
            f"/\n"
            f"sum {settings.without()} (rate({FETCHES.name}[{window}]))",
            f"Ratio of a service's fetches that failed, over {window}.",
        )
        for window in RATE_WINDOWS
    )


def _failing() -> Recording:
    return Recording(
        FAILING,
        f"count by ({ONE_SERVICE}) (group by ({ONE_SERVICE}, factor) ({FACTOR_UP.name} == 0))",
        "Number of a service's factors whose last fetch failed; absent if there is none.",
    )


def _entity_without_verified_factor(settings: Settings) -> Alert:
    def count(selector: str = "") -> str:
        return f"max {settings.without('status')} (last_over_time({ENTITY_FACTORS.name}{selector}[5m]))"

    listed = f'{API_REQUESTS.name}{{operation="{Operation.LIST}", code="200"}}'
    # An entity without any factor may not have been listed yet: it counts only if a listing of its account
    # succeeded and no listing of its service failed. A service that is watched as a whole is no entity.
    return Alert(
        "EntityWithoutVerifiedFactor",
        f"""\
(
  {count(f'{{status="{Status.VERIFIED}"}}')} == 0
  unless
  {count(f'{{status="{UNKNOWN}"}}')} > 0
  unless
  group {settings.without()} (present_over_time({SERVICE_ENTITIES_TRUNCATED.name}[5m]))
)
unless
(
  {count()} == 0
  unless ignoring (entity)
  (
    max {settings.without()} (increase({ENTITY_FAILURES.name}[1h])) == 0
    and ignoring (service_sid)
    max {settings.without("operation", "code")} (increase({listed}[1h])) > 0
  )
)""",
        Severity.CRITICAL,
        pending="15m",
        when="a watched entity has no verified factor, and the status of each of its factors is known",
        summary="An entity has no verified factor.",
        description='Entity "{{ $labels.entity }}" (account {{ $labels.account }}, service '
        "{{ $labels.service_sid }}) has no verified factor: the person or team behind it can't log in. Have one of "
        "its factors verified, or enrol a new one.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _entity_not_listed(settings: Settings) -> Alert:
    # Per exporter, because the shards of a service each list their own entities. What an exporter without a state
    # file forgot in a restart is read from the past.
    watched = f"present_over_time({ENTITY_FACTORS.name}[5m])"
    earlier = f"present_over_time({ENTITY_FACTORS.name}[5m] offset {NOT_LISTED_HOURS}h)"
    listed = f"{ENTITY_LAST_LISTED.name}[{2 * NOT_LISTED_HOURS}h]"
    interval = f"max {settings.without()} (last_over_time({DISCOVERY_INTERVAL.name}[5m]))"
    return Alert(
        "EntityNotListed",
        f"""\
(
  time() - min {settings.without()} (
    last_over_time({listed})
    and ignoring (status)
    {watched}
  )
  > {NOT_LISTED_HOURS * 3600}
  > ignoring (account, service_sid, entity) group_left ()
  {NOT_LISTED_INTERVALS} * {interval}
)
or
group {settings.without("status")} (
  {watched}
  and
  {earlier}
  unless ignoring (status)
  present_over_time({listed})
)""",
        Severity.WARNING,
        pending="15m",
        when=f"an entity has not been listed completely for {NOT_LISTED_HOURS} hours (or "
        f"{NOT_LISTED_INTERVALS} discovery intervals, if longer), or not once in {NOT_LISTED_HOURS} hours",
        summary="The factors of an entity can't be listed.",
        description='The factors of entity "{{ $labels.entity }}" (account {{ $labels.account }}, service '
        f"{{{{ $labels.service_sid }}}}) have not been listed completely for more than {NOT_LISTED_HOURS} hours. "
        "Factors enrolled since are not watched. The log names the reason.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _service_truncated(settings: Settings) -> Alert:
    # The window covers a restart: the first listing after it takes its time.
    return Alert(
        "ServiceTruncated",
        f"max {settings.without()} (max_over_time({SERVICE_ENTITIES_TRUNCATED.name}[30m])) == 1",
        Severity.WARNING,
        pending="15m",
        when="a watched service has more entities than `max_entities`",
        summary="Some entities of a service are not watched.",
        description='Service "{{ $labels.entity }}" ({{ $labels.service_sid }}, account {{ $labels.account }}) has '
        "more entities than max_entities allows. The factors of the others are not watched.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _data_stale(settings: Settings) -> Alert:
    selector = f'{FACTORS.name}{{status="{UNKNOWN}"}}'
    return Alert(
        "DataStale",
        f"max {settings.without('status')} (last_over_time({selector}[5m])) > 0",
        Severity.WARNING,
        pending="15m",
        when="the status of at least one factor of a service is unknown",
        summary="The status of some factors is unknown.",
        description="Service {{ $labels.service_sid }} (account {{ $labels.account }}) has {{ $value | humanize }} "
        "factor(s) with unknown status: the exporter has had no definite answer for too long. Changes of these "
        "factors go unnoticed.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _gone(settings: Settings) -> str:
    """Return the expression for services that Fetch Service does not find, as no exporter finds them."""
    return f"max {settings.without()} (last_over_time({SERVICE_EXISTS.name}[5m])) == 0"


def _service_missing(settings: Settings) -> Alert:
    # A wrong 404 for a service is corrected within about a minute, because its factors are found.
    return Alert(
        "ServiceMissing",
        _gone(settings),
        Severity.CRITICAL,
        pending="3m",
        when="a service no longer exists (Fetch Service answers 404), and factors of it are missing",
        summary="A Verify service no longer exists.",
        description="The API answers 404 for service {{ $labels.service_sid }} (account {{ $labels.account }}) "
        "itself: it was deleted, or the configured service or account is wrong. None of its factors can be used.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _mass_missing(settings: Settings) -> Alert:
    # Computed per exporter, so that neither replicas nor shards change the ratio.
    missing = f'last_over_time({FACTORS.name}{{status="{Status.NOT_FOUND}"}}[5m])'
    total = f"sum without (status) (last_over_time({FACTORS.name}[5m]))"
    return Alert(
        "MassMissing",
        f"""\
max {settings.without()} (
  {missing}
  / ignoring (status)
  ({total} >= 10)
) > 0.5
unless
{_gone(settings)}""",
        Severity.CRITICAL,
        pending="2m",
        keep_firing="10m",
        when="more than half of a service's factors answer 404, for services with at least 10, and not the service "
        "itself",
        summary="Most factors of a service are missing.",
        description="{{ $value | humanizePercentage }} of the factors of service {{ $labels.service_sid }} "
        "(account {{ $labels.account }}) answer 404: they or the service were deleted, or the configured service "
        "or account is wrong.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _error_budget_burn(settings: Settings) -> Alert:
    def burning(long: str, short: str, rate: float) -> str:
        threshold = f"{settings.error_budget * rate:g}"
        failures = f"sum {settings.without('reason')} (increase({FETCH_FAILURES.name}[{long}]))"
        return (
            f"(\n"
            f"  {failure_ratio(long)} > {threshold}\n"
            f"  and {failure_ratio(short)} > {threshold}\n"
            f"  and {failures} >= 10\n"
            f")"
        )

    # https://sre.google/workbook/alerting-on-slos/: 2 % of a month's budget in 1 h, 5 % in 6 h. One factor alone
    # fails that often in a small service; for it, there is FactorFetchFailing. The hour is for failures at random:
    # at some moments of it, more than one factor fails.
    return Alert(
        "FetchErrorBudgetBurn",
        f"(\n{indented(burning('1h', '5m', 14.4))}\n  or\n{indented(burning('6h', '30m', 6))}\n)\n"
        f"unless on ({ONE_SERVICE})\n"
        f"max_over_time({FAILING}[1h]) == 1",
        Severity.CRITICAL,
        pending="2m",
        keep_firing="5m",
        when="72% of a service's fetches fail over an hour, or 30% over six hours, and at least 10 of them, of "
        "more than one factor",
        summary="Many fetches of a service fail.",
        description="{{ $value | humanizePercentage }} of the fetches of service {{ $labels.service_sid }} "
        "(account {{ $labels.account }}) fail, so statuses become stale. Check the failure reasons on the "
        "dashboard.",
        variables=_ACCOUNT,
    )


def _credentials_invalid(settings: Settings) -> Alert:
    return Alert(
        "CredentialsInvalid",
        f"min {settings.without()} (last_over_time({CREDENTIALS_VALID.name}[5m])) == 0",
        Severity.CRITICAL,
        pending="2m",
        when="the API or the token endpoint refuses an account's credentials",
        summary="Twilio refuses the credentials of an account.",
        description="The API refuses the credentials of account {{ $labels.account }} (401 or 403, confirmed by a "
        "second request), or Twilio refuses it an access token. Polling of its factors is paused until the "
        "credentials are accepted again.",
        variables=_ACCOUNT,
    )


def _api_down(settings: Settings) -> Alert:
    def share(window: str, minimum: int) -> str:
        reasons = "|".join(UNREACHABLE)
        failed = (
            f"sum {settings.without('service_sid', 'reason')} "
            f'(increase({FETCH_FAILURES.name}{{reason=~"{reasons}"}}[{window}]))'
        )
        return (
            f"(\n"
            f"  ({failed} >= {minimum})\n"
            f"  /\n"
            f"  sum {settings.without('service_sid')} (increase({FETCHES.name}[{window}]))\n"
            f"  > 0.9\n"
            f")"
        )

    # A single factor, fetched every 5 minutes and slightly late, fails three times within 20 minutes but not always
    # within 15. Kept firing because it inhibits FetchErrorBudgetBurn, whose 30-minute window is still full of
    # failures when the API recovers: without this, the end of an outage would page a second time.
    return Alert(
        "APIDown",
        f"{share('5m', 10)}\nor\n{share('20m', 3)}",
        Severity.CRITICAL,
        pending="5m",
        keep_firing="45m",
        when="more than 90% of an account's fetches end in timeouts, connection errors, 5xx or unusable responses",
        summary="The Twilio Verify API is unreachable.",
        description="{{ $value | humanizePercentage }} of the fetches of account {{ $labels.account }} end in "
        "timeouts, connection errors, 5xx or unusable responses: Twilio is down, the connection to it is, or a "
        "proxy or gateway answers in its place. This alert resolves 45 minutes after the condition clears.",
        variables=_ACCOUNT,
    )


def _rate_limited(settings: Settings) -> Alert:
    # A token endpoint's 429 has nothing to do with the rate of requests: what it does to fetches has other alerts.
    api = f'operation!="{Operation.TOKEN}"'
    limited = (
        f'sum {settings.without("operation", "code")} (increase({API_REQUESTS.name}{{{api},code="429"}}[30m]))'
    )
    return Alert(
        "RateLimited",
        f"""\
({limited} >= 5)
/
sum {settings.without("operation", "code")} (increase({API_REQUESTS.name}{{{api}}}[30m]))
> {settings.rate_limited_ratio:g}""",
        Severity.WARNING,
        pending="15m",
        when=f"more than {percent(settings.rate_limited_ratio)} of an account's requests, and at least 5, are "
        "answered with 429",
        summary="Twilio rate-limits an account.",
        description="{{ $value | humanizePercentage }} of the requests of account {{ $labels.account }} are "
        "answered with 429, so the exporter slows down and detects changes later. Lower its request rate, or ask "
        "Twilio for a higher limit.",
        variables=_ACCOUNT,
    )


def _over_budget(settings: Settings) -> Alert:
    return Alert(
        "OverBudget",
        f"""\
max {settings.without()} (
  last_over_time({API_DEMAND.name}[5m])
  /
  last_over_time({API_BUDGET.name}[5m])
) > 1""",
        Severity.WARNING,
        pending="15m",
        when="an account's polling intervals need more requests than its budget allows",
        summary="Polling intervals exceed the request budget.",
        description="The polling intervals of account {{ $labels.account }} need {{ $value | humanize }} times the "
        "requests that its budget allows. All of them are stretched by that factor, so changes are detected later.",
        variables=_ACCOUNT,
    )
