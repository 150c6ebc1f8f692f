"""Posting alerts to an Alertmanager, in the format that Prometheus uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

Alert = dict[str, str]

COMMON = {"cluster": "main", "job": "verify-factor-exporter"}
ACCOUNT = COMMON | {"account": "main"}
SERVICE = ACCOUNT | {"service_sid": "VA" + "1" * 32}


def alert(name: str, severity: str = "critical", **labels: str) -> Alert:
    """Return the labels of one of this project's alerts."""
    return {"alertname": f"TwilioVerify{name}", "severity": severity} | labels


async def post(session: aiohttp.ClientSession, url: str, *alerts: Alert) -> None:
    """Post these alerts as firing, from now on for an hour."""
    now = datetime.now(UTC)
    body = [
        {
            "labels": labels,
            "annotations": {
                "summary": f"{labels['alertname']} is firing",
                "description": f"It is about {labels.get('factor', 'all')}.",
                "runbook_url": f"https://runbooks.example/{labels['alertname']}",
                "dashboard_url": f"https://grafana.example/d/{labels['alertname']}",
            },
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }
        for labels in alerts
    ]
    async with session.post(f"{url}/api/v2/alerts", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def known_alerts(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """Return the alerts in an Alertmanager, with state and receivers."""
    async with session.get(f"{url}/api/v2/alerts") as answer:
        found: list[dict[str, Any]] = await answer.json()
    return found
