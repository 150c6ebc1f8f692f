"""A daemon that serves HTTP and polls nothing: the test applies the outcomes of fetches."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from gzip import decompress as gunzip
from typing import TYPE_CHECKING

import aiohttp
import httpx

from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.polling.clock import Clock, Moment
from exporter.verify.outcome import Answer, Failure, Outcome, Status
from tests.support.api_description import Description
from tests.support.config_files import write_config
from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from pathlib import Path

    from multidict import CIMultiDictProxy

    from exporter.config import AccountSettings
    from exporter.watched import FactorKey

ACCOUNT_SID = "AC" + "0" * 32
SERVICE_SID = "VA" + "c3" * 16
IDENTITY = "identity-of-a-person"
REQUEST_ID = "RQ" + "1" * 32

VERIFIED = Answer(Status.VERIFIED, 1_700_000_000.0, 1_700_000_060.0, "push", "YE" + "0" * 32)
UNVERIFIED = Answer(Status.UNVERIFIED, 1_700_000_000.0, 1_700_000_060.0, "totp", "YE" + "0" * 32)
NOT_FOUND = Answer(Status.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer; its body is as received."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class ServedExporter:
    """A served daemon, and a client that adds no headers and decompresses nothing."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.url = daemon.server.addresses[0]
        self._session = session
        self._description = Description(daemon.engine.config.settings.web.telemetry_path)

    async def request(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        """Send one request, and check the answer against its description; in header names _ stands for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(
            method, self.url + path, headers=sent, data=body, allow_redirects=False
        ) as answer:
            reply = Reply(answer.status, answer.headers, await answer.read())
        body = gunzip(reply.body) if reply.headers.get("Content-Encoding") == "gzip" else reply.body
        kind = reply.headers.get("Content-Type", "")
        assert self._description.contradiction(method, path, reply.status, kind, body) is None
        return reply

    def key(self, name: str) -> FactorKey:
        """Return the key of a factor."""
        return next(record.watched.key for record in self.daemon.engine.ledger if record.watched.name == name)

    def apply(self, name: str, *results: Answer | Failure, **details: float) -> None:
        """Apply the results of fetches of a factor, in order."""
        self.apply_to(self.key(name), *results, **details)

    def apply_to(
        self,
        key: FactorKey,
        *results: Answer | Failure,
        ago_seconds: float = 0.0,
        duration_seconds: float = 0.212,
        attempts: float = 1,
        code: float = 200,
        twilio_code: float = 0,
    ) -> None:
        """Apply the results of fetches of a factor, in order; code 0 stands for none."""
        now = self.daemon.engine.clock.moment()
        record = self.daemon.engine.ledger[key]
        for result in results:
            outcome = Outcome(
                result,
                duration_seconds,
                int(attempts),
                int(code) or None,
                REQUEST_ID,
                twilio_code=int(twilio_code) or None,
            )
            then = Moment(now.wall - ago_seconds, now.steady - ago_seconds)
            change = self.daemon.engine.ledger.apply(key, outcome, then)
            self.daemon.engine.observers.fetched(record, outcome, change)


def entries(*names: str, **keys: object) -> list[dict[str, object]]:
    """Return the entries of a watchlist for factors of these names."""
    return [
        {
            "name": name,
            "account": "main",
            "service_sid": SERVICE_SID,
            "identity": IDENTITY,
            "factor_sid": f"YF{number:032x}",
            **keys,
        }
        for number, name in enumerate(names, 1)
    ]


def stopped() -> Clock:
    """Return a clock that stands still, so that ages on a page are exact."""
    return Clock(lambda: 1_800_000_000.0, lambda: 1000.0)


def nobody(_account: AccountSettings) -> httpx.AsyncBaseTransport:
    """Return a transport that is never used and cheap to create."""
    return httpx.MockTransport(lambda request: httpx.Response(500, request=request))


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    factors: Iterable[Mapping[str, object]] = (),
    *,
    clock: Clock | None = None,
    accounts: Iterable[str] = ("main",),
    **tables: Mapping[str, object],
) -> AsyncIterator[ServedExporter]:
    """Serve the pages of a daemon with this watchlist."""
    account = {"account_sid": ACCOUNT_SID, "password": "made-up", "base_url": "http://127.0.0.1:1"}
    polling = {"interval": "5m", "unverified_interval": "1m", **tables.pop("polling", {})}
    names = dict.fromkeys(accounts, account)
    path = write_config(folder / "config.toml", names, factors, polling=polling, **tables)
    read = functools.partial(load, path, environ={}, flags={})
    daemon = Daemon(read(), load=read, clock=clock, transport=nobody)
    await daemon.server.start(daemon.engine.config.settings.web.listen_address)
    daemon.engine.roster.list(daemon.engine.config.factors)
    daemon.readiness.start()
    try:
        async with aiohttp.ClientSession(
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS),
        ) as session:
            yield ServedExporter(daemon, session)
    finally:
        await daemon.engine.poller.drain(0)
        await daemon.server.stop()
