"""The rules of services, entities and accounts: what concerns many factors makes one alert."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    API_BUDGET,
    API_DEMAND,
    API_REQUESTS,
    CREDENTIALS_VALID,
    ENTITY_FACTORS,
    ENTITY_FAILURES,
    FACTORS,
    FETCH_FAILURES,
    FETCHES,
)
from exporter.polling.record import UNKNOWN
from exporter.verify.outcome import Operation, Reason, Status
from grafana.rules.model import Alert, Dashboard, Group, Recording, Settings, Severity

# What an outage of the API, or of the way to it, looks like.
UNREACHABLE = (Reason.TIMEOUT, Reason.CONNECT, Reason.DNS, Reason.TLS, Reason.SERVER_ERROR)
# One fetch in twenty may fail without anybody noticing: the status of a factor outlives two failures in a row.
ERROR_BUDGET = 0.05
RATE_WINDOWS = ("5m", "30m", "1h", "6h")

_ACCOUNT = {"account": "account"}
_SERVICE = {"account": "account", "service": "service_sid"}


def failure_ratio(window: str) -> str:
    """Return the name of the recorded share of failed fetches."""
    return f"service:{FETCH_FAILURES.name.removesuffix('_total')}:ratio_rate{window}"


def service_group(settings: Settings) -> Group:
    """Return the group of services and their entities."""
    return Group(
        "twilio-verify-services",
        (
            *_ratios(settings),
            _without_verified(settings),
            _not_listed(settings),
            _stale(settings),
            _mass(settings),
            _burn(settings),
        ),
    )


def account_group(settings: Settings) -> Group:
    """Return the group of accounts: credentials, the API, its limits and the budget."""
    return Group(
        "twilio-verify-accounts",
        (_credentials(settings), _down(settings), _rate_limited(settings), _over_budget(settings)),
    )


def _ratios(settings: Settings) -> tuple[Recording, ...]:
    return tuple(
        Recording(
            failure_ratio(window),
            f"sum {settings.without('reason')} (rate({FETCH_FAILURES.name}[{window}]))\n"
            f"/\n"
            f"sum {settings.without()} (rate({FETCHES.name}[{window}]))",
            f"The share of a service's fetches that failed, over {window}.",
        )
        for window in RATE_WINDOWS
    )


def _without_verified(settings: Settings) -> Alert:
    def count(selector: str = "") -> str:
        return f"max {settings.without('status')} (last_over_time({ENTITY_FACTORS.name}{selector}[5m]))"

    listed = f'{API_REQUESTS.name}{{operation="{Operation.LIST}", code="200"}}'
    # An entity in which nothing was found at all may not have been listed yet: that takes a list that succeeded,
    # and none of the service's that failed.
    return Alert(
        "EntityWithoutVerifiedFactor",
        f"""\
