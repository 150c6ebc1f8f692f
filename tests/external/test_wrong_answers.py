"""404s that Twilio never sent, or sent once by mistake, page nobody; a deleted factor or service is one page.

Simulators, exporters as processes, Prometheus with the shipped rules, and Alertmanager with the shipped routes.
Each wait and interval is a thirtieth of what is shipped, as in :mod:`tests.external.test_paging`.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest

from exporter.simulator import Fault, FaultKind, Simulator
from tests.external.test_alertmanager import VERSIONS
from tests.external.test_paging import (
    FACTORS,
    JOB,
    TIMES,
    ServedExporter,
    Watched,
    binaries_of,
    exporter,
    seen_by,
    start_stack,
    watched,
)
from tests.support.running_exporter import until
from tools.stack.programs import port_or_free

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fixtures import Program as Finder

pytestmark = pytest.mark.external

# The shipped intervals, shortened like all waits; but a missing factor's is longer than FactorMissing waits, so
# that nothing but the repeated fetch of a factor that has just become missing can correct a mistake in time.
INTERVALS = {"interval": "10s", "unverified_interval": "2s", "not_found_interval": "40s"}
OUTAGE_SECONDS = 300 / TIMES
GATEWAY, MISTAKE, DELETED = JOB, "of-one-wrong-404", "of-a-deleted-service"
# What may be said of the gateway: that requests fail, not that factors are gone.
FAILURES = {"TwilioVerifyAPIDown", "TwilioVerifyFetchErrorBudgetBurn"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_only_what_is_deleted_is_a_page_and_one(
    program: Finder, newer_program: Finder, tmp_path: Path, version: str
) -> None:
    binaries = binaries_of(version, program, newer_program)
    async with AsyncExitStack() as stack:
        worlds = {
            job: watched(tmp_path / job, await stack.enter_async_context(Simulator(seed=number)), INTERVALS)
            for number, job in enumerate((GATEWAY, MISTAKE, DELETED))
        }
        session = await stack.enter_async_context(aiohttp.ClientSession())
        exporters = {job: await exporter(stack, world, port_or_free()) for job, world in worlds.items()}
        await asyncio.gather(*(seen_by(session, each) for each in exporters.values()))
        targets = {job: [each.address] for job, each in exporters.items()}
        place = await start_stack(stack, session, tmp_path, binaries, targets)
        for job in worlds:
            await see_in_prometheus(place, f'count(factor:twilio_verify_factor:last_known_state{{job="{job}"}})')

        await let_answers_be_wrong(place, worlds)
        for job, world in worlds.items():
            await see_in_prometheus(place, f'sum(twilio_verify_factors{{job="{job}", status="verified"}})')
            if job == DELETED:
                world.simulator.delete_service(world.factors[0][1].service_sid)
            else:
                world.simulator.delete(deleted_factor(world)[1])
        # By the time that these are pages, every alert about the wrong answers would be one, too.
        deleted = {(job, deleted_factor(world)[0]) for job, world in worlds.items() if job != DELETED}
        missing = await until(functools.partial(missing_pages, place), lambda pages: pages >= deleted)
        of_the_service = functools.partial(place.states, "TwilioVerifyFactorMissing", job=DELETED)
        states = await until(of_the_service, lambda states: len(states) == FACTORS)

    pages = Counter(
        (page.receiver, page.alertname) for page in place.receiver.firing() if page.alertname not in FAILURES
    )
    assert pages.pop(("dead-mans-service", "TwilioVerifyWatchdog")) > 1
    assert pages == {
        ("payments-pager", "TwilioVerifyFactorMissing"): len(deleted),
        ("ops-pager", "TwilioVerifyServiceMissing"): 1,
    }
    assert missing == deleted
    assert states == ["suppressed"] * FACTORS


async def let_answers_be_wrong(place: ServedExporter, worlds: dict[str, Watched]) -> None:
    """Let a gateway answer 404 in HTML in Twilio's place for a while, and Twilio itself once by mistake."""
    gateway, mistake = worlds[GATEWAY].simulator, worlds[MISTAKE].simulator
    gateway.faults.add(Fault(FaultKind.HTML, status=404))
    mistake.faults.add(Fault(status=404, factor_sid=worlds[MISTAKE].factors[3][1].sid, times=1))
    await asyncio.sleep(OUTAGE_SECONDS)
    # Not earlier: a fetch just before the outage and the next one just after it would leave a factor out for good.
    await see_in_prometheus(place, f'sum(twilio_verify_fetch_failures_total{{job="{GATEWAY}", reason="decode"}})')
    gateway.faults.clear()
    for change in ('from="verified", to="not_found"', 'from="not_found", to="verified"'):
        count = f'sum(twilio_verify_factor_status_changes_total{{job="{MISTAKE}", {change}}})'
        await until(functools.partial(place.value, count), lambda changes: changes == 1)


async def see_in_prometheus(place: ServedExporter, expression: str) -> None:
    """Wait until a count is that of all factors, or more."""
    await until(functools.partial(place.value, expression), lambda count: count is not None and count >= FACTORS)


def deleted_factor(world: Watched) -> tuple[str, str]:
    """Return the name and the SID of the factor that is deleted in the end."""
    name, factor, _ = world.factors[1]
    return name, factor.sid


async def missing_pages(place: ServedExporter) -> set[tuple[str, str]]:
    """Return the job and the name of every factor that was reported missing."""
    return {
        (alert["labels"]["job"], alert["labels"]["factor"])
        for page in place.receiver.firing(alertname="TwilioVerifyFactorMissing")
        for alert in page.alerts
    }
