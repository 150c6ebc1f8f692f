"""Listings behind a gateway: links with another host and the identity in lower case, and a page that fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.support.config_files import write_config
from tests.support.misbehaving_servers import Wire, answer
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

SERVICE, IDENTITY, PUBLIC = "VA" + "5" * 32, "DD6840AEC-Ops-Team", "https://verify.twilio.com"
SIDS = [f"YF{number:032x}" for number in range(45)]


class Gateway:
    """Lists 45 factors on three pages; ``broken`` pages answer 503 as often as that says."""

    def __init__(self) -> None:
        self.broken: dict[int, int] = {}
        self.wire = Wire(self._respond)

    async def _respond(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self.wire.requests[-1].split()[1].decode())
        name = address.path.rpartition("/")[2]
        document: dict[str, object] = {"sid": name, "status": "verified", "factor_type": "totp"}
        if name == "Factors":
            size, page = (int(parse_qs(address.query).get(key, ["0"])[0]) for key in ("PageSize", "Page"))
            if self.broken.get(page, 0) > 0:
                self.broken[page] -= 1
                writer.write(answer(b"", status="503 Service Unavailable"))
                return
            link = f"{PUBLIC}{address.path.lower()}?PageSize={size}&Page={page + 1}&PageToken=PT{page + 1}"
            more = (page + 1) * size < len(SIDS)
            listed = [{"sid": sid} for sid in SIDS[page * size : (page + 1) * size]]
            document = {"factors": listed, "meta": {"next_page_url": link if more else None}}
        writer.write(answer(json.dumps(document).encode()))


async def test_every_factor_is_watched_whatever_the_links_say(tmp_path: Path, brisk: None) -> None:
    gateway, clock = Gateway(), LeapingClock()
    gateway.broken[1] = 1
    async with gateway.wire as wire:
        account = {
            "account_sid": "AC" + "1" * 32,
            "password": "a-password-of-the-gateway",
            "base_url": f"http://127.0.0.1:{wire.port}",
            "requests_per_second": 200,
        }
        entry = {"name": "ops", "service_sid": SERVICE, "identity": IDENTITY}
        polling = {"interval": "10m", "discovery_interval": "10m", "max_attempts": 1, "stale_after": 100}
        path = write_config(tmp_path / "config.toml", {"main": account}, (), polling=polling)
        lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
        path.write_text(
            path.read_text(encoding="utf-8") + "\n".join(["[[entities]]", *lines, ""]), encoding="utf-8"
        )
        async with running(path, clock=clock) as exporter:
            clock.leap(31)
            await exporter.shows(lambda page: page.value("twilio_verify_entity_failures_total") == 1)
            await exporter.shows(lambda page: page.value("twilio_verify_exporter_watchlist_factors") == 20)
            clock.leap(600)
            await exporter.shows(lambda page: page.value("twilio_verify_exporter_watchlist_factors") == len(SIDS))
            clock.leap(31)
            page = await exporter.shows(lambda page: page.counts()["verified"] == len(SIDS))
            assert page.value("twilio_verify_entity_failures_total") == 1
        requested = {request.split()[1].decode().partition("?")[0] for request in wire.requests}
        assert {path for path in requested if path.endswith("/Factors")} == {
            f"/v2/Services/{SERVICE}/Entities/{IDENTITY}/Factors"
        }