(
  {count(f'{{status="{Status.VERIFIED}"}}')} == 0
  unless
  {count(f'{{status="{UNKNOWN}"}}')} > 0
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
        when="no factor of a watched entity is verified, and the status of each is known",
        summary="An entity has no verified factor.",
        description='None of the factors of entity "{{ $labels.entity }}" (account {{ $labels.account }}, service '
        "{{ $labels.service_sid }}) is verified: whoever it stands for can't log in.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _not_listed(settings: Settings) -> Alert:
    # Lists come each quarter of an hour, so that half an hour holds one at least. A service has many entities: it
    # can't be told here whether it is always the same one. APIDown is kept for longer than that half hour.
    return Alert(
        "EntityNotListed",
        f"max {settings.without()} (increase({ENTITY_FAILURES.name}[30m])) > 0",
        Severity.WARNING,
        pending="3h",
        when="for three hours lists of a service's entities failed, one at least each half hour",
        summary="Lists of a service's entities fail.",
        description="Some lists of entities of service {{ $labels.service_sid }} (account {{ $labels.account }}) "
        "have failed for hours. A factor enrolled since the last good list of its entity is watched by nobody. "
        "The log names the entities.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _stale(settings: Settings) -> Alert:
    selector = f'{FACTORS.name}{{status="{UNKNOWN}"}}'
    return Alert(
        "DataStale",
        f"max {settings.without('status')} (last_over_time({selector}[5m])) > 0",
        Severity.WARNING,
        pending="15m",
        when="the status of at least one factor of a service is unknown",
        summary="The status of factors is not known.",
        description="The status of {{ $value | humanize }} factors of service {{ $labels.service_sid }} (account "
        "{{ $labels.account }}) is unknown: no definite answer came for too long. A change would not be seen.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _mass(settings: Settings) -> Alert:
    # Each exporter judges what it watches: neither a second replica nor a shard changes the share.
    missing = f'last_over_time({FACTORS.name}{{status="{Status.NOT_FOUND}"}}[5m])'
    all_of_them = f"sum without (status) (last_over_time({FACTORS.name}[5m]))"
    return Alert(
        "MassMissing",
        f"""\
max {settings.without()} (
  {missing}
  / ignoring (status)
  ({all_of_them} >= 10)
) > 0.5""",
        Severity.CRITICAL,
        pending="2m",
        keep_firing="10m",
        when="more than half of a service's factors, of ten or more, answer 404",
        summary="Most factors of a service are gone.",
        description="{{ $value | humanizePercentage }} of the factors of service {{ $labels.service_sid }} "
        "(account {{ $labels.account }}) answer 404: the service was deleted, or service or account is wrong.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _burn(settings: Settings) -> Alert:
    def burning(long: str, short: str, rate: float) -> str:
        threshold = f"{rate * ERROR_BUDGET:g}"
        failures = f"sum {settings.without('reason')} (increase({FETCH_FAILURES.name}[{long}]))"
        return (
            f"(\n"
            f"  {failure_ratio(long)} > {threshold}\n"
            f"  and {failure_ratio(short)} > {threshold}\n"
            f"  and {failures} >= 10\n"
            f")"
        )

    # https://sre.google/workbook/alerting-on-slos/: 2 % of a month's budget in 1 h, 5 % in 6 h.
    return Alert(
        "FetchErrorBudgetBurn",
        f"{burning('1h', '5m', 14.4)}\nor\n{burning('6h', '30m', 6)}",
        Severity.CRITICAL,
        pending="2m",
        keep_firing="5m",
        when="72 % of a service's fetches fail for an hour, or 30 % for six, ten or more in number",
        summary="Many fetches of a service fail.",
        description="{{ $value | humanizePercentage }} of the fetches of service {{ $labels.service_sid }} "
        "(account {{ $labels.account }}) fail and go on failing: statuses become stale.",
        variables=_ACCOUNT,
    )


def _credentials(settings: Settings) -> Alert:
    return Alert(
        "CredentialsInvalid",
        f"min {settings.without()} (last_over_time({CREDENTIALS_VALID.name}[5m])) == 0",
        Severity.CRITICAL,
        pending="2m",
        when="the API refuses an account's credentials",
        summary="Twilio refuses the credentials of an account.",
        description="The API refuses the credentials of account {{ $labels.account }} (401 or 403, confirmed by a "
        "second call): none of its factors is looked at until they are good again.",
        variables=_ACCOUNT,
    )


def _down(settings: Settings) -> Alert:
    def share(window: str, fewest: int) -> str:
        reasons = "|".join(UNREACHABLE)
        failed = (
            f"sum {settings.without('service_sid', 'reason')} "
            f'(increase({FETCH_FAILURES.name}{{reason=~"{reasons}"}}[{window}]))'
        )
        return (
            f"(\n"
            f"  ({failed} >= {fewest})\n"
            f"  /\n"
            f"  sum {settings.without('service_sid')} (increase({FETCHES.name}[{window}]))\n"
            f"  > 0.9\n"
            f")"
        )

    # A lone factor, fetched each 5 minutes and a little late, fails three times within 20 minutes, and not always
    # within 15. Kept firing, as it silences FetchErrorBudgetBurn, whose half an hour is full of failures when the
    # API is back: ended sooner, it would leave that alone to page once more for what is over.
    return Alert(
        "APIDown",
        f"{share('5m', 10)}\nor\n{share('20m', 3)}",
        Severity.CRITICAL,
        pending="5m",
        keep_firing="45m",
        when="more than 90 % of an account's fetches end in time-outs, connection errors or 5xx",
        summary="The Verify API can't be reached.",
        description="{{ $value | humanizePercentage }} of the fetches of account {{ $labels.account }} end in "
        "time-outs, connection errors or 5xx: Twilio is down, or the way to it is. This alert ends 45 minutes "
        "after the last sign of it.",
        variables=_ACCOUNT,
    )


def _rate_limited(settings: Settings) -> Alert:
    limited = f'sum {settings.without("operation", "code")} (increase({API_REQUESTS.name}{{code="429"}}[30m]))'
    return Alert(
        "RateLimited",
        f"""\
({limited} >= 5)
/
sum {settings.without("operation", "code")} (increase({API_REQUESTS.name}[30m]))
> 0.05""",
        Severity.WARNING,
        pending="15m",
        when="more than 5 % of an account's requests are answered 429, five or more in number",
        summary="Twilio limits the rate of an account.",
        description="{{ $value | humanizePercentage }} of the requests of account {{ $labels.account }} are "
        "answered 429: the exporter slows down, and changes are seen later.",
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
        when="an account's intervals ask for more requests than its budget allows",
        summary="The intervals ask for more than the budget.",
        description="The intervals of account {{ $labels.account }} ask for {{ $value | humanize }} times the "
        "requests that its budget allows: they are stretched by as much, and changes are seen later.",
        variables=_ACCOUNT,
    )
