"""A change of status and its evidence, from the API's response to the log, the page and the API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator


@pytest.mark.usefixtures("brisk")
async def test_a_change_of_status_says_which_response_caused_it(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    factor = simulator.add_factor()
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("payments", factor)],
        polling={"interval": "1m"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(60)
        await exporter.shows(lambda page: page.factor("verified", "payments") == 1)
        simulator.delete(factor.sid)
        clock.leap(60)
        await exporter.shows(lambda page: page.factor("exists", "payments") == 0)
        [record] = json.loads((await exporter.get("/api/v1/factors"))[1])["factors"]
        page = (await exporter.get(f"/factors/main/{factor.service_sid}/payments"))[1]

    [fields] = [line.__dict__["fields"] for line in caplog.records if line.getMessage() == "status changed"]
    request_id = fields["request_id"]
    assert (fields["from"], fields["to"]) == ("verified", "not_found")
    assert (fields["http_status"], fields["twilio_code"]) == (404, 20404)
    assert re.fullmatch(r"RQ[0-9a-f]{32}", request_id)
    assert {name: value for name, value in record.items() if name.startswith("last_change_")} == {
        "last_change_seconds": record["last_fetch_seconds"],
        "last_change_from": "verified",
        "last_change_to": "not_found",
        "last_change_http_status": 404,
        "last_change_twilio_code": 20404,
        "last_change_request_id": request_id,
    }
    assert record["last_fetch_request_id"] == request_id
    assert "HTTP 404, Twilio error 20404, request" in page
    assert page.count(request_id) == 2
