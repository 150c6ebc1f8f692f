"""``demo``, run as a user runs it, up to the signal that ends it."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.cli import demo
from exporter.exposition.catalogue import CATALOGUE
from exporter.simulator import Simulator
from tests.support.commands import status_of
from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.commands import Ran
    from tests.support.fixtures import Program

ROOT = Path(__file__).parents[2]
NAMES = {
    "payments-oncall-push",
    "billing-admin-totp",
    "support-lead-passkey",
    "new-hire-totp",
    "contractor-push",
    "finance-director-push",
    "warehouse-tablet-totp",
    "legacy-gateway-totp",
    "partner-portal-passkey",
}
ADDRESS = r"http://127\.0\.0\.1:[0-9]+"


@pytest.mark.slow
async def test_it_serves_metrics_within_seconds_and_ends_with_control_c() -> None:
    command = (sys.executable, "-W", "error", "-m", "exporter", "demo", "--web.listen-address=127.0.0.1:0")
    pipe = asyncio.subprocess.PIPE
    async with spawned(*command, stdout=pipe, stderr=pipe) as process, asyncio.timeout(PATIENCE_SECONDS):
        assert process.stdout is not None
        printed = [(await process.stdout.readline()).decode() for _ in range(4)]
        assert re.fullmatch(rf"metrics    {ADDRESS}/metrics\n", printed[0])
        assert re.fullmatch(rf"page       {ADDRESS}/\n", printed[1])
        assert re.fullmatch(rf"simulator  {ADDRESS}/\n", printed[2])
        metrics, page, simulator = (line.split()[1] for line in printed[:3])
        scrape = await answered_once(metrics)
        pages = [await asyncio.to_thread(read, url) for url in (page, simulator)]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    assert {sample.labels["factor"] for sample in scrape.samples("twilio_verify_factor_info")} == NAMES
    assert all(name in pages[0] for name in NAMES)
    assert pages[1].startswith("Simulator of the Twilio Verify API")
    assert process.returncode == 0
    assert b"Traceback" not in err
    assert not out or b"\xe2\x86\x92" in out  # nothing more than changes


async def answered_once(metrics: str) -> Scrape:
    """Scrape until one factor is known to be verified."""
    while True:
        scrape = Scrape(await asyncio.to_thread(read, metrics))
        if scrape.counts()["verified"]:
            return scrape
        await asyncio.sleep(0.1)


def read(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
        text: str = answer.read().decode()
    return text


def demo_until(
    monkeypatch: pytest.MonkeyPatch, speed: float, *conditions: Callable[[str], object]
) -> tuple[int, str]:
    """Run the demo until its output meets the conditions one after the other; return its status and its output.

    The simulator's time passes ``speed`` times as fast.
    """
    began = time.time()
    accelerated = functools.partial(Simulator, clock=lambda: began + speed * (time.time() - began))
    monkeypatch.setattr(demo, "Simulator", accelerated)
    output, ended = io.StringIO(), threading.Event()
    monkeypatch.setattr(sys, "stdout", output)

    def met(condition: Callable[[str], object]) -> object:
        return ended.is_set() or condition(output.getvalue())

    def beside() -> None:
        for condition in conditions:
            wait_for(functools.partial(met, condition))
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        status = status_of("demo", "--web.listen-address", "127.0.0.1:0")
    finally:
        ended.set()
        thread.join()
    return status, output.getvalue()


def test_every_change_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = demo_until(monkeypatch, 60, lambda output: output.count("→") >= 3)
    changes = [line for line in output.splitlines() if "→" in line]
    assert status == 0
    assert len(changes) >= 3
    for change in changes:
        found = re.fullmatch(r"[0-2][0-9]:[0-5][0-9]:[0-5][0-9]  ([a-z-]+): ([a-z]+) → ([a-z]+)", change)
        assert found is not None, change
        assert found[1] in NAMES
        assert {found[2], found[3]} <= {"verified", "unverified", "deleted"}


NOT_SHOWN = {
    "twilio_verify_exporter_watchlist_source_up": "the demo has no watchlist URL",
    "twilio_verify_exporter_watchlist_source_last_success_timestamp_seconds": "the demo has no watchlist URL",
}


@pytest.mark.slow
def test_every_metric_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {family.name for family in CATALOGUE} - set(NOT_SHOWN)
    missing = set(wanted)

    def scrape(output: str) -> bool:
        text = read(output.split()[1])
        shown = set(re.findall(r"^([a-z_]+?)(?:_bucket)?[{ ]", text, re.MULTILINE))
        missing.intersection_update(wanted - shown)
        assert shown.isdisjoint(NOT_SHOWN)
        return not missing

    # Twice as fast: the last metric comes with a 404 for a deleted factor.
    status, _ = demo_until(monkeypatch, 2, lambda output: "metrics" in output, scrape)

    assert (status, missing) == (0, set())


def wait_for(holds: Callable[[], object]) -> None:
    latest = time.monotonic() + PATIENCE_SECONDS
    while not holds() and time.monotonic() < latest:
        time.sleep(0.02)


def test_a_port_in_use_is_one_line(call: Callable[..., Ran]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = call("demo", "--web.listen-address", address)

    assert (ran.status, ran.out) == (64, "")
    assert ran.err == (
        f"verify-factor-exporter demo: {address}: the port is in use; stop the program that uses it, "
        "or set another with --web.listen-address\n"
    )


def make_demo(program: Program, address: str) -> list[str]:
    """Return the words of the command that ``make demo`` runs."""
    make = program("make", install="apt-get install make")
    status, out, _ = asyncio.run(output_of(make, "-n", "demo", f"LISTEN={address}", cwd=ROOT))
    assert status == 0
    [command] = [line for line in out.decode().splitlines() if " -m exporter " in line]
    return shlex.split(command.partition(" -m exporter ")[2])


def test_make_demo_names_its_own_variable_for_a_port_in_use(call: Callable[..., Ran], program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = call(*make_demo(program, address))

    assert (ran.status, ran.out) == (64, "")
    assert ran.err == (
        f"verify-factor-exporter demo: {address}: the port is in use; stop the program that uses it, "
        "or set another with LISTEN=HOST:PORT\n"
    )


def test_make_demo_names_its_own_variable_for_an_invalid_address(
    call: Callable[..., Ran], program: Program
) -> None:
    ran = call(*make_demo(program, "nowhere"))

    assert ran.status == 64
    assert ran.err.startswith('verify-factor-exporter demo: LISTEN=HOST:PORT: "nowhere" has no port; ')


def test_an_invalid_address_is_one_line(call: Callable[..., Ran]) -> None:
    ran = call("demo", "--web.listen-address", "nowhere")

    assert (ran.status, ran.out) == (64, "")
    assert ran.err.startswith('verify-factor-exporter demo: --web.listen-address[0]: "nowhere" has no port; ')
    assert ran.err.count("\n") == 1
