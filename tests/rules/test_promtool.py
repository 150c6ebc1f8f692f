"""promtool on the rules: lints, when each alert fires, its annotations, and one alert per factor."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import pytest

from grafana.rules.model import Settings
from grafana.rules.render import RULES, UNUSED, WATCHDOG, groups, optional_groups
from tests.support.rules import (
    account_cases,
    enrolment_cases,
    exporter_cases,
    factor_cases,
    fetch_cases,
    service_cases,
    unused_cases,
    watchlist_cases,
)
from tests.support.rules.cases import (
    POD_A,
    Case,
    annotation_documents,
    document,
    firing_documents,
    name,
    readable,
    run,
)
from tests.support.rules.factor_cases import BOB, factor

pytestmark = pytest.mark.external

FOLDER = Path(__file__).parents[2] / "grafana" / "rules"
FILES = [FOLDER / RULES, FOLDER / UNUSED, FOLDER / WATCHDOG]
CASES: dict[str, tuple[Case, ...]] = {
    "factors": factor_cases.CASES,
    "services": (*service_cases.CASES, *fetch_cases.CASES),
    "enrolments": enrolment_cases.CASES,
    "unused": unused_cases.CASES,
    "accounts": account_cases.CASES,
    "exporters": (*exporter_cases.CASES, *watchlist_cases.CASES),
    "watchdog": exporter_cases.WATCHDOG,
}


def test_promtool_lints_the_rules(promtool: str) -> None:
    found = subprocess.run(  # the committed files, with every lint
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    rules = sum(len(group.rules) for group in groups(Settings()))
    assert f"SUCCESS: {rules} rules found" in found.stdout
    assert found.stdout.count("SUCCESS: 1 rules found") == len(optional_groups(Settings()))


@pytest.mark.parametrize("group", CASES)
def test_alerts_fire_when_expected_with_their_annotations(promtool: str, tmp_path: Path, group: str) -> None:
    cases = readable(promtool, CASES[group])
    for number, text in enumerate([*firing_documents(FILES, cases), *annotation_documents(FILES, cases)]):
        path = tmp_path / f"{group}-{number}.yaml"
        path.write_text(text, encoding="utf-8")
        result = run(promtool, path)
        assert result.returncode == 0, result.stderr


def test_every_alert_has_firing_silent_and_annotation_cases() -> None:
    every_group = (*groups(Settings()), *optional_groups(Settings()))
    alerts = {alert.name for group in every_group for alert in group.alerts}
    cases = [case for some in CASES.values() for case in some]
    assert {case.alert for case in cases} == alerts
    assert sorted(case.alert for case in cases if case.expected is not None) == sorted(alerts)
    assert len({(case.alert, case.name) for case in cases}) == len(cases)
    for alert in alerts - {"Watchdog"}:
        assert any(labels for case in cases if case.alert == alert for labels in case.firing.values()), alert
        assert any(not any(case.firing.values()) for case in cases if case.alert == alert), alert


def test_the_end_of_an_outage_does_not_page_again(promtool: str, tmp_path: Path) -> None:
    """APIDown, which inhibits FetchErrorBudgetBurn, fires for as long as that one sees the outage in its window."""
    good, end, fetches_per_minute = 360, 360 + 160 + 90, 4  # six good hours; 20 factors, fetched every 5 minutes
    series: dict[str, str] = {}
    outages = range(50, 161, 10)
    for outage in outages:
        labels = {**service_cases.SERVICE, "account": f"{outage} minutes", **POD_A}
        failed = {"reason": "timeout"}
        series[name("twilio_verify_fetches_total", labels)] = f"0+{fetches_per_minute}x{end}"
        series[name("twilio_verify_fetch_failures_total", labels, failed)] = fetch_cases.phases(
            (0, good), (fetches_per_minute, outage), (0, end - good - outage)
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
            {  # Every outage raised both; in the longest, the burn alert outlived the outage.
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
    result = run(promtool, path)
    assert result.returncode == 0, result.stderr


# Exactly one alert per factor: every state that a factor's series can be in, all at once


STATES = list(
    itertools.product(
        ("", "0", "1"),  # verified
        ("", "0", "1"),  # exists
        (False, True),  # was seen verified
        ("", "-3600", "-68399", "-68400", "-68401", "-500000"),  # created; evaluated 3,600 s later
    )
)


def expected(verified: str, exists: str, was: bool, created: str) -> str:
    """Return the only alert of a factor in this state, as documented in docs/alerts.md."""
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
            # At minute 60, a factor created at -68,400 is exactly 20 hours old.
            wanted.append({"labels": name("", {"alertname": f"TwilioVerify{alert}"}, labels), "value": 1})
    assert len({each["labels"].split('"')[1] for each in wanted}) == 4
    factor_alerts = 'ALERTS{factor=~"factor-.+"}'
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            # Including pending ones, so that no further alert is about to fire.
            {
                "expr": f"count without (alertstate, severity) ({factor_alerts})",
                "eval_time": "60m",
                "exp_samples": wanted,
            },
            {"expr": f"count by (factor) ({factor_alerts}) > 1", "eval_time": "60m", "exp_samples": []},
        ],
    }
    path = tmp_path / "states.yaml"
    path.write_text(document(FILES, [test]), encoding="utf-8")
    result = run(promtool, path)
    assert result.returncode == 0, result.stderr
