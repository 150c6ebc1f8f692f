"""FactorFetchFailing against the real schedule and ledger: when it fires for factors of different intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.exposition.catalogue import FACTOR_INTERVAL, FACTOR_LAST_SUCCESS, FACTOR_UP
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.schedule import Schedule
from exporter.verify.outcome import Answer, Failure, Outcome, Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from tests.rules.test_promtool import FILES
from tests.support.rules.cases import POD_A, document, name, run
from tests.support.rules.service_cases import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.external

FAMILIES = (FACTOR_INTERVAL, FACTOR_LAST_SUCCESS, FACTOR_UP)
BROKEN = 65 * 60.0  # every factor has been answered by then
MINUTES = 300
GOOD, BAD = Outcome(Answer(Status.VERIFIED), 0.2), Outcome(Failure(Reason.DECODE, "HTTP 404"), 0.2)
FIRING = 'ALERTS{alertname="TwilioVerifyFactorFetchFailing", alertstate="firing"}'


def polled(
    factor: str, interval: float, answer: Callable[[float, int], Outcome]
) -> tuple[dict[str, str], list[float]]:
    """Poll a factor by the ledger and the schedule; return its series by minute, and when its fetches failed.

    ``answer`` gets the time and the number of fetches that failed before.
    """
    key = FactorKey("main", SERVICE["service_sid"], factor)
    ledger, schedule = Ledger(LedgerPolicy()), Schedule[FactorKey]()
    record = ledger.watch(WatchedFactor(key, factor, "identity", interval))
    schedule.add(key, 0.0, interval, 30.0)
    failed: list[float] = []
    values: dict[str, list[str]] = {family.name: [] for family in FAMILIES}
    for minute in range(MINUTES):
        while (due := schedule.waiting(key)) is not None and due < minute * 60:
            outcome = answer(due, len(failed))
            if outcome is BAD:
                failed.append(due)
            list(schedule.pop_due(due))
            ledger.apply(key, outcome, Moment(due, due))
            schedule.put_back(key, due, record.interval_seconds)
        for family in FAMILIES:
            values[family.name].append(_text(family.value(record)))
    labels = (SERVICE, {"factor": factor}, POD_A)
    return {name(family, *labels): " ".join(texts) for family, texts in values.items()}, failed


def _text(value: float | None) -> str:
    return "_" if value is None else f"{value:.3f}"


def firing(promtool: str, folder: Path, series: dict[str, str], at: dict[int, Sequence[str]]) -> str:
    """Check which factors' alerts fire at given minutes; return promtool's objections."""
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count by (factor) ({FIRING})",
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": name("", {"factor": each}), "value": 1} for each in factors],
            }
            for minute, factors in at.items()
        ],
    }
    path = folder / "timing.yaml"
    path.write_text(document(FILES, [test]), encoding="utf-8")
    result = run(promtool, path)
    return "" if result.returncode == 0 else result.stderr


@pytest.mark.parametrize("interval", [60.0, 300.0, 3600.0])
def test_a_factor_that_keeps_failing_fires_after_its_second_failed_fetch(
    promtool: str, tmp_path: Path, interval: float
) -> None:
    series: dict[str, str] = {}
    silent: dict[int, list[str]] = {}
    latest, names = 0.0, [f"factor-{number}" for number in range(12)]
    for factor in names:
        own, failed = polled(factor, interval, lambda now, _: BAD if now > BROKEN else GOOD)
        series |= own
        # One scrape and one evaluation of a minute each; five minutes in which the last good sample still counts.
        latest = max(latest, failed[0] + 22 * 60, failed[1] + 17 * 60 if interval > 900 else 0.0)
        silent.setdefault(int(failed[1] // 60), []).append(factor)

    at: dict[int, Sequence[str]] = {int(latest // 60) + 1: names, MINUTES - 1: names}
    assert firing(promtool, tmp_path, series, at) == ""
    for minute, factors in silent.items():  # at its second failure, no factor's alert fires yet
        own = {each: values for each, values in series.items() if any(f'"{factor}"' in each for factor in factors)}
        assert firing(promtool, tmp_path, own, {minute: []}) == ""


@pytest.mark.parametrize("interval", [60.0, 300.0, 3600.0])
def test_one_failed_fetch_is_no_alert(promtool: str, tmp_path: Path, interval: float) -> None:
    series: dict[str, str] = {}
    for number in range(40):
        own, failed = polled(
            f"factor-{number}", interval, lambda now, failures: BAD if now > BROKEN and not failures else GOOD
        )
        assert len(failed) == 1
        series |= own

    assert firing(promtool, tmp_path, series, {minute: [] for minute in range(MINUTES)}) == ""
