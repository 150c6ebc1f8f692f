"""Secrets and identities: nowhere, whatever goes wrong and however much is logged."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import io
import json
import logging
import random
import ssl
from base64 import b64encode
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme

from exporter.config import load
from exporter.daemon.parts import client_of, default_transport, redactor_of
from exporter.logs.output import EventFormatter
from exporter.simulator import Fault, FaultKind, Simulator
from exporter.verify.transport import AttemptError, BoundedTransport
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.config import Config
    from exporter.daemon.daemon import Daemon
    from exporter.simulator import SimulatedFactor
    from exporter.watched import WatchedFactor

PASSWORD = "canaryPassword"
IDENTITY = "canaryIdentity"
CANARIES = (PASSWORD, IDENTITY, *(b64encode(f":{PASSWORD}"[offset:].encode())[:16].decode() for offset in range(3)))

FAULTS = (
    *(Fault(kind, seconds=0.05 if kind is FaultKind.DRIBBLE else None) for kind in FaultKind),
    *(Fault(FaultKind.STATUS, status=status) for status in (400, 404, 418, 500)),
)
REASONS = {
    *("timeout", "connect", "dns", "tls", "auth", "forbidden", "rate_limited"),
    *("bad_request", "server_error", "decode", "unknown_status"),
}
PAGES = (
    *("/metrics", "/", "/api/v1/factors", "/api/v1/accounts", "/config", "/-/ready", "/nowhere", "/metrics/x"),
    *("/probe?factor=main-fine", f"/probe?factor={IDENTITY}", f"/api/v1/factors?name={IDENTITY}"),
)


def leaks(text: str) -> list[str]:
    """Return the lines that show a canary."""
    return [line[:2000] for line in text.splitlines() if any(canary in line for canary in CANARIES)]


class Watchlist:
    """Factors of many accounts with an identity each, all of them at one simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self.entries: list[dict[str, object]] = []
        self._simulator = simulator
        self._rng = random.Random(5)

    def watch(self, account: str, name: str, fault: Fault | None = None) -> SimulatedFactor:
        """Watch one more factor, with a fault of its own; a redirect repeats the whole path."""
        identity = f"{IDENTITY}-{self._rng.getrandbits(64):016x}"
        factor = self._simulator.add_factor(identity=identity)
        self.entries.append(entry(name, factor, account=account))
        if fault is not None:
            location = (
                f"https://elsewhere.invalid/v2/Services/x/Entities/{identity}/Factors/{factor.sid}?{identity}"
            )
            redirect = location if fault.kind is FaultKind.REDIRECT else None
            self._simulator.faults.add(dataclasses.replace(fault, factor_sid=factor.sid, location=redirect))
        return factor


def watchlist_of(simulator: Simulator) -> list[dict[str, object]]:
    """Return entries that meet every fault there is."""
    watchlist = Watchlist(simulator)
    for number, fault in enumerate(FAULTS):
        watchlist.watch("main", f"main-{number}-{fault.kind}", fault)
    watchlist.watch("main", "main-fine")
    simulator.delete(watchlist.watch("main", "main-gone").sid)
    watchlist.watch("forbidden", "forbidden", Fault(FaultKind.STATUS, status=403))
    watchlist.watch("forbidden", "allowed")
    watchlist.watch("limited", "limited", Fault(FaultKind.STATUS, status=429, retry_after=0))
    for account in ("refused", "tls", "dns", "closed", "proxied"):
        for number in range(3):
            watchlist.watch(account, f"{account}-{number}")
    return watchlist.entries


def accounts_of(simulator: Simulator, unseen: Simulator, no_such_host: str) -> dict[str, dict[str, object]]:
    """Return an account for each way to reach, or not to reach, an API."""
    main = account_of(simulator, max_concurrency=6, requests_per_second=200)
    one = main | {"max_concurrency": 1}
    elsewhere = one | {"password": f"{PASSWORD}-of-nobody"}
    nowhere = elsewhere | {"base_url": f"https://{no_such_host}"}
    return {
        "main": main,
        "forbidden": one,
        "limited": one,
        "refused": one | {"password": f"{PASSWORD}-refused"},
        "tls": elsewhere | {"base_url": unseen.base_url},
        "dns": nowhere,
        "closed": elsewhere | {"base_url": "https://127.0.0.1:1"},
        "proxied": nowhere | {"proxy_url": f"http://somebody:{PASSWORD}-of-a-proxy%2F@127.0.0.1:1"},
    }


