"""Notifications on their way to a phone: the title, and a server that can't be reached or refuses them."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.running_exporter import becomes
from tools.stack.push import pushing, title_of
from tools.stack.receiver import Notification

LABELS = {"severity": "critical", "factor": "payments-oncall-push"}
ANNOTATIONS = {"description": "What happened.", "runbook_url": "https://example.org/runbooks/NAME.md"}


def notification(*, status: str = "firing", alerts: int = 1, labels: dict[str, str] | None = None) -> Notification:
    message: dict[str, Any] = {
        "status": status,
        "groupLabels": {"alertname": "TwilioVerifyFactorRegressed"},
        "commonLabels": LABELS if labels is None else labels,
        "alerts": [{"annotations": ANNOTATIONS}] * alerts,
    }
    return Notification("payments-pager", message, 0.0)


@pytest.mark.parametrize(
    ("given", "title"),
    [
        (notification(), "critical TwilioVerifyFactorRegressed payments-oncall-push"),
        (notification(status="resolved"), "resolved TwilioVerifyFactorRegressed payments-oncall-push"),
        (notification(alerts=3, labels={"severity": "critical"}), "critical TwilioVerifyFactorRegressed, 3 alerts"),
    ],
)
def test_the_title_says_what_happened(given: Notification, title: str) -> None:
    assert title_of(given) == title


async def test_a_server_that_refuses_it_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    async with TestServer(web.Application()) as server, pushing(str(server.make_url("/topic"))) as push:
        push(notification())
        printed = await reported(capsys)
    assert printed.startswith("stack: not pushed: 404")


async def test_a_server_that_cannot_be_reached_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    async with pushing("http://127.0.0.1:1/topic") as push:
        push(notification())
        printed = await reported(capsys)
    assert printed.startswith("stack: not pushed: Cannot connect to host 127.0.0.1:1")


async def reported(capsys: pytest.CaptureFixture[str]) -> str:
    """Wait for a line on standard error, and return it."""
    printed = ""

    def arrived() -> bool:
        nonlocal printed
        printed += capsys.readouterr().err
        return printed.endswith("\n")

    await becomes(arrived)
    return printed
