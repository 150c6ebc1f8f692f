"""CPU time of the client per request, by transport, with the server in a separate process.

The client, including decoding, is always the default one; only the transport differs.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
from typing import TYPE_CHECKING

import httpx

from benchmarks.report import table
from exporter.simulator import Simulator
from exporter.verify.client import VerifyClient
from exporter.verify.http1 import Http1Transport
from exporter.verify.outcome import Answer
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import aiohttp_transport, usual_authorities
from exporter.watched import FactorKey, WatchedFactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

CONCURRENCY = 20


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        simulator = Simulator()
        factor = simulator.add_factor()
        await simulator.start()
        pipe.send(
            (
                simulator.base_url,
                simulator.username,
                simulator.password,
                factor.service_sid,
                factor.identity,
                factor.sid,
            )
        )
        await asyncio.to_thread(pipe.recv)
        await simulator.stop()

    asyncio.run(serve())


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _cost(client: VerifyClient, watched: WatchedFactor, requests: int) -> float:
    """Return the mean CPU seconds per request at :data:`CONCURRENCY`."""
    left = requests

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            attempt = await client.fetch_factor(watched)
            if not isinstance(attempt.result, Answer):
                raise SystemExit(f"request failed: {attempt.result}")

    started = _cpu_seconds()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return (_cpu_seconds() - started) / requests


async def _measure(pipe: Connection, requests: int, rounds: int) -> str:
    base_url, username, password, service_sid, identity, factor_sid = pipe.recv()
    watched = WatchedFactor(FactorKey("main", service_sid, factor_sid), "factor", identity, 300.0)

    def client(inner: httpx.AsyncBaseTransport) -> VerifyClient:
        return VerifyClient(
            base_url=base_url,
            username=username,
            password=lambda: password,
            transport=BoundedTransport(inner, timeout_seconds=10.0),
        )

    transports: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
        "http1 (default)": lambda: Http1Transport(base_url=base_url, max_connections=CONCURRENCY, context=None),
        "aiohttp: httpx over aiohttp": lambda: aiohttp_transport(
            max_connections=CONCURRENCY, context=usual_authorities()
        ),
        "stock: httpx over httpcore": lambda: httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
        ),
        "no network: mock transport": lambda: httpx.MockTransport(
            lambda _request: httpx.Response(200, json={"sid": factor_sid, "status": "verified"})
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in transports}
    for _ in range(rounds):
        for name, make in transports.items():
            measured = client(make())
            await _cost(measured, watched, CONCURRENCY)  # opens the connections, which is not measured
            times[name].append(await _cost(measured, watched, requests))
            await measured.aclose()
    return table(f"CPU of the client per request, http, concurrency {CONCURRENCY}, {rounds} rounds", "µs", times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        print(asyncio.run(_measure(ours, arguments.requests, arguments.rounds)))
    finally:
        ours.send("stop")
        server.join(5)


if __name__ == "__main__":
    main()