@pytest.mark.slow
async def test_neither_password_nor_identity_is_found_anywhere(
    tmp_path: Path, logged: Callable[..., io.StringIO], no_such_host: str
) -> None:
    simulator, unseen = Simulator(seed=11), Simulator(seed=12)
    simulator.password = f'{PASSWORD}-"quoted"\\back/slash+%41=='
    entries = watchlist_of(simulator)
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(certificate)
    async with simulator, contextlib.AsyncExitStack() as stack:
        await unseen.start(ssl_context=certificate)
        stack.push_async_callback(unseen.stop)
        path = write_config(
            tmp_path / "config.toml",
            accounts_of(simulator, unseen, no_such_host),
            entries,
            polling={"timeout": "5s", "max_attempts": 1, "interval": "10s"},
            web={"enable_probe": True},
        )
        config = load(path, environ={}, flags={})
        redact = redactor_of(config)
        log = logged(redact, level="debug")
        as_json, unguarded = logged_too(EventFormatter("json", redact)), logged_too(logging.Formatter())
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0  # every callback is slow: asyncio logs what it is

        clock = LeapingClock()
        async with running(config, clock=clock) as exporter:
            texts = [(await exporter.scrape()).text]
            clock.leap(30)
            ledger = exporter.daemon.engine.ledger
            fetched = len(entries) - 1  # the third factor of the refused account waits for the pause
            await becomes(lambda: sum(record.last_seconds is not None for record in ledger) >= fetched)
            page = await exporter.scrape()
            assert page.failures().keys() >= REASONS
            assert page.value("twilio_verify_credentials_valid", account="main") == 1
            texts += [page.text, (await exporter.scrape(openmetrics=True)).text]
            texts += [(await exporter.get(path_of_page))[1] for path_of_page in PAGES]
            texts += texts_of_daemon(exporter.daemon)
            # As a library does whose log level is debug.
            careless = logging.getLogger("a.careless.library")
            url = f"/v2/Services/{entries[0]['service_sid']}/Entities/{entries[0]['identity']}/Factors"
            careless.debug("GET %s with %s", url, simulator.password)
        texts += texts_of_config(config)
        texts += await texts_of_errors(config)

    assert leaks(unguarded.getvalue()), "what must not be shown was logged"
    for text in (log.getvalue(), as_json.getvalue(), *texts):
        assert leaks(text) == []
    for line in as_json.getvalue().splitlines():
        assert json.loads(line)["ts"]
    for line in log.getvalue().splitlines():
        assert line.startswith("ts=20")
        assert " logger=exporter" not in line or " exception=" not in line


def logged_too(formatter: logging.Formatter) -> io.StringIO:
    """Send the log to one more stream, in another form; the fixture ``logged`` ends that."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    return stream


def texts_of_daemon(daemon: Daemon) -> Iterator[str]:
    """Yield what Python makes of a daemon's parts."""
    parts: list[object] = [
        daemon,
        daemon.engine.poller,
        daemon.engine.ledger,
        daemon.telemetry,
        daemon.factors,
        daemon.engine.observers,
    ]
    for record in daemon.engine.ledger:
        parts += [record, record.watched, record.failure]
    for account in daemon.engine.poller.accounts.values():
        parts += [
            account,
            account.throttle,
            *vars(account._clients).values(),
            vars(account._clients._current.client),
        ]
    for part in parts:
        yield repr(part)
        yield str(part)


def texts_of_config(config: Config) -> Iterator[str]:
    """Yield what Python makes of a configuration and its parts."""
    settings = config.settings
    parts = (config, settings, *settings.accounts.values(), *config.passwords.values())
    for part in (*parts, *config.factors, config.warnings):
        yield repr(part)
        yield str(part)


async def texts_of_errors(config: Config) -> list[str]:
    """Return what the errors of the transports say, and how the log would write their causes."""
    formatter = EventFormatter("logfmt", redactor_of(config))
    clients = {name: client_of(config, name) for name in config.settings.accounts}
    transports = {
        name: BoundedTransport(default_transport(account), timeout_seconds=0.5)
        for name, account in config.settings.accounts.items()
    }

    async def texts_of(watched: WatchedFactor) -> list[str]:
        key = watched.key
        base_url = config.settings.accounts[key.account].base_url
        path = f"/v2/Services/{key.service_sid}/Entities/{watched.identity}/Factors/{key.factor_sid}"
        try:
            await transports[key.account].handle_async_request(httpx.Request("GET", base_url + path))
        except AttemptError as error:
            record = logging.LogRecord("exporter", logging.ERROR, "", 0, "", (), None)
            record.exc_info = (type(error), error, error.__traceback__)
            return [str(error), repr(error), error.detail, formatter.format(record)]
        return []

    found = await asyncio.gather(*(texts_of(watched) for watched in config.factors))
    for name, client in clients.items():
        await client.aclose()
        await transports[name].aclose()
    texts = [text for texts in found for text in texts]
    assert texts
    return texts


def show_identity(path: Path, simulator: Simulator, choice: str) -> Path:
    """Write a configuration that shows the identity of its one factor so."""
    factor = simulator.add_factor(identity=f"{IDENTITY}-0123456789")
    metrics = {"identity": choice}
    if choice == "hmac":
        (path / "key").write_bytes(b"k" * 40 + b"\n")
        metrics["identity_key_file"] = "key"
    return write_config(
        path / "config.toml", {"main": account_of(simulator)}, [entry("watched", factor)], metrics=metrics
    )


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
async def test_an_hmac_stands_for_the_identity(simulator: Simulator, tmp_path: Path, openmetrics: bool) -> None:
    async with running(show_identity(tmp_path, simulator, "hmac")) as exporter:
        page = await exporter.scrape(openmetrics=openmetrics)
        expected = hmac.new(b"k" * 40, f"{IDENTITY}-0123456789".encode(), hashlib.sha256).hexdigest()
        assert page.value("twilio_verify_factor_info", identity=expected) == 1
        assert page.text.count(expected) == 1
        for path in ("/metrics", "/", "/api/v1/factors"):
            _, text = await exporter.get(path)
            assert leaks(text) == []


async def test_a_plain_identity_stands_on_the_info_metric_alone(simulator: Simulator, tmp_path: Path) -> None:
    async with running(show_identity(tmp_path, simulator, "plain")) as exporter:
        page = await exporter.scrape()
        [line] = leaks(page.text)
        assert line.startswith("twilio_verify_factor_info{")
        assert page.value("twilio_verify_factor_info", identity=f"{IDENTITY}-0123456789") == 1
        for path in ("/", "/api/v1/factors"):
            _, text = await exporter.get(path)
            assert leaks(text) == [], "the page shows it to nobody"


async def test_without_a_choice_there_is_no_such_label(simulator: Simulator, tmp_path: Path) -> None:
    async with running(show_identity(tmp_path, simulator, "none")) as exporter:
        page = await exporter.scrape()
        [info] = page.samples("twilio_verify_factor_info")
        assert "identity" not in info.labels
