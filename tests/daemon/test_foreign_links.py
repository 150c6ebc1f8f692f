"""Listings behind a gateway: links with another host and the identity in lower case, and pages that fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.config_files import append_entries, write_config
from tests.support.misbehaving_servers import Wire, answer
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from tests.support.running_exporter import Exporter

SERVICE, IDENTITY, PUBLIC = "VA" + "5" * 32, "DD6840AEC-Ops-Team", "https://verify.twilio.com"
ENTITIES_ON_A_PAGE = 2


def sids_of(entity: int, count: int) -> list[str]:
    return [f"YF{entity:016x}{number:016x}" for number in range(count)]


# Capitals, no capitals, only digits, capitals that end on another page, and one without factors.
FACTORS = {
    IDENTITY: sids_of(0, 45),
    "lower-case-0001": sids_of(1, 2),
    "0123456789": sids_of(2, 1),
    "UPPER-CASE-0001": sids_of(3, 21),
    "Nobody-Enrolled": [],
}
ALL = sum(map(len, FACTORS.values()))


class Gateway:
    """Knows these entities and factors by exactly these paths, and lists them on pages that only tokens lead to.

    ``broken`` pages, by the last part of their path and their number, answer 503 as often as that says.
    """

    def __init__(self) -> None:
        self.broken: dict[tuple[str, int], int] = {}
        self.wire = Wire(self._respond)

    async def _respond(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self.wire.requests[-1].split()[1].decode())
        query = {name: given[-1] for name, given in parse_qs(address.query).items()}
        match address.path.removeprefix(f"/v2/Services/{SERVICE}").split("/"):
            case ["", "Entities"]:
                listed = [{"sid": f"YE{at:032x}", "identity": of} for at, of in enumerate(FACTORS)]
                writer.write(self._page("entities", listed, ENTITIES_ON_A_PAGE, address.path, query))
            case ["", "Entities", identity, "Factors"] if identity in FACTORS:
                listed = [{"sid": sid, "factor_type": "totp"} for sid in FACTORS[identity]]
                writer.write(self._page("factors", listed, int(query["PageSize"]), address.path, query))
            case ["", "Entities", identity, "Factors", sid] if sid in FACTORS.get(identity, ()):
                writer.write(answer(json.dumps({"sid": sid, "status": "verified"}).encode()))
            case _:
                missing = {"code": 20404, "message": "not found", "more_info": "", "status": 404}
                writer.write(answer(json.dumps(missing).encode(), status="404 Not Found"))

    def _page(self, key: str, listed: list[dict[str, str]], size: int, path: str, query: dict[str, str]) -> bytes:
        page = int(query.get("PageToken", "PT0").removeprefix("PT"))
        if self.broken.get((key, page), 0) > 0:
            self.broken[key, page] -= 1
            return answer(b"", status="503 Service Unavailable")
        link = f"{PUBLIC}{path.lower()}?PageSize={size}&Page={page + 1}&PageToken=PT{page + 1}"
        meta = {"key": key, "next_page_url": link if (page + 1) * size < len(listed) else None}
        return answer(json.dumps({key: listed[page * size : (page + 1) * size], "meta": meta}).encode())

    def listed(self) -> set[str]:
        """Return the paths of the lists that were requested, without their queries."""
        requested = {request.split()[1].decode().partition("?")[0] for request in self.wire.requests}
        return {path for path in requested if path.endswith(("/Factors", "/Entities"))}


def config_of(folder: Path, gateway: Gateway, array: str, entry: dict[str, str], *, every: str = "10m") -> Path:
    account = {
        "account_sid": "AC" + "1" * 32,
        "password": "a-password-of-the-gateway",
        "base_url": f"http://127.0.0.1:{gateway.wire.port}",
        "requests_per_second": 200,
    }
    polling = {"interval": "10m", "discovery_interval": every, "max_attempts": 1, "stale_after": 100}
    path = write_config(folder / "config.toml", {"main": account}, (), polling=polling)
    return append_entries(path, array, {"name": "ops", "service_sid": SERVICE, **entry})


async def watches(exporter: Exporter, count: int) -> None:
    await exporter.shows(lambda page: page.value("twilio_verify_exporter_watchlist_factors") == count)


async def test_every_factor_of_an_entity_is_watched_whatever_the_links_say(tmp_path: Path, brisk: None) -> None:
    gateway, clock = Gateway(), LeapingClock()
    gateway.broken["factors", 1] = 1
    async with gateway.wire:
        path = config_of(tmp_path, gateway, "entities", {"identity": IDENTITY})
        async with running(path, clock=clock) as exporter:
            clock.leap(31)
            await exporter.shows(lambda page: page.value("twilio_verify_entity_failures_total") == 1)
            await watches(exporter, 20)
            clock.leap(600)
            await watches(exporter, 45)
            clock.leap(31)
            page = await exporter.shows(lambda page: page.counts()["verified"] == 45)
            assert page.value("twilio_verify_entity_failures_total") == 1
        assert gateway.listed() == {f"/v2/Services/{SERVICE}/Entities/{IDENTITY}/Factors"}


@pytest.mark.slow
@pytest.mark.parametrize("broken", [("entities", 1), ("factors", 1)])
async def test_every_factor_of_a_service_is_watched_whatever_the_links_say(
    tmp_path: Path, brisk: None, broken: tuple[str, int]
) -> None:
    gateway, clock = Gateway(), LeapingClock()
    gateway.broken[broken] = 1
    async with gateway.wire:
        path = config_of(tmp_path, gateway, "services", {}, every="2s")  # it is spread over real time
        async with running(path, clock=clock) as exporter:
            await exporter.shows(lambda page: page.value("twilio_verify_entity_failures_total") == 1)
            await watches(exporter, ALL)
            clock.leap(31)
            page = await exporter.shows(lambda page: page.counts()["verified"] == ALL)
            assert page.value("twilio_verify_entity_failures_total") == 1
            assert page.value("twilio_verify_service_entities") == len(FACTORS)
            names = {sample.labels["factor"] for sample in page.samples("twilio_verify_factor_verified")}
            assert all(name.startswith("ops-") for name in names)
            assert not [identity for identity in FACTORS if identity.lower() in str(page).lower()]
        lists = f"/v2/Services/{SERVICE}/Entities"
        assert gateway.listed() == {lists, *(f"{lists}/{identity}/Factors" for identity in FACTORS)}
