"""How long factors have no status while pods are replaced: real exporters, in the order of Kubernetes.

``python -m tests.support.rollouts`` measures every change with the default intervals, for about four minutes, and
writes the table of docs/kubernetes.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from exporter.simulator import Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.proofs.reliability_page import with_section
from tests.support.running_exporter import Process, until
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
SECTION = "rollouts"
FACTORS = 60
_SHOWN = "/metrics?name[]=twilio_verify_factor_verified&name[]=twilio_verify_factors"
_ROUND_SECONDS = 0.05


class Pods:
    """Pods, each a process, and what rounds of scrapes of all of them show.

    ``absent`` are the factors whose status a round didn't show, ``gaps`` the longest time between two rounds that
    did, by factor; ``owner`` is the pod that showed a factor first. With ``claims``, a pod keeps its state.
    """

    def __init__(self, config: Path, names: Iterable[str], *, claims: bool) -> None:
        self._config, self._names, self._claims = config, frozenset(names), claims
        self._pods: dict[str, Process] = {}
        self._stacks: dict[str, contextlib.AsyncExitStack] = {}
        self._rounds, self._failure = 0, ""
        self._missing = self._names
        self._last: dict[str, float] = {}
        self.gaps: dict[str, float] = {}
        self.absent: set[str] = set()
        self.owner: dict[str, str] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, config: Path, names: Iterable[str], *, claims: bool) -> AsyncIterator[Pods]:
        """Scrape until the end of the block, where every pod is killed."""
        pods = cls(config, names, claims=claims)
        scrapes = asyncio.create_task(pods._scrape_all())
        scrapes.add_done_callback(pods._ended)
        try:
            yield pods
        finally:
            scrapes.cancel()
            await asyncio.gather(*(stack.aclose() for stack in pods._stacks.values()))

    async def start(self, name: str, shard: str = "0/1") -> None:
        """Start a pod and wait until it listens."""
        state = self._config.with_name(f"{name}.jsonl")
        environ = {"POD_NAME": name} | ({"VERIFY_EXPORTER_STATE__FILE": str(state)} if self._claims else {})
        stack = contextlib.AsyncExitStack()
        process = Process.run(self._config, "--shard", shard, environ=environ)
        self._pods[name] = await stack.enter_async_context(process)
        self._stacks[name] = stack

    async def ready(self, name: str) -> None:
        """Wait until a pod is ready, and a round of scrapes showed what it watches."""
        pod = self._pods[name]
        await until(lambda: pod.status("/-/ready"), lambda status: status == 200)
        await pod.shows(lambda page: page.counts().get("unknown") == 0)
        await self.round()

    async def stop(self, name: str) -> None:
        """Stop a pod by SIGTERM, as the kubelet does."""
        pod = self._pods[name]
        pod.signal(signal.SIGTERM)
        assert await pod.ended() == 0, pod.log
        del self._pods[name]
        await self.round()  # one that still tries to scrape it
        await self._stacks.pop(name).aclose()

    async def replace(self, name: str, shard: str = "0/1") -> None:
        """Stop a pod, start the next one of this name, and wait until it is ready."""
        await self.stop(name)
        await self.start(name, shard)
        await self.ready(name)

    async def begin(self) -> None:
        """Wait until every factor has a status, and count from now on."""
        await self.complete()
        self.gaps, self.absent = dict.fromkeys(self._names, 0.0), set()

    async def complete(self) -> None:
        """Wait for a round that shows every factor."""
        await self.round()
        await until(self.round, lambda missing: not missing)

    async def round(self) -> frozenset[str]:
        """Wait for the end of a round of scrapes that begins now; return the factors that it didn't show."""
        wanted = self._rounds + 2

        async def rounds() -> int:
            assert not self._failure
            return self._rounds

        await until(rounds, lambda ended: ended >= wanted)
        return self._missing

    def _ended(self, scrapes: asyncio.Task[None]) -> None:
        self._failure = "" if scrapes.cancelled() else repr(scrapes.exception())

    async def _scrape_all(self) -> None:
        while True:
            shown: set[str] = set()
            for name, pod in list(self._pods.items()):
                with contextlib.suppress(aiohttp.ClientError):  # the pod has just ended
                    page = Scrape((await pod.get(_SHOWN))[1])
                    for sample in page.samples("twilio_verify_factor_verified"):
                        factor = sample.labels["factor"]
                        shown.add(factor)
                        self.owner.setdefault(factor, name)
            now = time.monotonic()
            for factor in shown:
                self.gaps[factor] = max(self.gaps.get(factor, 0.0), now - self._last.get(factor, now))
                self._last[factor] = now
            self._missing = self._names - shown
            self.absent |= self._missing
            self._rounds += 1
            await asyncio.sleep(_ROUND_SECONDS)


async def _one(pods: Pods) -> None:
    await pods.start("exporter-0")
    await pods.ready("exporter-0")
    await pods.begin()


async def recreate(pods: Pods) -> None:
    """Replace the only pod: the old one ends first."""
    await _one(pods)
    await pods.replace("exporter-0")


