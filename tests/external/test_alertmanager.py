"""The Alertmanager example, in real Alertmanagers: who is notified, how often, and what is not sent."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from tests.support.processes import output_of
from tests.support.programs.alertmanager import ACCOUNT, COMMON, SERVICE, Alert, alert, known_alerts, post
from tests.support.running_exporter import becomes, until
from tools.stack.programs import alertmanager
from tools.stack.receiver import Notification, receiving
from tools.stack.shortened import receivers_at, shortened_routes

if TYPE_CHECKING:
    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "grafana" / "alertmanager" / "alertmanager.yaml"
PAGE = ROOT / "docs" / "prometheus.md"
INSTALL = "apt-get install prometheus-alertmanager"
VERSIONS = ["the system's", "newer"]
TIMES = 30.0  # a first message waits 1 s for others of its group: enough on a busy machine
OTHER_SERVICE = ACCOUNT | {"service_sid": "VA" + "2" * 32}


def binary_of(name: str, version: str, program: Program, newer_program: Program) -> str:
    if version == "newer":
        return newer_program({"amtool": "AMTOOL3", "prometheus-alertmanager": "ALERTMANAGER3"}[name])
    return program(name, install=INSTALL)


async def amtool(binary: str, *arguments: str, cwd: Path | None = None) -> tuple[int | None, str]:
    status, said, _ = await output_of(binary, *arguments, cwd=cwd, stderr=asyncio.subprocess.STDOUT)
    return status, said.decode()


@pytest.mark.parametrize("version", VERSIONS)
async def test_amtool_takes_the_example(program: Program, newer_program: Program, version: str) -> None:
    binary = binary_of("amtool", version, program, newer_program)
    status, said = await amtool(binary, "check-config", str(EXAMPLE))

    assert status == 0, said
    assert "1 templates" in said
    assert "warn" not in said.lower()


ROUTES = [
    (alert("FactorRegressed", team="payments"), "payments-pager"),
    (alert("FactorRegressed", team="billing"), "ops-pager"),
    (alert("FactorRegressed"), "ops-pager"),
    (alert("EnrolmentAbandoned", "warning", team="payments"), "payments-chat"),
    (alert("EnrolmentAbandoned", "warning", team="billing"), "ops-chat"),
    (alert("APIDown"), "ops-pager"),
    (alert("FetchErrorBudgetBurn"), "ops-pager"),
    (alert("DataStale", "warning"), "ops-chat"),
    (alert("OverBudget", "warning"), "ops-chat"),
    (alert("FactorFetchFailing", "warning"), "ops-chat"),
    (alert("FactorFetchFailing", "warning", team="payments"), "payments-chat"),
    (alert("EnrolmentSlow", "warning"), "ops-chat"),
    (alert("PushWithoutPlatform", "warning"), "ops-chat"),
    (alert("PasskeysUnused", "warning"), "ops-chat"),
    (alert("PasskeysUnused", "warning", team="payments"), "payments-chat"),
    (alert("Watchdog", "none"), "dead-mans-service"),
    ({"alertname": "SomethingElse"}, "ops-chat"),
]


@pytest.mark.parametrize("version", VERSIONS)
async def test_alerts_are_routed_to_the_right_receivers(
    program: Program, newer_program: Program, version: str
) -> None:
    binary = binary_of("amtool", version, program, newer_program)
    routed = {}
    for labels, receiver in ROUTES:
        pairs = [f"{name}={value}" for name, value in labels.items()]
        status, said = await amtool(binary, "config", "routes", "test", f"--config.file={EXAMPLE}", *pairs)
        assert status == 0, said
        routed[tuple(pairs)] = (said.splitlines()[-1], receiver)  # 0.25 has a warning before it

    assert {pairs: got for pairs, (got, _) in routed.items()} == {
        pairs: want for pairs, (_, want) in routed.items()
    }


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_commands_of_the_page_work(program: Program, newer_program: Program, version: str) -> None:
    binary = binary_of("amtool", version, program, newer_program)
    commands = [line.split()[1:] for line in PAGE.read_text().splitlines() if line.startswith("amtool ")]
    answers = [await amtool(binary, *words, cwd=EXAMPLE.parent) for words in commands]

    assert [words[0] for words in commands] == ["check-config", "config"]
    assert [status for status, _ in answers] == [0, 0], answers
    assert answers[1][1].splitlines()[-1] == "payments-pager"


@dataclass(frozen=True, slots=True)
class Case:
    """Alerts that fire together: those that stay active, and those that the others silence."""

    active: tuple[Alert, ...]
    silent: tuple[Alert, ...] = ()


def stale(**labels: str) -> Alert:
    return alert("DataStale", "warning", **(SERVICE | labels))


ERROR_RATES = (
    stale(),
    alert("FetchErrorBudgetBurn", **ACCOUNT),
    alert("FetchErrorBudgetBurn", "warning", **ACCOUNT),
    alert("RateLimited", "warning", **ACCOUNT),
)
FETCH_FAILING = alert("FactorFetchFailing", "warning", factor="not-answered", team="payments", **SERVICE)
SEEN_BEFORE = (
    alert("FactorRegressed", factor="seen-unverified", team="payments", **SERVICE),
    alert("FactorUnverified", factor="never-verified", **SERVICE),
    alert("FactorMissing", factor="seen-missing", **SERVICE),
)
STAGING, PRODUCTION = {"namespace": "staging"}, {"namespace": "production"}
CASES = {
    "nothing-silences-them": Case(active=(*ERROR_RATES[:2], *ERROR_RATES[3:], *SEEN_BEFORE)),
    "api-down": Case(
        active=(alert("APIDown", **ACCOUNT), *SEEN_BEFORE, stale(account="another")),
        silent=(*ERROR_RATES, FETCH_FAILING, alert("EnrolmentSlow", "warning", factor_type="push", **SERVICE)),
    ),
    "credentials-invalid": Case(
        active=(alert("CredentialsInvalid", **ACCOUNT), *SEEN_BEFORE, stale(account="another")),
        silent=(*ERROR_RATES, FETCH_FAILING),
    ),
    "exporter-down": Case(
        active=(alert("ExporterDown", **COMMON), *SEEN_BEFORE, stale(job="another")),
        silent=(*ERROR_RATES, FETCH_FAILING),
    ),
    "exporter-absent": Case(
        active=(alert("ExporterAbsent", **COMMON), *SEEN_BEFORE), silent=(*ERROR_RATES, FETCH_FAILING)
    ),
    "scheduler-stalled": Case(
        active=(alert("SchedulerStalled", **COMMON), *SEEN_BEFORE),
        silent=(*ERROR_RATES, FETCH_FAILING, alert("ScheduleLagging", "warning", **COMMON)),
    ),
    "namespaces": Case(
        active=(
            alert("APIDown", **ACCOUNT, **STAGING),
            alert("ExporterDown", **COMMON, **STAGING),
            alert("MassMissing", **SERVICE, **STAGING),
            stale(**PRODUCTION),
            alert("WatchlistEmpty", **COMMON, **PRODUCTION),
            alert("FactorMissing", factor="of-production", **SERVICE, **PRODUCTION),
        ),
        silent=(
            stale(**STAGING),
            alert("WatchlistEmpty", **COMMON, **STAGING),
            alert("FactorMissing", factor="of-staging", **SERVICE, **STAGING),
        ),
    ),
    "absent-from-all-namespaces": Case(
        active=(alert("ExporterAbsent", **COMMON),),
        silent=(stale(**STAGING), stale(**PRODUCTION)),
    ),
    "a-service-gone": Case(
        active=(
            alert("MassMissing", **SERVICE),
            alert("FactorMissing", factor="of-another-service", **OTHER_SERVICE),
            *SEEN_BEFORE[:2],
        ),
        silent=tuple(alert("FactorMissing", factor=f"gone-{n}", team="payments", **SERVICE) for n in range(20)),
    ),
    "one-factor-fails": Case(
        active=(
            FETCH_FAILING,
            stale(),
            alert("FetchErrorBudgetBurn", **OTHER_SERVICE),
            alert("RateLimited", "warning", **(ACCOUNT | {"account": "another"})),
            *SEEN_BEFORE,
        )
    ),
    "most-fetches-of-a-service-fail": Case(
        active=(alert("FetchErrorBudgetBurn", **SERVICE), stale(), *SEEN_BEFORE), silent=(FETCH_FAILING,)
    ),
    "rate-limited": Case(
        active=(alert("RateLimited", "warning", **ACCOUNT), *SEEN_BEFORE), silent=(FETCH_FAILING,)
    ),
    "a-service-deleted": Case(
        active=(
            alert("ServiceMissing", **SERVICE),
            alert("EntityWithoutVerifiedFactor", entity="ops", **OTHER_SERVICE),
            alert("MassMissing", **OTHER_SERVICE),
            alert("OverBudget", "warning", **(ACCOUNT | {"account": "another"})),
            *SEEN_BEFORE[:1],
        ),
        silent=(
            *(alert("FactorMissing", factor=f"gone-{n}", team="payments", **SERVICE) for n in range(20)),
            alert("EnrolmentAbandoned", "warning", factor="never-verified", **SERVICE),
            alert("EntityWithoutVerifiedFactor", entity="ops", **SERVICE),
            alert("EntityNotListed", "warning", entity="ops", **SERVICE),
            alert("MassMissing", **SERVICE),
            alert("OverBudget", "warning", **ACCOUNT),
        ),
    ),
    "over-budget": Case(
        active=(
            alert("OverBudget", "warning", **ACCOUNT),
            alert("EnrolmentSlow", "warning", factor_type="push", **(SERVICE | {"account": "another"})),
        ),
        silent=(alert("EnrolmentSlow", "warning", factor_type="push", **SERVICE),),
    ),
    "late-fetches": Case(
        active=(
            alert("ScheduleLagging", "warning", **COMMON),
            alert("EnrolmentSlow", "warning", factor_type="push", **(SERVICE | {"job": "another"})),
        ),
        silent=(alert("EnrolmentSlow", "warning", factor_type="push", **SERVICE),),
    ),
    "critical-and-warning": Case(
        active=(
            alert("FetchErrorBudgetBurn", **ACCOUNT),
            alert("FetchErrorBudgetBurn", "warning", **(ACCOUNT | {"account": "another"})),
        ),
        silent=(alert("FetchErrorBudgetBurn", "warning", **ACCOUNT),),
    ),
    "the-last-good-watchlist": Case(
        active=(alert("WatchlistFallback", "warning", **COMMON),),
        silent=(
            alert("ConfigReloadFailed", "warning", **COMMON),
            alert("WatchlistSourceDown", "warning", source="identity-service", **COMMON),
        ),
    ),
    "an-empty-watchlist": Case(
        active=(alert("WatchlistEmpty", **COMMON),), silent=(alert("WatchlistShrank", "warning", **COMMON),)
    ),
}
REGRESSED = [
    alert("FactorRegressed", factor=f"factor-{n}", **(SERVICE | {"cluster": "500-factors"}))
    | ({"team": "payments"} if n % 5 else {"team": "no-pager"})
    for n in range(500)
]


def in_cluster(name: str, alerts: tuple[Alert, ...]) -> list[Alert]:
    """Return the alerts of a case, apart from those of all other cases: inhibition stays within a cluster."""
    return [labels | {"cluster": name} for labels in alerts]


def as_keys(alerts: list[Alert]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(labels.items()) for labels in alerts}


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_trouble_is_one_page(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    binary = binary_of("prometheus-alertmanager", version, program, newer_program)
    active = [labels for name, case in CASES.items() for labels in in_cluster(name, case.active)]
    silent = [labels for name, case in CASES.items() for labels in in_cluster(name, case.silent)]
    config = tmp_path / "alertmanager.yaml"
    async with receiving() as receiver, aiohttp.ClientSession() as session:
        text = shortened_routes(EXAMPLE.read_text(), TIMES)
        config.write_text(receivers_at(text, EXAMPLE.parent, receiver.url))
        async with alertmanager(binary, config, tmp_path / "data") as server:
            await post(session, server.url, *active, *silent, *REGRESSED)
            found = await until(
                functools.partial(by_state, session, server.url),
                lambda found: len(found["suppressed"]) >= len(silent),
            )
            await becomes(lambda: len(receiver.firing()) >= len(expected_pages(active)))
            # What else was to come has come when a later one is there.
            await post(session, server.url, alert("APIDown", **COMMON, account="later"))
            await becomes(lambda: pages_of(receiver.firing(), "later"))
            await see_receivers(session, server.url)

    assert found["suppressed"] == as_keys(silent)
    assert found["active"] == as_keys([*active, *REGRESSED])
    pages = [page for page in receiver.firing() if not pages_of([page], "later")]
    assert Counter(map(group_of, pages)) == Counter(expected_pages(active))
    of_500 = {page.receiver: page for page in pages if page.message["groupLabels"]["cluster"] == "500-factors"}
    assert {name: len(page.alerts) for name, page in of_500.items()} == {"payments-pager": 400, "ops-pager": 100}
    assert all(page.message["truncatedAlerts"] == 0 for page in pages)


async def by_state(session: aiohttp.ClientSession, url: str) -> dict[str, set[frozenset[tuple[str, str]]]]:
    """Return the labels of the alerts that are active and suppressed."""
    found: dict[str, set[frozenset[tuple[str, str]]]] = {"active": set(), "suppressed": set(), "unprocessed": set()}
    for known in await known_alerts(session, url):
        found[known["status"]["state"]].add(frozenset(known["labels"].items()))
    return found


async def see_receivers(session: aiohttp.ClientSession, url: str) -> None:
    """See that Alertmanager itself names the team's receiver beside the team's alerts."""
    known = await known_alerts(session, url)
    teams = {
        (item["labels"].get("team"), *(receiver["name"] for receiver in item["receivers"]))
        for item in known
        if item["labels"]["cluster"] == "500-factors"
    }
    assert teams == {("payments", "payments-pager"), ("no-pager", "ops-pager")}


GROUP = ("alertname", "cluster", "namespace", "job", "account", "service_sid")


def group_of(page: Notification) -> tuple[str, ...]:
    return page.receiver, *(page.message["groupLabels"].get(label, "") for label in GROUP)


def pages_of(pages: list[Notification], account: str) -> list[Notification]:
    return [page for page in pages if page.message["groupLabels"].get("account") == account]


def expected_pages(active: list[Alert]) -> set[tuple[str, ...]]:
    """Return the receiver and the group of each page that is due, by the words of the example's comments."""
    due = set()
    for labels in [*active, *REGRESSED]:
        owner = "payments" if labels.get("team") == "payments" else "ops"
        means = "pager" if labels["severity"] == "critical" else "chat"
        due.add((f"{owner}-{means}", *(labels.get(label, "") for label in GROUP)))
    return due


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_words_of_pager_and_chat(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    binary = binary_of("prometheus-alertmanager", version, program, newer_program)
    many = [alert("FactorMissing", factor=f"gone-{n:02}", team="payments", **SERVICE) for n in range(30)]
    one = alert("EnrolmentAbandoned", "warning", factor="new-hire-totp", team="payments", **SERVICE)
    async with receiving() as receiver, aiohttp.ClientSession() as session:
        config = with_local_services(tmp_path, receiver.url)
        async with alertmanager(binary, config, tmp_path / "data") as server:
            await post(session, server.url, *many, one)
            await becomes(lambda: len(receiver.notifications) >= 2)
            log = "".join(server.log)

    messages = {page.receiver: page.message for page in receiver.notifications}
    assert set(messages) == {"pagerduty", "payments-slack-url"}
    see_the_page(messages["pagerduty"])
    see_the_chat(messages["payments-slack-url"])
    assert "error" not in log.lower(), log


def with_local_services(folder: Path, url: str) -> Path:
    """Write the example with PagerDuty and Slack at this address, and keys in files of this folder."""
    config: dict[str, Any] = yaml.safe_load(shortened_routes(EXAMPLE.read_text(), TIMES))
    config["templates"] = [str(EXAMPLE.parent / name) for name in config["templates"]]
    (folder / "key").write_text("0123456789abcdef0123456789abcdef")
    for receiver in config["receivers"]:
        for service in receiver.get("pagerduty_configs", ()):
            service |= {"routing_key_file": str(folder / "key"), "url": f"{url}/pagerduty"}
        for service in receiver.get("slack_configs", ()):
            service["api_url_file"] = str(folder / Path(service["api_url_file"]).name)
            Path(service["api_url_file"]).write_text(f"{url}/{Path(service['api_url_file']).name}")
    path = folder / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def see_the_page(event: dict[str, Any]) -> None:
    payload = event["payload"]
    assert event["event_action"] == "trigger"
    assert event["routing_key"] == "0123456789abcdef0123456789abcdef"
    assert payload["severity"] == "critical"
    assert payload["summary"] == (
        f"[critical] TwilioVerifyFactorMissing account main service {SERVICE['service_sid']}: 30 alerts"
    )
    assert payload["custom_details"]["team"] == "payments"
    what = payload["custom_details"]["what"]
    assert what.splitlines()[:2] == [
        "• TwilioVerifyFactorMissing is firing (gone-00)",
        "It is about gone-00.",
    ]
    assert what.count("•") == 10
    assert "… 30 in total" in what
    assert event["links"] == [
        {"href": "https://runbooks.example/TwilioVerifyFactorMissing", "text": "Runbook"},
        {"href": "https://grafana.example/d/TwilioVerifyFactorMissing", "text": "Dashboard"},
    ]


def see_the_chat(message: dict[str, Any]) -> None:
    (attachment,) = message["attachments"]
    assert attachment["title"] == (
        f"[warning] TwilioVerifyEnrolmentAbandoned account main service {SERVICE['service_sid']} new-hire-totp"
    )
    assert attachment["title_link"] == "https://grafana.example/d/TwilioVerifyEnrolmentAbandoned"
    assert attachment["text"].strip().splitlines() == [
        "• TwilioVerifyEnrolmentAbandoned is firing (new-hire-totp)",
        "It is about new-hire-totp.",
        "Runbook: https://runbooks.example/TwilioVerifyEnrolmentAbandoned",
        "Dashboard: https://grafana.example/d/TwilioVerifyEnrolmentAbandoned",
    ]
