"""Client secrets and access tokens: nowhere, however the token endpoint behaves and however much is logged."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from exporter.config import load
from exporter.daemon.parts import Confidential
from exporter.logs.output import EventFormatter
from exporter.simulator import Endpoint, Fault, FaultKind
from tests.daemon.test_canary import PAGES, logged_too, texts_of_config, texts_of_daemon
from tests.support.config_files import app_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from exporter.polling.token import AccessToken
    from exporter.simulator import Simulator

SECRET = "canary+Client/Secret=%41"
FAULTS = tuple(
    Fault(kind, operation=Endpoint.TOKEN, seconds=0.05 if kind is FaultKind.DRIBBLE else None)
    for kind in (
        FaultKind.STATUS,
        FaultKind.HTML,
        FaultKind.REDIRECT,
        FaultKind.BAD_JSON,
        FaultKind.GARBAGE,
        FaultKind.RESET_IN_BODY,
        FaultKind.CLOSE_IN_BODY,
        FaultKind.HUGE_BODY,
        FaultKind.BAD_GZIP,
    )
)


def more_token_requests(simulator: Simulator) -> Callable[[], bool]:
    """Return whether the simulator got another request for a token since now."""
    before = simulator.calls.by_operation()["token"]
    return lambda: simulator.calls.by_operation()["token"] != before


def another_token(token: AccessToken, known: tuple[str, ...]) -> Callable[[], bool]:
    return lambda: token.value not in ("", *known)


def saved(folder: Path) -> list[str]:
    """Return what the exporter saved beside its configuration."""
    files = [file for file in folder.iterdir() if file.name not in ("secret", "config.toml")]
    assert files
    return [file.read_text() for file in files]


@pytest.mark.slow
@pytest.mark.usefixtures("brisk")
async def test_neither_client_secret_nor_token_is_found_anywhere(
    simulator: Simulator, tmp_path: Path, logged: Callable[..., io.StringIO]
) -> None:
    simulator.oauth.client_secret = SECRET
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(4)]
    (tmp_path / "secret").write_text(SECRET)
    accounts = {
        "main": app_of(simulator, client_secret=None, client_secret_file="secret"),
        "refused": app_of(simulator, client_secret=f"{SECRET}-of-nobody"),
        "proxied": app_of(simulator, token_url="https://oauth.invalid/token") | {"proxy_url": "http://127.0.0.1:1"},
    }
    path = write_config(
        tmp_path / "config.toml",
        accounts,
        [of | {"account": "main"} for of in entries]
        + [entry(account, simulator.add_factor()) | {"account": account} for account in ("refused", "proxied")],
        polling={"timeout": "5s", "interval": "2s"},
        web={"enable_probe": True},
        state={"file": "state.jsonl"},
    )
    config = load(path, environ={}, flags={})
    confidential = Confidential(config)
    log = logged(confidential.redactor, level="debug")
    as_json = logged_too(EventFormatter("json", confidential.redactor))
    unguarded = logged_too(logging.Formatter())
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0  # every callback is slow: asyncio logs what it is
    clock, issued, texts = LeapingClock(), [], list[str]()
    async with running(config, clock=clock, confidential=confidential) as exporter:
        await exporter.shows(lambda page: page.counts()["verified"] == 4)
        tokens = exporter.daemon.engine._tokens
        issued.append(tokens["main"].value)
        for fault in FAULTS:
            simulator.faults.add(fault)
            clock.leap(120)
            simulator.oauth.revoke()
            await becomes(more_token_requests(simulator))
            texts += [(await exporter.get(page))[1] for page in PAGES]
            simulator.faults.clear()
            clock.leap(120)
            await becomes(another_token(tokens["main"], tuple(issued)))
            issued.append(tokens["main"].value)
        careless = logging.getLogger("a.careless.library")
        careless.debug("POST client_secret=%s", SECRET)
        careless.debug("got %s for %r", issued[-1], {"Authorization": f"Bearer {issued[-1]}"})
        texts += [(await exporter.get(page))[1] for page in (*PAGES, "/api/v1/openapi.json")]
        texts += [(await exporter.scrape(openmetrics=True)).text]
        texts += texts_of_daemon(exporter.daemon)
        for name, account in exporter.daemon.engine.poller.accounts.items():
            keeper = account._tokens
            parts = keeper, keeper.token, vars(account._clients._current.client)["_tokens"]
            texts += [repr(part) for part in (*parts, tokens[name])]
        assert (await exporter.scrape()).value("twilio_verify_credentials_valid", account="refused") == 0
        assert (await exporter.scrape()).failures().keys() >= {"auth", "connect"}
    texts += texts_of_config(config)
    texts += saved(tmp_path)
    canaries = {SECRET, "canary%2BClient", "canary+Client", *issued, *(token.split(".")[1] for token in issued)}
    assert any(canary in unguarded.getvalue() for canary in canaries), "what must not be shown was logged"
    for text in (log.getvalue(), as_json.getvalue(), *texts):
        shown = [line[:2000] for line in text.splitlines() if any(canary in line for canary in canaries)]
        assert shown == []