async def roll(pods: Pods) -> None:
    """Replace the only pod: the old one ends when the new one is ready."""
    await _one(pods)
    await pods.start("exporter-new")
    await pods.ready("exporter-new")
    await pods.stop("exporter-0")


async def _shards(pods: Pods, count: int) -> None:
    names = [f"exporter-{ordinal}" for ordinal in range(count)]
    await asyncio.gather(*(pods.start(name, f"auto/{count}") for name in names))
    await asyncio.gather(*(pods.ready(name) for name in names))
    await pods.begin()


async def add_a_shard(pods: Pods) -> None:
    """Set replicaCount from 2 to 3: the new pod comes first, then the others are replaced from the last down."""
    await _shards(pods, 2)
    await pods.start("exporter-2", "auto/3")
    await pods.ready("exporter-2")
    await pods.replace("exporter-1", "auto/3")
    await pods.replace("exporter-0", "auto/3")


async def remove_a_shard(pods: Pods) -> None:
    """Go from 3 to 2 shards in the documented order: the pod that is left over goes at the end."""
    await _shards(pods, 3)
    await pods.replace("exporter-0", "auto/2")
    await pods.replace("exporter-1", "auto/2")
    await pods.stop("exporter-2")


async def remove_in_one_step(pods: Pods) -> None:
    """Set replicaCount from 3 to 2: the last pod goes first, then the others are replaced from the last down."""
    await _shards(pods, 3)
    await pods.stop("exporter-2")
    await pods.replace("exporter-1", "auto/2")
    await pods.replace("exporter-0", "auto/2")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of pods: its row of the table, and which factors must never be without a status.

    ``moves`` tells whether factors move between pods, ``gapless`` whether those that move, or all if none does,
    have a status in every round.
    """

    row: str
    run: Callable[[Pods], Awaitable[None]]
    claims: bool = True
    moves: bool = False
    gapless: bool = False


CHANGES = {
    "rolling": Change("one pod is replaced, `emptyDir` and the default strategy", roll, claims=False, gapless=True),
    "recreate": Change("one pod is replaced, `emptyDir` and `Recreate`", recreate, claims=False),
    "claim": Change("one pod is replaced, `persistentVolumeClaim`", recreate),
    "add": Change("2 shards become 3", add_a_shard, moves=True, gapless=True),
    "remove": Change("3 shards become 2, as described", remove_a_shard, moves=True, gapless=True),
    "one step": Change("3 shards become 2 in one step, against the description", remove_in_one_step, moves=True),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Which factors moved between pods, which ones were absent from a round, and the longest gap of each."""

    moved: frozenset[str]
    absent: frozenset[str]
    gaps: Mapping[str, float]

    def longest(self, *, moved: bool) -> float | None:
        """Return the longest gap of the factors that moved, or of the others; 0 if none was absent."""
        some = {factor for factor in self.gaps if (factor in self.moved) == moved}
        if not some:
            return None
        return max((self.gaps[factor] for factor in some & self.absent), default=0.0)


async def measure(change: Change, folder: Path, simulator: Simulator, **polling: object) -> Result:
    """Run a change with exporters that watch verified factors of the simulator, until every factor has a status."""
    entries = [entry(f"factor-{n}", simulator.add_factor(identity=f"identity-{n:06d}")) for n in range(FACTORS)]
    accounts = {"main": account_of(simulator, requests_per_second=1000)}
    config = write_config(folder / "config.toml", accounts, entries, polling=polling)
    async with Pods.of(config, [str(each["name"]) for each in entries], claims=change.claims) as pods:
        await change.run(pods)
        before, absent = pods.owner, frozenset(pods.absent)
        await pods.complete()
        gaps = dict(pods.gaps)
        pods.owner = {}
        await pods.round()
        moved = {factor for factor in before if pods.owner[factor] != before[factor]} if change.moves else set()
        return Result(frozenset(moved), frozenset(absent | pods.absent), gaps)


def table(results: Mapping[str, Result]) -> str:
    """Return the rows of the table in docs/kubernetes.md."""

    def cell(seconds: float | None) -> str:
        return "–" if seconds is None else "none" if seconds == 0 else f"{math.ceil(seconds)} s"

    lines = ["| change | longest gap of factors that stay | of factors that move |", "|---|---|---|"]
    for name, result in results.items():
        cells = [cell(result.longest(moved=moved)) for moved in (False, True)]
        lines.append(f"| {CHANGES[name].row} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def _measure_all() -> dict[str, Result]:
    results = {}
    for name, change in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            async with Simulator() as simulator:
                results[name] = await measure(change, Path(folder), simulator, interval="5m")
        print(name, results[name].longest(moved=False), results[name].longest(moved=True), flush=True)
    return results


if __name__ == "__main__":
    rows = table(asyncio.run(_measure_all()))
    PAGE.write_text(with_section(PAGE.read_text("utf-8"), SECTION, rows), encoding="utf-8")
