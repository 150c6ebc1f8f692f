"""promtool on the rules: its own checks, when each alert fires, what it tells, and one alert for each factor."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import pytest

from grafana.rules.model import Settings
from grafana.rules.render import RULES, WATCHDOG, groups
from tests.support.rules import account_cases as of_accounts
from tests.support.rules import exporter_cases as of_exporters
from tests.support.rules import factor_cases as of_factors
from tests.support.rules import fetch_cases as of_fetches
from tests.support.rules import service_cases as of_services
from tests.support.rules import watchlist_cases as of_watchlists
from tests.support.rules.cases import POD_A, Case, document, firing_documents, name, run, told_documents
from tests.support.rules.factor_cases import BOB, factor

pytestmark = pytest.mark.external

FOLDER = Path(__file__).parents[2] / "grafana" / "rules"
FILES = [FOLDER / RULES, FOLDER / WATCHDOG]
CASES: dict[str, tuple[Case, ...]] = {
    "factors": of_factors.CASES,
    "services": (*of_services.CASES, *of_fetches.CASES),
    "accounts": of_accounts.CASES,
    "exporters": (*of_exporters.CASES, *of_watchlists.CASES),
    "watchdog": of_exporters.WATCHDOG,
}


def test_promtool_finds_nothing(promtool: str) -> None:
    found = subprocess.run(  # the committed files, with every lint it knows
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    rules = sum(len(group.rules) for group in groups(Settings()))
    assert f"SUCCESS: {rules} rules found" in found.stdout
    assert "SUCCESS: 1 rules found" in found.stdout


@pytest.mark.parametrize("group", CASES)
def test_each_alert_fires_when_it_must_and_tells_all(promtool: str, tmp_path: Path, group: str) -> None:
    cases = CASES[group]
    for number, text in enumerate([*firing_documents(FILES, cases), *told_documents(FILES, cases)]):
        path = tmp_path / f"{group}-{number}.yaml"
        path.write_text(text, encoding="utf-8")
        said = run(promtool, path)
        assert said.returncode == 0, said.stderr


def test_every_alert_has_a_case_that_tells_all_and_one_without_series() -> None:
    alerts = {alert.name for group in groups(Settings()) for alert in group.alerts} | {"Watchdog"}
    cases = [case for some in CASES.values() for case in some]
    assert {case.of for case in cases} == alerts
    assert sorted(case.of for case in cases if case.told is not None) == sorted(alerts)
    assert len({(case.of, case.name) for case in cases}) == len(cases)
    for of in alerts - {"Watchdog"}:
        assert any(whom for case in cases if case.of == of for whom in case.firing.values()), of
        assert any(not any(case.firing.values()) for case in cases if case.of == of), of


def test_an_outage_that_is_over_pages_no_second_time(promtool: str, tmp_path: Path) -> None:
    """While FetchErrorBudgetBurn looks back at an outage, APIDown, which silences it, still fires."""
    good, end, fetches_a_minute = 360, 360 + 160 + 90, 4  # six good hours of 20 factors, each asked each 5 minutes
    series: dict[str, str] = {}
    outages = range(50, 161, 10)
    for outage in outages:
        labels = {**of_services.SERVICE, "account": f"{outage} minutes", **POD_A}
        failed = {"reason": "timeout"}
        series[name("twilio_verify_fetches_total", labels)] = f"0+{fetches_a_minute}x{end}"
        series[name("twilio_verify_fetch_failures_total", labels, failed)] = of_fetches.phases(
            (0, good), (fetches_a_minute, outage), (0, end - good - outage)
        )
    burn, down = (
        f'ALERTS{{alertname="TwilioVerify{of}", alertstate="firing"}}' for of in ("FetchErrorBudgetBurn", "APIDown")
    )
    every = [{"labels": name("", {"account": f"{outage} minutes"}), "value": 1} for outage in outages]
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"max_over_time(({burn} unless on (account) {down})[{end - good}m:1m])",
                "eval_time": f"{end}m",
                "exp_samples": [],
            },
            {  # Each of them had both, and in the longest Burn did outlive the outage.
                "expr": " and ".join(f"group by (account) (last_over_time({each}[4h]))" for each in (burn, down)),
                "eval_time": f"{end}m",
                "exp_samples": every,
            },
            {"expr": f"group by (account) ({burn})", "eval_time": f"{good + 160 + 20}m", "exp_samples": every[-1:]},
            {"expr": f"{burn} or {down}", "eval_time": f"{end}m", "exp_samples": []},
        ],
    }
    path = tmp_path / "outages.yaml"
    path.write_text(document(FILES, [test]), encoding="utf-8")
    said = run(promtool, path)
    assert said.returncode == 0, said.stderr


# Exactly one alert a factor: every state that the series of a factor can be in, all at once


STATES = list(
    itertools.product(
        ("", "0", "1"),  # verified
        ("", "0", "1"),  # exists
        (False, True),  # was seen verified
        ("", "-3600", "-68399", "-68400", "-68401", "-500000"),  # created; 3,600 s later it is looked at
    )
)


def expected(verified: str, exists: str, was: bool, created: str) -> str:
    """Return the one alert of a factor in this state, as docs/alerts.md tells it."""
    if exists == "0":
        return "FactorMissing" if was else "EnrolmentAbandoned"
    if verified != "0":
        return ""
    if was:
        return "FactorRegressed"
    return "EnrolmentAbandoned" if created in {"-68401", "-500000"} else "FactorUnverified"


def test_every_factor_has_exactly_one_alert(promtool: str, tmp_path: Path) -> None:
    series: dict[str, str] = {}
    wanted: list[dict[str, Any]] = []
    for number, (verified, exists, was, created) in enumerate(STATES):
        labels = {**BOB, "factor": f"factor-{number}"}
        series |= factor(
            labels,
            verified=verified and f"{verified}x100",
            exists=exists and f"{exists}x100",
            last_verified="0x100" if was else "",
            created=created and f"{created}x100",
        )
        alert = expected(verified, exists, was, created)
        if alert:
            # At the minute 60 a factor that was created at -68,400 is exactly 20 hours old.
            wanted.append({"labels": name("", {"alertname": f"TwilioVerify{alert}"}, labels), "value": 1})
    assert len({each["labels"].split('"')[1] for each in wanted}) == 4
    of_factors_only = 'ALERTS{factor=~"factor-.+"}'
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            # Pending ones included, so that none is about to join.
            {
                "expr": f"count without (alertstate, severity) ({of_factors_only})",
                "eval_time": "60m",
                "exp_samples": wanted,
            },
            {"expr": f"count by (factor) ({of_factors_only}) > 1", "eval_time": "60m", "exp_samples": []},
        ],
    }
    path = tmp_path / "states.yaml"
    path.write_text(document(FILES, [test]), encoding="utf-8")
    said = run(promtool, path)
    assert said.returncode == 0, said.stderr
