"""An hour of a thousand factors, in virtual time, through the real objects."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.support.factors import factors
from tests.support.polling_harness import PollingHarness
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from exporter.watched import FactorKey

COUNT = 1_000
INTERVAL = 60.0
WARM_UP = 120.0


async def an_hour() -> PollingHarness:
    env = PollingHarness(factors(COUNT, services=3, interval=INTERVAL), rate=50, concurrency=4)
    await env.run(3_600, and_each=lambda: env.poller.check_budgets() if round(env.now) % 10 == 0 else None)
    await env.poller.drain(8)
    return env


@pytest.mark.slow
def test_an_hour_of_a_thousand_factors() -> None:
    env = run_virtual(an_hour())
    calls = env.client.calls
    requested: defaultdict[FactorKey, list[float]] = defaultdict(list)
    for call in calls:
        requested[call.key].append(call.began)

    assert len(requested) == COUNT
    assert {len(moments) for moments in requested.values()} <= {59, 60, 61}
    assert max(moments[0] for moments in requested.values()) <= 32  # 30 s, a dispatch and the wait for a slot
    assert min(moments[-1] for moments in requested.values()) >= 3_600 - INTERVAL - 2
    gaps = [b - a for moments in requested.values() for a, b in itertools.pairwise(moments)]
    assert max(gaps) <= INTERVAL + 2
    cadence = [b - a for moments in requested.values() for a, b in itertools.pairwise(moments[1:])]
    assert min(cadence) >= INTERVAL - 2  # the first gap is shorter: first fetches are early

    lags = sorted(lag for _, lag in env.observed.lags)
    assert len(lags) == len(calls)
    assert lags[math.ceil(0.99 * len(lags))] < 1.5

    warm = [call.began for call in calls if call.began >= WARM_UP]
    seconds = Counter(int(began) for began in warm)
    mean = len(warm) / (3_600 - WARM_UP)
    assert abs(mean - COUNT / INTERVAL) < 0.1
    assert max(seconds.values()) <= 2.5 * mean
    assert env.client.most_in_a_second() <= 50

    # What is due in one tick leaves together, as far as the slots go: few wake-ups, each for several requests.
    bursts = Counter(round(began, 3) for began in warm)
    assert len(bursts) < len(warm) / 2
    on_the_tick = sum(count for began, count in bursts.items() if began % 1 < 0.002)
    assert on_the_tick >= 0.9 * 4 * (3_600 - WARM_UP)

    assert env.observed.budgets == []
    assert len(env.observed.fetches) == len(calls)
    assert env.throttle.in_flight == 0
