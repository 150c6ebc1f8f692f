"""No content of names, labels, answers or errors breaks the exposition or the API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.config.values import parse_name, without_empty
from exporter.exposition.factors import FactorSamples
from exporter.exposition.page import exposition_of
from exporter.polling.record import FactorRecord
from exporter.verify.outcome import Failure, Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from exporter.web.history import Fetch, Latest
from exporter.web.views import view
from tests.support.scrape import Scrape
from tests.support.served_exporter import SERVICE_SID, VERIFIED, entries, serving

if TYPE_CHECKING:
    from pathlib import Path

EVIL = (
    '"} 1\nevil{a="',
    "<script>alert(1)</script>",
    "\\",
    "\\n",
    'x"',
    "a\u2028b\u2029c\x85d",
    "# HELP evil\n# EOF\n",
    "\u0301" * 100,
    "\U0010ffff\ufeff\ufffe",
    "\u200f\u2066\u202e",
    "𝕏" * 128,
    "' OR 1=1; --",
    "{{7*7}}${7*7}",
    "../../etc/passwd",
    "\0\x1b[31m\r\n",
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)  # all that UTF-8 can encode


def is_a_name(text: str) -> bool:
    try:
        return parse_name(text) == text
    except ValueError:
        return False


NAMES = [text for text in EVIL if is_a_name(text)]


@given(name=TEXTS, label=TEXTS, detail=TEXTS, request_id=TEXTS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@example(name=EVIL[0], label=EVIL[0], detail=EVIL[0], request_id=EVIL[0])
@example(name=EVIL[6], label=EVIL[6], detail=EVIL[6], request_id=EVIL[6])
def test_any_text_stays_inside_its_value(name: str, label: str, detail: str, request_id: str) -> None:
    """Stricter than the configuration and the client, which refuse most of this before it gets here."""
    labels = tuple(without_empty({"team": label}).items())
    key = FactorKey("main", SERVICE_SID, "YF" + "0" * 32)
    record = FactorRecord(WatchedFactor(key, name, "identity-0001", 60.0, labels=labels))
    record.status, record.up = Status.VERIFIED, False
    record.factor_type, record.entity_sid = name, label
    record.failure, record.attempts = Failure(Reason.DECODE, detail), 1
    record.last_seconds = 1.0
    for openmetrics in (False, True):
        text = exposition_of(FactorSamples(), record, openmetrics=openmetrics).decode()
        page = Scrape(text, openmetrics=openmetrics)
        [verified] = page.samples("twilio_verify_factor_verified")
        assert (verified.value, verified.labels["factor"], verified.labels.get("team", "")) == (1, name, label)
        [info] = page.samples("twilio_verify_factor_info")
        assert info.labels["factor_type"] == name
        assert "evil" not in page
    fetch = Fetch(1.0, Status.VERIFIED, "", 200, 0.2, 1, request_id)
    shown = json.loads(json.dumps(view(record, Latest(fetch, fetch)).as_json()))
    assert (shown["factor"], shown["labels"], shown["last_failure"]) == (name, dict(labels), detail or "decode")
    assert shown["last_fetch_request_id"] == shown["last_change_request_id"] == (request_id or None)


async def test_evil_names_labels_and_errors_are_served_as_they_are(tmp_path: Path) -> None:
    watched = [
        {**entry, "labels": {"team": NAMES[number % len(NAMES)]}}
        for number, entry in enumerate(entries(*NAMES, "plain"))
    ]
    async with serving(tmp_path, watched, web={"enable_probe": True}) as running:
        for number, name in enumerate(NAMES):
            detail = EVIL[number % len(EVIL)]
            failures = [Failure(Reason.SERVER_ERROR, detail)] if number % 2 else []
            running.apply(name, VERIFIED, *failures)
        for accept in ("text/plain", "application/openmetrics-text"):
            scrape = Scrape((await running.request("/metrics", Accept=accept)).text, openmetrics="open" in accept)
            shown = {sample.labels["factor"]: sample for sample in scrape.samples("twilio_verify_factor_verified")}
            assert shown.keys() == set(NAMES)
            for name in NAMES:
                assert shown[name].labels["team"] == name
        document = json.loads((await running.request("/api/v1/factors")).text)
        assert {factor["factor"] for factor in document["factors"]} == {*NAMES, "plain"}
        assert {factor["last_failure"] for factor in document["factors"]} - {None} == {
            EVIL[number % len(EVIL)] for number in range(len(NAMES)) if number % 2
        }
        for number, name in enumerate(NAMES):
            if number % 2 == 0:  # a fresh answer
                reply = await running.request(f"/probe?{urlencode({'factor': name})}")
                assert reply.status == 200
                assert Scrape(reply.text).factor("verified", name) == 1
